/** docs/doctor.md and the findings as they are declared and made. */
import { deepEqual, equal } from "node:assert/strict";
import { doctorDocument, withFindings } from "../scripts/doctor_docs.ts";
import { catalogue } from "../installer/doctor/catalogue.ts";

const rowsOf = (text: string) =>
  text.split("\n").filter((line) => line.startsWith("| `"))
    .map((line) => line.split("|").map((cell) => cell.trim()).join("|"));

Deno.test("docs/doctor.md has each finding as it is declared, and no other", () => {
  const document = Deno.readTextFileSync(doctorDocument);
  deepEqual(rowsOf(document), rowsOf(withFindings(document)));
});

Deno.test("each declared finding is made somewhere, and tried by a test", () => {
  const folder = new URL("../installer/doctor/", import.meta.url);
  const sources = Array.from(Deno.readDirSync(folder), ({ name }) => name)
    .filter((name) => name !== "catalogue.ts")
    .map((name) => Deno.readTextFileSync(new URL(name, folder))).join("\n");
  const tests = ["doctor_test.ts", "doctor_command_test.ts"]
    .map((name) => Deno.readTextFileSync(new URL(name, import.meta.url))).join("\n");
  const codes = Object.keys(catalogue);
  // Their codes are put together from the subject, or stand in a pod's verdict.
  const made = (code: string) =>
    sources.includes(`"${code}"`) || /^(token|authority)-unreadable$/.test(code);
  deepEqual(codes.filter((code) => !made(code)), []);
  const tried = codes.filter((code) => tests.includes(`"${code}"`));
  equal(
    codes.filter((code) => !code.startsWith("pod-")).filter((c) => !tried.includes(c)).join(),
    "",
  );
});
