/** docs/doctor.md and the findings as they are declared and made. */
import { deepEqual } from "node:assert/strict";
import { doctorDocument, withFindings } from "../scripts/doctor_docs.ts";

const rowsOf = (text: string) =>
  text.split("\n").filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").map((cell) => cell.trim()).join("|"));

Deno.test("docs/doctor.md has each finding as it is declared, and no other", () => {
  const document = Deno.readTextFileSync(doctorDocument);
  deepEqual(rowsOf(document), rowsOf(withFindings(document)));
});
