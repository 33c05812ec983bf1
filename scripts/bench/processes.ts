/**
 * Whole calls of the compiled plugin, as a container runtime makes them, against an empty compiled
 * program: what a pod's start-up costs.
 */
import { createNamespace, type NamedNamespace } from "../../tests/support/topology.ts";
import { ApiServer } from "../../tests/support/api_server.ts";
import { injectedPod, plainPod } from "../../tests/support/pods.ts";
import {
  bridgeResult,
  networkConfigText,
  newContainerId,
  pluginEnvironment,
  type PodReference,
} from "../../tests/support/runtime.ts";
import { build, root } from "../build.ts";
import { compileEmptyProgram } from "./lib/empty_program.ts";
import { measurePeakMemory, measureProcess, type ProcessOptions } from "./lib/process.ts";
import { printTable, quantile } from "./lib/table.ts";

interface Case {
  readonly name: string;
  /** Wall time at most this times that of the empty program. */
  readonly targetRatio?: number;
  /** Peak memory in MiB. */
  readonly targetPeak?: number;
  /** Prepares one call; each may have a namespace of its own. */
  readonly call: (resources: DisposableStack) => ProcessOptions;
}

interface Figures {
  readonly wall: number[];
  readonly cpu: number[];
  readonly peak: number[];
}

const excluded = { namespace: "kube-system", name: "excluded", uid: crypto.randomUUID() };
const outside = { namespace: "demo", name: "plain", uid: crypto.randomUUID() };
const meshed = { namespace: "demo", name: "meshed", uid: crypto.randomUUID() };

/** Name of the copy of the plugin that is compared with. */
const other = "kuma-cni.other";

const runs = 40;
const memoryRuns = 5;

/** Choices for this measurement. */
export interface ProcessesOptions {
  /** Path of another build of the plugin that each call is compared with. */
  readonly against?: string | undefined;
}

/** Prints wall time and peak memory of whole plugin calls. Needs root. */
export async function bench({ against }: ProcessesOptions = {}): Promise<void> {
  await build({ only: ["kuma-cni"] });
  const folder = await Deno.makeTempDir({ prefix: "kuma-bench-" });
  try {
    await using server = await ApiServer.start({
      objects: [injectedPod(meshed), plainPod(outside)],
    });
    await server.writeKubeconfig(`${folder}/kubeconfig`);
    await compileEmptyProgram(folder);
    // Copied as the empty program is: mapping a file takes up to a tenth of a start.
    await Deno.copyFile(`${root}/dist/kuma-cni`, `${folder}/kuma-cni`);
    if (against !== undefined) await Deno.copyFile(against, `${folder}/${other}`);
    const cases = [
      emptyProgram(folder),
      ...callsOf(folder, "kuma-cni"),
      ...(against === undefined ? [] : callsOf(folder, other)),
    ];
    const figures = cases.map((): Figures => ({ wall: [], cpu: [], peak: [] }));
    const failures = new Map<string, string>();
    // Turn by turn, so that a busy moment of the machine meets all cases alike; the first turn only
    // brings the programs into the page cache.
    for (let run = -1; run < runs; run++) {
      for (const [i, { name, call }] of cases.entries()) {
        using resources = new DisposableStack();
        const options = call(resources);
        const output = `${folder}/output`;
        await Deno.writeTextFile(output, "");
        const measured = await measureProcess({ ...options, output });
        if (measured.code !== 0) failures.set(name, await Deno.readTextFile(output));
        if (run < 0) continue;
        figures[i]?.wall.push(measured.wallMilliseconds);
        figures[i]?.cpu.push(measured.cpuMilliseconds);
      }
    }
    for (let run = 0; run < memoryRuns; run++) {
      for (const [i, { call }] of cases.entries()) {
        using resources = new DisposableStack();
        figures[i]?.peak.push(await measurePeakMemory(call(resources)) / 1024);
      }
    }
    print(cases, figures, failures);
    if (against !== undefined) printComparison(cases, figures, against);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function print(
  cases: readonly Case[],
  figures: readonly Figures[],
  failures: ReadonlyMap<string, string>,
): void {
  const empty = quantile(figures[0]?.wall ?? [], 0.5);
  const rows = [["", "median ms", "p95 ms", "CPU ms", "ratio", "target", "peak MiB", "target"]];
  for (const [i, { name, targetRatio, targetPeak }] of cases.entries()) {
    const { wall, cpu, peak } = figures[i] as Figures;
    rows.push([
      failures.has(name) ? `${name} (FAILS)` : name,
      quantile(wall, 0.5).toFixed(1),
      quantile(wall, 0.95).toFixed(1),
      quantile(cpu, 0.5).toFixed(1),
      (quantile(wall, 0.5) / empty).toFixed(2),
      targetRatio === undefined ? "" : `≤ ${targetRatio}`,
      quantile(peak, 0.5).toFixed(1),
      targetPeak === undefined ? "" : `≤ ${targetPeak}`,
    ]);
  }
  printTable(`Whole plugin calls (${runs} each, turn by turn)`, rows);
  for (const [name, output] of failures) console.log(`  ${name} fails: ${output.trim()}`);
}

/** The difference of each turn: what the machine did meanwhile is the same for both. */
function printComparison(
  cases: readonly Case[],
  figures: readonly Figures[],
  against: string,
): void {
  const rows = [["this build less the other", "wall ms", "CPU ms", "CPU %", "peak MiB"]];
  const [, ...calls] = cases;
  for (const [i, { name }] of calls.slice(0, calls.length / 2).entries()) {
    const own = figures[1 + i] as Figures;
    const others = figures[1 + i + calls.length / 2] as Figures;
    const median = (key: keyof Figures, of = (a: number, b: number) => a - b) =>
      quantile(own[key].map((value, run) => of(value, others[key][run] ?? NaN)), 0.5);
    rows.push([
      name,
      median("wall").toFixed(2),
      median("cpu").toFixed(2),
      (100 * median("cpu", (a, b) => a / b - 1)).toFixed(1),
      median("peak").toFixed(1),
    ]);
  }
  printTable(`Against ${against} (median of the differences of each turn)`, rows);
}

function emptyProgram(folder: string): Case {
  return {
    name: "empty program",
    call: () => ({ program: `${folder}/empty`, env: environment({}) }),
  };
}

function callsOf(folder: string, name: string): Case[] {
  const plugin = `${folder}/${name}`;
  const suffix = name === other ? ", other" : "";
  return [
    {
      name: `VERSION${suffix}`,
      targetRatio: 1.15,
      call: () => ({ program: plugin, env: environment({ CNI_COMMAND: "VERSION" }) }),
    },
    {
      name: `ADD, excluded namespace${suffix}`,
      targetRatio: 1.15,
      call: adder(plugin, folder, excluded),
    },
    {
      name: `ADD, pod outside the mesh${suffix}`,
      targetRatio: 1.4,
      call: adder(plugin, folder, outside),
    },
    {
      name: `ADD, meshed pod${suffix}`,
      targetRatio: 1.6,
      targetPeak: 60,
      call: adder(plugin, folder, meshed),
    },
  ];
}

function adder(
  plugin: string,
  folder: string,
  pod: PodReference,
): (resources: DisposableStack) => ProcessOptions {
  return (resources) => {
    const netns: NamedNamespace = resources.use(createNamespace());
    const containerId = newContainerId();
    const stdin = `${folder}/stdin-${pod.name}`;
    Deno.writeTextFileSync(
      stdin,
      networkConfigText({
        cniVersion: "0.4.0",
        name: "k8s-pod-network",
        type: "kuma-cni",
        log_level: "info",
        kubernetes: {
          kubeconfig: `${folder}/kubeconfig`,
          exclude_namespaces: ["kube-system"],
          cni_bin_dir: "/opt/cni/bin",
        },
      }, bridgeResult(netns.path, { ipv4: "10.90.0.5", ipv6: "fd90::5", gateway4: "10.90.0.1" })),
    );
    return {
      program: plugin,
      stdin,
      env: pluginEnvironment({ command: "ADD", containerId, netns: netns.path, pod }),
    };
  };
}

function environment(variables: Readonly<Record<string, string>>): Record<string, string> {
  return { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root", ...variables };
}
