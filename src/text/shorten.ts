/** Keeps what others wrote from filling messages and logs. */

/** Cuts a text, with a mark where something is missing. */
export function shorten(text: string, most: number): string {
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
