/** Ten thousand random drifts of every engine in one run, each found and put back. */
import "./support/load_libc.ts";
import { repairDrifts } from "./support/drift_repair.ts";

// Engines load libraries when they first need them.
Deno.test("Ten thousand random drifts of every engine are found and put back", {
  sanitizeResources: false,
}, () => {
  const [seed] = crypto.getRandomValues(new Uint32Array(1)) as unknown as [number];
  console.log(`seed ${seed}`);
  console.log(repairDrifts(10_000, seed));
});
