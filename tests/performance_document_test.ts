import { deepEqual, match } from "node:assert/strict";
import { performanceText, readyRows } from "../scripts/bench/lib/performance_document.ts";

const ready = {
  version: "1.36.3",
  figures: [
    { name: "alone", ready: [1000, 1100, 1200, 1300, 1400] },
    { name: "meshed", ready: [1010, 1110, 1210, 1310, 1510] },
  ],
};

Deno.test("what is added until Ready is told by median, p99 and mean with its error", () => {
  deepEqual(readyRows(ready), [
    ["alone", "1200 ms", "1400 ms", "-", "-"],
    ["meshed", "1210 ms", "1510 ms", "10 ms, 110 ms", "30 ms ± 111 ms"],
  ]);
});

Deno.test("the document has every figure of the run", () => {
  const figures = [10, 12].map((time, i) => ({
    name: `state ${i}`,
    add: [time],
    del: [time / 2],
    burst: [time],
    burstSeconds: time / 10,
    rates: [{ width: 1, perSecond: 100 / time }],
  }));
  const text = performanceText({
    figures,
    turns: 1,
    atOnce: 1,
    versions: "containerd 2",
    processors: 2,
    memory: { agent: "50" },
    ready,
  });
  match(text, /^\| state 1 +\| 12\.0 ms +\| 2\.0 ms, 2\.0 ms/m);
  match(text, /Kubernetes 1\.36\.3, .* 5 pods of each kind/s);
  match(text, /^\| meshed \| 1210 ms/m);
});
