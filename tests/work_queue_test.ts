/** The store and the queue of a controller. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { ObjectStore } from "../src/kubernetes/object_store.ts";
import { WorkQueue } from "../src/kubernetes/work_queue.ts";

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

Deno.test("a store knows the objects of a group, also after they moved and went", () => {
  interface Item {
    readonly name: string;
    readonly node?: string;
  }
  const changes: string[] = [];
  const store = new ObjectStore<Item>(
    { keyOf: ({ name }) => name, groupOf: ({ node }) => node },
    (before, after) => changes.push(`${before?.node ?? "-"} ${after?.node ?? "-"}`),
  );
  const names = (group: string) => [...store.group(group)].map(({ name }) => name);
  store.put({ name: "a", node: "n1" });
  store.put({ name: "b", node: "n1" });
  store.put({ name: "c" });
  deepEqual(names("n1"), ["a", "b"]);
  store.put({ name: "a", node: "n2" });
  deepEqual([names("n1"), names("n2")], [["b"], ["a"]]);
  store.replace([{ name: "a", node: "n3" }]);
  deepEqual([names("n1"), names("n2"), names("n3"), store.size], [[], [], ["a"], 1]);
  store.delete({ name: "gone" });
  deepEqual(changes, ["- n1", "- n1", "- -", "n1 n2", "n1 -", "- -", "n2 n3"]);
});

Deno.test("a key waits once, is worked on by one worker, and again when it came meanwhile", async () => {
  const running = new Map<string, number>();
  const done: string[] = [];
  let most = 0;
  const queue = new WorkQueue(async (key) => {
    running.set(key, (running.get(key) ?? 0) + 1);
    equal(running.get(key), 1, `${key} is worked on twice at the same time`);
    most = Math.max(most, [...running.values()].filter((count) => count > 0).length);
    await pause(10);
    running.set(key, 0);
    done.push(key);
    return undefined;
  }, { workers: 3 });
  for (let round = 0; round < 10; round++) {
    for (const key of ["a", "b", "c", "d", "e"]) queue.add(key);
  }
  await pause(200);
  equal(most, 3);
  // The first three began before the second round, so they are looked at once more.
  deepEqual(done.toSorted(), ["a", "a", "b", "b", "c", "c", "d", "e"]);
  await queue.stop();
});

Deno.test("a key that fails comes back later and later, and not at all after the end", async () => {
  const times: number[] = [];
  const waits: number[] = [];
  const queue = new WorkQueue(
    () => {
      times.push(performance.now());
      return times.length < 5 ? Promise.reject(new Error("no")) : Promise.resolve(undefined);
    },
    { firstRetryMilliseconds: 20, longestRetryMilliseconds: 80 },
    (_, __, wait) => waits.push(wait),
  );
  queue.add("a");
  await pause(600);
  equal(times.length, 5);
  for (const [i, most] of [20, 40, 80, 80].entries()) {
    ok(waits[i]! <= most && waits[i]! >= most / 2, `wait ${i}: ${waits[i]}`);
  }
  queue.addAfter("a", 10);
  queue.addAfter("a", 5000);
  await pause(100);
  equal(times.length, 6, "of two times the earlier one counts");
  queue.addAfter("a", 10);
  await queue.stop();
  queue.add("a");
  await pause(50);
  equal(times.length, 6);
});
