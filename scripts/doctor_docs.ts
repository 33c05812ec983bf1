/**
 * Writes the tables of findings of `docs/doctor.md` from their declarations:
 * `deno run -A scripts/doctor_docs.ts`. A test holds the file to it.
 */
import { catalogue } from "../installer/doctor/catalogue.ts";
import { tableText, withPart } from "./document.ts";

/** The document. */
export const doctorDocument = new URL("../docs/doctor.md", import.meta.url);

/** Returns the document with its table. */
export function withFindings(document: string): string {
  const rows = Object.entries(catalogue).map(([code, { subject, grade, means }]) => [
    `\`${code}\``,
    subject,
    grade,
    means,
  ]);
  const table = tableText(["Finding", "About", "Grade", "Meaning"], rows);
  return withPart(document, "scripts/doctor_docs.ts", table);
}

if (import.meta.main) {
  Deno.writeTextFileSync(doctorDocument, withFindings(Deno.readTextFileSync(doctorDocument)));
}
