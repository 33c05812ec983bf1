/** The text and the chart of docs/performance.md, made of what a run has measured (pure). */
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
}

const median = (values: readonly number[]) => quantile(values, 0.5);
const late = (values: readonly number[]) => quantile(values, 0.99);
const ms = (value: number) => `${value.toFixed(1)} ms`;

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

![Added milliseconds](performance.svg)

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
