/** The text and the chart of docs/performance.md, made of what a run has measured (pure). */
import type { ReadyRun } from "./ready_in_cluster.ts";
import { quantile } from "./table.ts";

/** What was measured in one state of the node; times in milliseconds. */
export interface PodFigures {
  readonly name: string;
  /** RunPodSandbox, one pod after the other. */
  readonly add: number[];
  /** StopPodSandbox, one pod after the other. */
  readonly del: number[];
  /** RunPodSandbox of pods that start at once. */
  readonly burst: number[];
  /** Until the last of them had started. */
  burstSeconds: number;
  /** Pods that start in a second, by how many start at a time. */
  readonly rates: { readonly width: number; readonly perSecond: number }[];
}

/** What the document says. */
export interface PodRun {
  readonly figures: readonly PodFigures[];
  readonly turns: number;
  readonly atOnce: number;
  readonly versions: string;
  readonly processors: number;
  /** Memory in MiB, by whose it is. */
  readonly memory: Readonly<Record<string, string>>;
  readonly ready: ReadyRun;
}

const median = (values: readonly number[]) => quantile(values, 0.5);
const late = (values: readonly number[]) => quantile(values, 0.99);
const ms = (value: number) => `${value.toFixed(1)} ms`;

/** The mean of some values, and its standard error. */
function meanOf(values: readonly number[]): { readonly mean: number; readonly error: number } {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return { mean, error: Math.sqrt(squares / Math.max(1, values.length - 1) / values.length) };
}

/** Rows of the table of pods in a cluster: what each kind takes until Ready, and adds to the first. */
export function readyRows({ figures }: ReadyRun): string[][] {
  const [base] = figures;
  if (base === undefined) throw new RangeError("Nothing was measured");
  const first = meanOf(base.ready);
  return figures.map((one) => {
    const { mean, error } = meanOf(one.ready);
    const both = Math.hypot(error, first.error);
    const rounded = (value: number) => `${value.toFixed(0)} ms`;
    return [
      one.name,
      rounded(median(one.ready)),
      rounded(late(one.ready)),
      ...(one === base ? ["-", "-"] : [
        `${rounded(median(one.ready) - median(base.ready))}, ${
          rounded(late(one.ready) - late(base.ready))
        }`,
        `${rounded(mean - first.mean)} ± ${rounded(both)}`,
      ]),
    ];
  });
}

/** What a state adds to the first one, in the median and in the 99th percentile. */
function addedTo(
  base: PodFigures,
  one: PodFigures,
  key: "add" | "del",
): { readonly median: number; readonly late: number } {
  return {
    median: median(one[key]) - median(base[key]),
    late: late(one[key]) - late(base[key]),
  };
}

/** Returns the Markdown of the document. */
export function performanceText(run: PodRun): string {
  const [base] = run.figures;
  if (base === undefined) throw new RangeError("Nothing was measured");
  const added = (one: PodFigures, key: "add" | "del") => {
    if (one === base) return "-";
    const { median, late } = addedTo(base, one, key);
    return `${ms(median)}, ${ms(late)}`;
  };
  const table = (rows: readonly (readonly string[])[]) =>
    rows.map((row, i) =>
      `| ${row.join(" | ")} |` + (i === 0 ? `\n|${row.map(() => " --- |").join("")}` : "")
    ).join("\n");
  const rows = run.figures.map((one) => [
    one.name,
    ms(median(one.add)),
    added(one, "add"),
    ms(median(one.del)),
    added(one, "del"),
  ]);
  const bursts = run.figures.map((one) => [
    one.name,
    `${one.burstSeconds.toFixed(1)} s`,
    ms(median(one.burst)),
    ms(late(one.burst)),
  ]);
  const widths = base.rates.map(({ width }) => String(width));
  const rates = run.figures.map((
    one,
  ) => [one.name, ...one.rates.map(({ perSecond }) => perSecond.toFixed(1))]);
  return `# Performance

What the plugin adds to the life of a pod in a real container runtime. Written by one run of
\`deno task bench pods\` (root), with ${run.versions}, on ${run.processors} processors. Compare
figures of one run, not milliseconds of two machines.

Each state of the node has a containerd, a bridge and an API server of its own; they are asked turn
by turn, so that a busy moment meets all alike. "Full plugin" is a node whose runtime starts the
whole program for each call (\`SHIM=false\`), "shim with agent" the default, where install-cni
answers. A meshed pod gets its rules for both families. Of the pods that start at once and of those
that are counted per second, the run looks whether an IPv4 connection is captured as it should be.

![Added milliseconds](pictures/performance.svg)

## One pod after the other

${run.turns} pods of each kind; RunPodSandbox and StopPodSandbox as kubelet asks for them, and what
is added to the first line in the median and the 99th percentile.

${
    table([
      ["", "start, median", "added: median, p99", "stop, median", "added: median, p99"],
      ...rows,
    ])
  }

## ${run.atOnce} pods at once

${table([["", "until the last one", "each, median", "each, p99"], ...bursts])}

## Pods per second

By how many are being started at a time.

${table([["", ...widths], ...rates])}

## Until Ready in a cluster

Kubernetes ${run.ready.version}, a node with bridge and portmap alone and one with the plugin behind
them, neither with the control plane on it; ${
    run.ready.figures[0]?.ready.length ?? 0
  } pods of each kind, one after the other, from
the pod's creation to its condition Ready as one watch of the API server tells. All have the same two
containers, which only sleep, so that no sidecar's own start counts, and no probe. Kubelet looks at
its containers once a second, so that one pod is ready up to a second later than the next; hence the
mean with its standard error beside median and 99th percentile.

${
    table([
      ["", "median", "p99", "added: median, p99", "added: mean"],
      ...readyRows(run.ready),
    ])
  }

## Memory

${table([["", "MiB"], ...Object.entries(run.memory)])}
`;
}

const width = 720;
const left = 230;
const barHeight = 16;

/** Returns the chart: what each state adds to the start of a pod. */
export function performanceChart(figures: readonly PodFigures[]): string {
  const [base, ...others] = figures;
  if (base === undefined) throw new RangeError("Nothing was measured");
  const bars = others.flatMap((one) => {
    const { median, late } = addedTo(base, one, "add");
    return [
      { label: one.name, value: median, kind: "median", color: "#2f6f9f" },
      { label: "", value: late, kind: "p99", color: "#9fc2dc" },
    ];
  });
  const longest = Math.max(1, ...bars.map(({ value }) => value));
  const height = 44 + bars.length * (barHeight + 6);
  const rows = bars.map(({ label, value, kind, color }, i) => {
    const y = 36 + i * (barHeight + 6);
    const length = Math.max(1, (width - left - 140) * Math.max(0, value) / longest);
    return `<text x="${left - 8}" y="${y + 12}" text-anchor="end">${label}</text>` +
      `<rect x="${left}" y="${y}" width="${
        length.toFixed(1)
      }" height="${barHeight}" fill="${color}"/>` +
      `<text x="${(left + length + 6).toFixed(1)}" y="${y + 12}">${ms(value)} (${kind})</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" ` +
    `font-family="sans-serif" font-size="12" fill="#222">\n` +
    `<rect width="100%" height="100%" fill="#fff"/>\n` +
    `<text x="8" y="20" font-size="14">Added to the start of a pod (RunPodSandbox), milliseconds` +
    `</text>\n${rows.join("\n")}\n</svg>\n`;
}
