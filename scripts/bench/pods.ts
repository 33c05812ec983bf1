/**
 * What the plugin adds to the start and the end of a pod in a real containerd: RunPodSandbox and
 * StopPodSandbox, with the primary plugins alone and with ours behind them, started as a whole and
 * through the shim. Writes `docs/performance.md` and its chart.
 */
import { conflistName } from "../../tests/support/bridge_network.ts";
import type { RuntimePrograms, Sandbox } from "../../tests/support/containerd.ts";
import { requestOf, Stage } from "../../tests/support/containerd_stage.ts";
import { injectedPod, plainPod, type PodObject } from "../../tests/support/pods.ts";
import { isCaptured } from "../../tests/support/sandbox_probe.ts";
import { root } from "../deno_tools.ts";
import { part, parts } from "../e2e/parts.ts";
import { memoryOf } from "./lib/memory.ts";
import { performanceChart, performanceText, type PodFigures } from "./lib/performance_document.ts";
import { measurePeakMemory } from "./lib/process.ts";
import { measureReady } from "./lib/ready_in_cluster.ts";

/** `KUMA_BENCH_PODS` changes it: how many pods of each kind start one after the other. */
const turns = Number(Deno.env.get("KUMA_BENCH_PODS") ?? 100);
const atOnce = Math.min(40, turns);
const widths = [1, 2, 4, 8, 16, 32].filter((width) => width <= turns);
const podsPerWidth = Math.min(32, turns);
/** A pod in a cluster takes two seconds. */
const readyTurns = Math.min(60, turns);

/** One of the node's states that are compared. */
interface Variant {
  readonly name: string;
  readonly stage: Stage;
  readonly podOf: (name: string) => PodObject;
  readonly captured: boolean;
}

/** Measures, prints and writes the document. Needs root. */
export async function bench(): Promise<void> {
  const programs: RuntimePrograms = {
    containerd: await part("containerd"),
    runc: await part("runc"),
    plugins: await part("cni-plugins"),
  };
  await using resources = new AsyncDisposableStack();
  const stageWith = async (env: Readonly<Record<string, string>>): Promise<Stage> => {
    const stage = resources.use(
      await Stage.set({
        confName: "",
        programs,
        env,
        network: { lookup_timeout_seconds: 20 },
      }),
    );
    Deno.writeTextFileSync(`${stage.containerd.netDir}/${conflistName}`, listOf(stage));
    await stage.containerd.untilLoaded("bridge", "portmap");
    return stage;
  };
  const alone = await stageWith({});
  const whole = await stageWith({ SHIM: "false" });
  const shim = await stageWith({ SHIM: "true" });
  for (const stage of [whole, shim]) {
    await stage.node.start();
    await stage.containerd.untilLoaded("bridge", "portmap", "kuma-cni");
    await stage.node.until("the agent serves", () => stage.node.isServing());
  }
  const isShim = Deno.statSync(`${shim.containerd.binDir}/kuma-cni`).size < 1 << 20;
  if (!isShim) throw new Error("The build has no shim: install a C compiler, build again");
  const plain = (name: string) => plainPod({ name });
  const meshed = (name: string) => injectedPod({ name });
  const variants: Variant[] = [
    { name: "bridge + portmap", stage: alone, podOf: plain, captured: false },
    { name: "+ full plugin, not meshed", stage: whole, podOf: plain, captured: false },
    { name: "+ full plugin, meshed", stage: whole, podOf: meshed, captured: true },
    { name: "+ shim with agent, not meshed", stage: shim, podOf: plain, captured: false },
    { name: "+ shim with agent, meshed", stage: shim, podOf: meshed, captured: true },
  ];

  const figures = variants.map(({ name }): PodFigures => ({
    name,
    add: [],
    del: [],
    burst: [],
    burstSeconds: 0,
    rates: [],
  }));
  // Turn by turn, so that a busy moment of the machine meets all alike; the first one warms up.
  for (let turn = -1; turn < turns; turn++) {
    for (const [i, variant] of variants.entries()) {
      const [add, sandbox] = await timed(() => startPod(variant, `turn-${turn}-${i}`));
      const [del] = await timed(() => variant.stage.containerd.stopPodSandbox(sandbox.id));
      await variant.stage.containerd.removePodSandbox(sandbox.id);
      if (turn < 0) continue;
      figures[i]!.add.push(add);
      figures[i]!.del.push(del);
    }
  }
  for (const [i, variant] of variants.entries()) {
    const burst = await startMany(variant, atOnce, atOnce, "burst");
    figures[i]!.burst.push(...burst.each);
    figures[i]!.burstSeconds = burst.seconds;
    for (const width of widths) {
      const { seconds } = await startMany(variant, podsPerWidth, width, `width-${width}`);
      figures[i]!.rates.push({ width, perSecond: podsPerWidth / seconds });
    }
  }
  const version = { program: `${root}/dist/kuma-cni`, env: { CNI_COMMAND: "VERSION" } };
  const peak = await measurePeakMemory(version) / 1024;
  const memory = {
    "agent beside the full plugin": shown(whole.node.pid),
    "agent that answers the shim's calls": shown(shim.node.pid),
    "full plugin, VERSION": `peak ${peak.toFixed(0)}`,
  };
  // The cluster shall not have to share the machine with these.
  await resources.disposeAsync();
  const text = performanceText({
    figures,
    turns,
    atOnce,
    versions: `containerd ${parts.containerd.version}, runc ${parts.runc.version}, reference ` +
      `plugins ${parts["cni-plugins"].version}`,
    processors: navigator.hardwareConcurrency,
    memory,
    ready: await measureReady(readyTurns),
  });
  console.log(text);
  await Deno.writeTextFile(`${root}/docs/performance.md`, text);
  await Deno.writeTextFile(`${root}/docs/pictures/performance.svg`, performanceChart(figures));
}

/** Memory of a process after all of this, in MiB. */
function shown(pid: number): string {
  const { resident, peak } = memoryOf(pid);
  return `${resident.toFixed(0)}, peak ${peak.toFixed(0)}`;
}

function listOf(stage: Stage): string {
  const { plugins, ...list } = JSON.parse(stage.conflist());
  const portmap = { type: "portmap", capabilities: { portMappings: true }, snat: true };
  return JSON.stringify({ ...list, cniVersion: "1.0.0", plugins: [...plugins, portmap] });
}

async function startPod(variant: Variant, name: string): Promise<Sandbox> {
  return await variant.stage.containerd.runPodSandbox(requestOf(known(variant, name)));
}

/** The API server knows a pod before its sandbox starts. */
function known({ stage, podOf }: Variant, name: string): PodObject {
  const pod = podOf(name);
  stage.api.store.put(pod);
  return pod;
}

/** Starts pods, so many at a time, and takes them away again. */
async function startMany(
  variant: Variant,
  count: number,
  width: number,
  prefix: string,
): Promise<{ each: number[]; seconds: number }> {
  const each: number[] = [];
  const sandboxes: Sandbox[] = [];
  const names = Array.from({ length: count }, (_, i) => `${prefix}-${i}`);
  const work = async () => {
    for (let name = names.pop(); name !== undefined; name = names.pop()) {
      const one = name;
      const [milliseconds, sandbox] = await timed(() => startPod(variant, one));
      each.push(milliseconds);
      sandboxes.push(sandbox);
    }
  };
  const [whole] = await timed(() => Promise.all(Array.from({ length: width }, work)));
  const wrong = sandboxes.filter((one) => isCaptured(one.networkNamespace) !== variant.captured);
  if (wrong.length > 0) {
    throw new Error(`${variant.name}: ${wrong.length} pods are not as expected`);
  }
  for (const { id } of sandboxes) {
    await variant.stage.containerd.stopPodSandbox(id);
    await variant.stage.containerd.removePodSandbox(id);
  }
  return { each, seconds: whole / 1000 };
}

async function timed<T>(work: () => Promise<T>): Promise<[number, T]> {
  const started = performance.now();
  const result = await work();
  return [performance.now() - started, result];
}
