/**
 * What the node agent costs on a node of 250 pods that it follows, and what it saves each pod's
 * start: the plugin asks it for the pod instead of the API server.
 */
import { createNamespace } from "../../tests/support/topology.ts";
import { ApiServer } from "../../tests/support/api_server.ts";
import type { TestNode } from "../../tests/support/node.ts";
import type { PodObject } from "../../tests/support/pods.ts";
import {
  bridgeResult,
  networkConfigText,
  newContainerId,
  pluginEnvironment,
} from "../../tests/support/runtime.ts";
import { build } from "../build.ts";
import { conflistName, manyPods, podCount, startNode } from "./lib/followed_pods.ts";
import { type Memory, memoryOf } from "./lib/memory.ts";
import { measureProcess, type ProcessOptions } from "./lib/process.ts";
import { printTable, quantile } from "./lib/table.ts";

const idleSeconds = 20;
/** What the start leaves to be done later, such as collecting its garbage, is over then. */
const settleSeconds = 30;
const changes = 500;
const runs = 60;

/** Prints memory and CPU of the agent, and wall times of ADD with and without it. Needs root. */
export async function bench(): Promise<void> {
  const built = await build();
  const pods = manyPods();
  await using api = await ApiServer.start({ objects: pods });
  await using node = await startNode(api, built);

  const idle = await measureIdle(node.pid);
  await measureAdds(node, `${node.binDir}/kuma-cni`, pods[0]!);
  for (let i = 0; i < changes; i++) {
    api.store.put(pods[i % podCount]!);
    if (i % 10 === 9) await sleep(20);
  }
  await sleep(2000);
  const busy = memoryOf(node.pid);
  printTable(`install-cni with ${podCount} pods of ${jsonSize(pods)} KiB`, [
    ["", "CPU %", "resident MiB", "of it private", "peak MiB"],
    [`${idleSeconds} s without events`, idle.cpu.toFixed(2), ...columns(idle.memory)],
    [`after ${changes} changes and all ADDs`, "", ...columns(busy)],
    ["target", "<= 0.2", "<= 64", "", ""],
  ]);
}

/** Calls of the plugin turn by turn, so that a busy moment of the machine meets all alike. */
async function measureAdds(node: TestNode, program: string, pod: PodObject): Promise<void> {
  const { agent, ...alone } = node.entry(conflistName);
  const cases = [
    { name: "from the agent's cache", network: { ...alone, agent } },
    { name: "from the API server, without agent", network: alone },
    {
      name: "from the API server, agent away",
      network: { ...alone, agent: { socket: `${node.folder}/nobody.sock` } },
    },
  ];
  const figures = cases.map((): number[] => []);
  const differences: number[] = [];
  for (let run = -1; run < runs; run++) {
    const times: number[] = [];
    for (const { network } of cases) {
      using netns = createNamespace();
      const stdin = `${node.folder}/stdin`;
      const result = bridgeResult(netns.path, { ipv4: "10.90.0.5", gateway4: "10.90.0.1" });
      Deno.writeTextFileSync(stdin, networkConfigText(network, result));
      times.push(await measureAdd({ program, stdin, env: environment(netns.path, pod) }));
    }
    if (run < 0) continue;
    times.forEach((time, i) => figures[i]!.push(time));
    differences.push(times[0]! - times[1]!);
  }
  printTable(`ADD of a meshed pod, by where the pod comes from (${runs} each, turn by turn; ms)`, [
    ["", "median", "p95"],
    ...cases.map(({ name }, i) => [
      name,
      quantile(figures[i]!, 0.5).toFixed(1),
      quantile(figures[i]!, 0.95).toFixed(1),
    ]),
    ["cache less API server, of each turn", quantile(differences, 0.5).toFixed(1), ""],
    ["target", "<= 0", ""],
  ]);
}

async function measureAdd(options: ProcessOptions): Promise<number> {
  const { code, wallMilliseconds } = await measureProcess(options);
  if (code !== 0) throw new Error(`ADD ended with code ${code}`);
  return wallMilliseconds;
}

function environment(netns: string, { metadata }: PodObject): Record<string, string> {
  const pod = { namespace: metadata.namespace!, name: metadata.name, uid: metadata.uid! };
  return pluginEnvironment({ command: "ADD", containerId: newContainerId(), netns, pod });
}

function columns(memory: Memory): string[] {
  return [memory.resident, memory.private, memory.peak].map((value) => value.toFixed(1));
}

async function measureIdle(pid: number): Promise<{ cpu: number; memory: Memory }> {
  await sleep(settleSeconds * 1000);
  const before = cpuMilliseconds(pid);
  await sleep(idleSeconds * 1000);
  return {
    cpu: (cpuMilliseconds(pid) - before) / (idleSeconds * 10),
    memory: memoryOf(pid),
  };
}

/** CPU time of all threads (proc(5), `schedstat`: nanoseconds on a CPU). */
function cpuMilliseconds(pid: number): number {
  let sum = 0;
  for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
    sum += Number(Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`).split(" ")[0]);
  }
  return sum / 1e6;
}

function jsonSize(pods: readonly PodObject[]): string {
  return (JSON.stringify(pods).length / pods.length / 1024).toFixed(1);
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
