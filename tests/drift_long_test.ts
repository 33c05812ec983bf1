/** Ten thousand random drifts, each found and put back. */
import "./support/load_libc.ts";
import { repairDrifts } from "./support/drift_repair.ts";

for (let part = 1; part <= 10; part++) {
  Deno.test(`Random drifts are found and put back, part ${part} of 10`, () =>
    repairDrifts(1000, 100 + part));
}
