/** Parts of documents that are made from declarations in the code, between two marks. */

/**
 * Replaces the part between a document's marks.
 *
 * @param document Text of the document.
 * @param by Path of the script that makes the part, as the marks name it.
 * @param part The part, with a line end at its end.
 * @throws {Error} when the marks are not there.
 */
export function withPart(document: string, by: string, part: string): string {
  const begin = `<!-- made by ${by}: begin -->`;
  const from = document.indexOf(begin);
  const to = document.indexOf(`<!-- made by ${by}: end -->`);
  if (from < 0 || to < from) throw new Error(`The document lacks the marks of ${by}`);
  return `${document.slice(0, from)}${begin}\n\n${part}\n${document.slice(to)}`;
}

/** Formats rows as a Markdown table. */
export function tableText(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |\n`).join("");
}
