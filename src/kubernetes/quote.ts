/** Puts what a peer has sent into a message, cut short: its author is not trusted. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
