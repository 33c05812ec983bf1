import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { inLanes, runsAlone } from "../scripts/test_lanes.ts";

/** Does the work of some items, whose names tell how many turns of the loop it takes. */
async function run(items: string[], lanes: number, fails?: string) {
  const begun: string[] = [], running = new Set<string>();
  const beside = new Map<string, number>();
  await inLanes(items, { lanes, isAlone: (item) => item.startsWith("alone") }, async (item) => {
    begun.push(item);
    running.add(item);
    for (const one of running) beside.set(one, Math.max(beside.get(one) ?? 0, running.size));
    for (let turn = 0; turn < 5; turn++) await Promise.resolve();
    running.delete(item);
    if (item === fails) throw new Error(`${item} fails`);
  }).catch((error) => {
    throw Object.assign(error, { begun });
  });
  return { begun, beside };
}

Deno.test("lanes: all is done, in order, as many at once as there are lanes", async () => {
  const { begun, beside } = await run(["a", "b", "c", "d", "e"], 2);
  deepEqual(begun, ["a", "b", "c", "d", "e"]);
  deepEqual(Math.max(...beside.values()), 2);
  const one = await run(["a", "b", "c"], 1);
  deepEqual([...one.beside.values()], [1, 1, 1]);
  deepEqual((await run([], 2)).begun, []);
});

Deno.test("lanes: what must be alone runs at the end, and nothing beside it", async () => {
  const { begun, beside } = await run(["alone-1", "a", "alone-2", "b", "c"], 3);
  deepEqual(begun, ["a", "b", "c", "alone-1", "alone-2"]);
  equal(beside.get("alone-1"), 1);
  equal(beside.get("alone-2"), 1);
  equal(beside.get("a"), 3);
});

Deno.test("lanes: after a failure of the work itself nothing else is begun", async () => {
  await rejects(
    run(["a", "b", "c", "d", "alone"], 2, "a"),
    (error: Error & { begun: string[] }) => {
      equal(error.message, "a fails");
      deepEqual(error.begun, ["a", "b"]);
      return true;
    },
  );
});

Deno.test("lanes: a file says with its reason that it runs alone", () => {
  ok(runsAlone("import x;\n// Runs alone: it counts all BPF programs of the kernel.\n"));
  ok(!runsAlone("// Runs alone:\n"));
  ok(!runsAlone('const text = "// Runs alone: no";\n'));
});
