/**
 * Calls through the shim and a warm node agent, against an empty compiled program and against the
 * full plugin: alone, many at once, and beside programs that take all of the processors. Also what
 * the agent costs after very many calls.
 */
import { ApiServer } from "../../tests/support/api_server.ts";
import type { TestNode } from "../../tests/support/node.ts";
import type { PodObject } from "../../tests/support/pods.ts";
import {
  bridgeResult,
  networkConfigText,
  newContainerId,
  pluginEnvironment,
} from "../../tests/support/runtime.ts";
import { pluginBehind } from "../../tests/support/shim.ts";
import { createNamespace, type NamedNamespace } from "../../tests/support/topology.ts";
import { build } from "../build.ts";
import { compileEmptyProgram } from "./lib/empty_program.ts";
import { conflistName, manyPods, podCount, startNode } from "./lib/followed_pods.ts";
import { memoryOf } from "./lib/memory.ts";
import { measureProcess, type ProcessOptions } from "./lib/process.ts";
import { printTable, quantile } from "./lib/table.ts";

const runs = 60;
const atOnce = 40;
const rounds = 5;
const hogs = 32;
const starvedRuns = 15;
/** `KUMA_BENCH_CALLS` changes it: 100,000 take a few minutes. */
const manyCalls = Number(Deno.env.get("KUMA_BENCH_CALLS") ?? 20_000);
const lanes = 2;

/** What is measured, with everything it needs. */
interface Bed {
  readonly folder: string;
  readonly node: TestNode;
  readonly shim: string;
  readonly plugin: string;
  readonly empty: string;
  readonly meshed: PodObject;
  readonly outside: PodObject;
}

/** Prints the tables. Needs root and a C compiler. */
export async function bench(): Promise<void> {
  const built = await build();
  const folder = await Deno.makeTempDir({ prefix: "kuma-bench-shim-" });
  try {
    const pods = manyPods();
    await using api = await ApiServer.start({ objects: pods });
    await using node = await startNode(api, built);
    const bed: Bed = {
      folder,
      node,
      shim: `${node.binDir}/kuma-cni`,
      plugin: fullPluginOf(node),
      empty: await compileEmptyProgram(folder),
      meshed: pods[0]!,
      outside: pods[1]!,
    };
    await measureCalls(bed);
    await measureAtOnce(bed);
    await measureStarved(bed);
    await measureAgent(bed);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function fullPluginOf({ binDir }: TestNode): string {
  const shim = `${binDir}/kuma-cni`;
  const plugin = pluginBehind(shim, binDir);
  if (plugin === undefined || plugin === shim) {
    throw new Error(
      "Cannot measure the shim: the build has left it out, since there is no C compiler",
    );
  }
  return plugin;
}

function call(
  { folder, node }: Bed,
  program: string,
  command: "ADD" | "DEL",
  { metadata }: PodObject,
  netns: NamedNamespace,
  namespace = metadata.namespace ?? "",
): ProcessOptions {
  const stdin = `${folder}/stdin-${crypto.randomUUID()}`;
  const result = bridgeResult(netns.path, {
    ipv4: "10.90.0.5",
    ipv6: "fd90::5",
    gateway4: "10.90.0.1",
  });
  Deno.writeTextFileSync(stdin, networkConfigText(node.entry(conflistName), result));
  const pod = { namespace, name: metadata.name, uid: metadata.uid! };
  const { path } = netns;
  const containerId = newContainerId();
  return { program, stdin, env: pluginEnvironment({ command, containerId, netns: path, pod }) };
}

async function wallOf(options: ProcessOptions): Promise<number> {
  const { code, wallMilliseconds } = await measureProcess(options);
  if (options.stdin !== undefined) Deno.removeSync(options.stdin);
  if (code !== 0) throw new Error(`A call ended with code ${code}`);
  return wallMilliseconds;
}

async function measureCalls(bed: Bed): Promise<void> {
  const { shim, plugin, meshed, outside } = bed;
  const cases: {
    readonly name: string;
    readonly target: string;
    readonly prepare: (program: string, netns: NamedNamespace) => ProcessOptions;
  }[] = [
    {
      name: "ADD, excluded namespace",
      target: "<= 2 ms, 0.1",
      prepare: (program, netns) => call(bed, program, "ADD", outside, netns, "kube-system"),
    },
    {
      name: "ADD, pod outside the mesh",
      target: "<= 2 ms, 0.1",
      prepare: (program, netns) => call(bed, program, "ADD", outside, netns),
    },
    {
      name: "DEL",
      target: "<= 2 ms, 0.1",
      prepare: (program, netns) => call(bed, program, "DEL", meshed, netns),
    },
    {
      name: "ADD, meshed pod, both families",
      target: "<= 6 ms, 0.25",
      prepare: (program, netns) => call(bed, program, "ADD", meshed, netns),
    },
  ];
  const empty: number[] = [];
  const figures = cases.map(() => ({ shim: [] as number[], plugin: [] as number[] }));
  for (let run = -5; run < runs; run++) {
    const emptyWall = await wallOf({ program: bed.empty, env: {} });
    if (run >= 0) empty.push(emptyWall);
    for (const [i, { prepare }] of cases.entries()) {
      for (const [by, program] of [["shim", shim], ["plugin", plugin]] as const) {
        using netns = createNamespace();
        const wall = await wallOf(prepare(program, netns));
        if (run >= 0) figures[i]![by].push(wall);
      }
    }
  }
  const base = quantile(empty, 0.5);
  const rows = cases.map(({ name, target }, i) => {
    const { shim, plugin } = figures[i]!;
    return [
      name,
      quantile(shim, 0.5).toFixed(2),
      quantile(shim, 0.95).toFixed(2),
      (quantile(shim, 0.5) / base).toFixed(3),
      target,
      quantile(plugin, 0.5).toFixed(1),
      (quantile(plugin, 0.5) / base).toFixed(2),
    ];
  });
  printTable(
    `Whole calls through the shim (${runs} each, turn by turn; ratio to an empty compiled program)`,
    [
      ["", "median ms", "p95 ms", "ratio", "target", "full plugin ms", "ratio"],
      [
        "empty compiled program",
        base.toFixed(2),
        quantile(empty, 0.95).toFixed(2),
        "1",
        "",
        "",
        "",
      ],
      ...rows,
    ],
  );
}

async function measureAtOnce(bed: Bed): Promise<void> {
  const figures = { shim: [] as number[], plugin: [] as number[] };
  for (let round = -1; round < rounds; round++) {
    for (const [by, program] of [["shim", bed.shim], ["plugin", bed.plugin]] as const) {
      using namespaces = new DisposableStack();
      const calls = Array.from(
        { length: atOnce },
        () => call(bed, program, "ADD", bed.meshed, namespaces.use(createNamespace())),
      );
      const started = performance.now();
      await Promise.all(calls.map(wallOf));
      if (round >= 0) figures[by].push(atOnce / (performance.now() - started) * 1000);
    }
  }
  printTable(`${atOnce} ADDs of meshed pods at once (median of ${rounds} rounds)`, [
    ["", "ADD/s", "target"],
    ["shim", quantile(figures.shim, 0.5).toFixed(0), ">= 300"],
    ["full plugin", quantile(figures.plugin, 0.5).toFixed(0), ""],
  ]);
}

async function measureStarved(bed: Bed): Promise<void> {
  using hungry = new DisposableStack();
  for (let i = 0; i < hogs; i++) {
    const child = new Deno.Command("perl", { args: ["-e", "1 while 1"], stdin: "null" }).spawn();
    hungry.defer(() => child.kill("SIGKILL"));
  }
  const figures = { shim: [] as number[], plugin: [] as number[] };
  for (let run = 0; run < starvedRuns; run++) {
    for (const [by, program] of [["shim", bed.shim], ["plugin", bed.plugin]] as const) {
      using netns = createNamespace();
      figures[by].push(await wallOf(call(bed, program, "ADD", bed.meshed, netns)));
    }
  }
  const [shim, plugin] = [quantile(figures.shim, 0.5), quantile(figures.plugin, 0.5)];
  printTable(`ADD of a meshed pod beside ${hogs} CPU-bound programs (${starvedRuns} each)`, [
    ["", "median ms", "ratio", "target"],
    ["shim", shim.toFixed(0), (shim / plugin).toFixed(3), "<= 0.15"],
    ["full plugin", plugin.toFixed(0), "1", ""],
  ]);
}

/** Calls until nothing changes any more show in memory or descriptors that something is kept. */
async function measureAgent(bed: Bed): Promise<void> {
  const { node } = bed;
  const descriptors = () => [...Deno.readDirSync(`/proc/${node.pid}/fd`)].length;
  const rows = [["calls", "resident MiB", "of it private", "peak MiB", "descriptors"]];
  const note = (calls: number) => {
    const { resident, private: own, peak } = memoryOf(node.pid);
    rows.push([
      String(calls),
      ...[resident, own, peak].map((value) => value.toFixed(1)),
      String(descriptors()),
    ]);
  };
  note(0);
  const part = Math.ceil(manyCalls / 5);
  const started = performance.now();
  for (let done = 0; done < manyCalls;) {
    // Each has a namespace of its own: the agent leaves one that somebody else works in to the plugin.
    const lane = async (calls: number) => {
      using netns = createNamespace();
      const sandboxes = Array.from({ length: podCount / lanes }, newContainerId);
      for (let i = 0; i < calls; i++) {
        const pod = i % 5 === 0 ? bed.meshed : bed.outside;
        const { env, ...options } = call(bed, bed.shim, "ADD", pod, netns);
        // As many sandboxes as pods: the agent's ledger has a bound.
        const CNI_CONTAINERID = sandboxes[i % sandboxes.length]!;
        await wallOf({ ...options, env: { ...env, CNI_CONTAINERID } });
      }
    };
    await Promise.all(Array.from({ length: lanes }, () => lane(Math.ceil(part / lanes))));
    done += part;
    note(done);
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    console.error(`${done} of ${part * 5} calls in ${seconds} s`);
  }
  rows.push(["target", "<= 80", "", "", "flat"]);
  printTable(`install-cni with ${podCount} pods, a fifth of the calls meshed`, rows);
}
