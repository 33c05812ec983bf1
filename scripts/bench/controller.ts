/**
 * What the controller costs in a cluster of 5,000 nodes, 50,000 pods and 1,000 namespaces, served by the API server
 * stand-in: its start, its memory, its requests, and its own time from a ready pod to a free node.
 */
import { ApiServer } from "../../tests/support/api_server.ts";
import {
  attachment,
  attachmentDefinition,
  cniPod,
  daemonSet,
  namespace,
  node,
} from "../../tests/support/controller_bed.ts";
import { plainPod } from "../../tests/support/pods.ts";
import { build } from "../build.ts";
import { memoryOf } from "./lib/memory.ts";
import { printTable, quantile } from "./lib/table.ts";

const nodeCount = 5_000;
const podCount = 50_000;
/** Namespaces, every other one of the mesh: half of those have their attachment already. */
const namespaceCount = 1_000;
/** What a node of a real cluster has beyond ours, most of it the images on it, in bytes of JSON. */
const padBytes = 10_000;
const samples = 200;
const idleSeconds = 30;

/** Prints all figures. */
export async function bench(): Promise<void> {
  const [, installer] = await build();
  const names = Array.from({ length: nodeCount }, (_, i) => `node-${i}`);
  const namespaces = Array.from({ length: namespaceCount }, (_, i) => `namespace-${i}`);
  await using api = await ApiServer.start({
    objects: [
      daemonSet(),
      attachmentDefinition(),
      ...namespaces.map((name, i) => namespace(name, i % 2 === 0 ? "enabled" : undefined)),
      ...namespaces.filter((_, i) => i % 4 === 0).map((name) => attachment(name)),
      ...names.map(largeNode),
      ...names.map((name) => cniPod(name, "ready")),
      ...Array.from(
        { length: podCount },
        (_, i) => plainPod({ name: `pod-${i}`, nodeName: names[i % nodeCount]! }),
      ),
    ],
  });
  const folder = await Deno.makeTempDir({ prefix: "kuma-bench-" });
  Deno.writeTextFileSync(`${folder}/ca.crt`, api.certificateAuthority);
  Deno.writeTextFileSync(`${folder}/token`, api.token);
  const started = performance.now();
  const child = new Deno.Command(installer!.path, {
    args: ["controller"],
    env: {
      KUMA_RUNTIME_KUBERNETES_NODE_TAINT_CONTROLLER_CNI_APP: "kuma-cni",
      KUBERNETES_SERVICE_HOST: "127.0.0.1",
      KUBERNETES_SERVICE_PORT: String(api.port),
      KUBE_CA_FILE: `${folder}/ca.crt`,
      KUBE_SERVICE_ACCOUNT_TOKEN_PATH: `${folder}/token`,
      POD_NAME: "bench",
      POD_NAMESPACE: "kube-system",
    },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const log = new LogReader(child.stderr);
  try {
    await log.until("pods and DaemonSet of the CNI are followed");
    const start = performance.now() - started;
    await log.until("namespaces are followed");
    const attached = performance.now() - started;
    const peak = memoryOf(child.pid).peak;
    await sleep(5_000);
    const memoryAtRest = memoryOf(child.pid).resident;
    const creations = api.requests.filter(({ verb, target }) =>
      verb === "create" && target.includes("/network-attachment-definitions")
    ).length;
    api.requests.length = 0;
    await sleep(idleSeconds * 1_000);
    const idle = api.requests.length * 60 / idleSeconds;
    const others = api.requests.filter(({ target }) =>
      !target.includes("/leases")
    );
    const idleOfWatches = api.requests.filter(({ verb }) => verb === "watch").length;
    const removals = await measureRemovals(api, names);
    const rollout = await measureRollout(api, names);
    const last = memoryOf(child.pid);
    printTable(
      `the controller with ${nodeCount} nodes, ${podCount} pods and ${namespaceCount} namespaces`,
      [
        ["", "figure", "target"],
        ["start of the process until all is known", `${(start / 1000).toFixed(1)} s`, ""],
        ["the same, until attachments are known", `${(attached / 1000).toFixed(1)} s`, ""],
        [
          `attachments made, of ${namespaceCount / 2} wanted`,
          String(creations),
          String(namespaceCount / 4),
        ],
        ["resident memory at rest", `${memoryAtRest.toFixed(0)} MiB`, "<= 200 MiB"],
        ["peak, at the start", `${peak.toFixed(0)} MiB`, ""],
        ["resident after all of this", `${last.resident.toFixed(0)} MiB`, "<= 200 MiB"],
        ["requests a minute, idle", idle.toFixed(0), "30"],
        ["of them not for the Lease", String(others.length * 60 / idleSeconds), "0"],
        ["new watches meanwhile", String(idleOfWatches), "0"],
        ["pod ready until patch has come, median", `${removals.median.toFixed(1)} ms`, "<= 100 ms"],
        ["the same, p99", `${removals.worst.toFixed(1)} ms`, ""],
        ["writes for a rollout within the grace", String(rollout), "0"],
      ],
    );
  } finally {
    child.kill("SIGTERM");
    await child.status;
    await log.end();
    await Deno.remove(folder, { recursive: true });
  }
}

/** New nodes, one after the other: tainted, then their pod gets ready. */
async function measureRemovals(
  api: ApiServer,
  names: readonly string[],
): Promise<{ median: number; worst: number }> {
  const times: number[] = [];
  for (let i = 0; i < samples; i++) {
    const name = `new-${i}-${names.length}`;
    api.store.put(node(name, { ageSeconds: 0 }));
    await patched(api, name, 1);
    api.store.put(cniPod(name, "starting"));
    await sleep(20);
    const ready = performance.now();
    api.store.put(cniPod(name, "ready"));
    await patched(api, name, 2);
    times.push(performance.now() - ready);
  }
  return { median: quantile(times, 0.5), worst: quantile(times, 0.99) };
}

/** Every agent is replaced, a hundred at a time. */
async function measureRollout(api: ApiServer, names: readonly string[]): Promise<number> {
  // The last node's Event is on its way.
  await sleep(500);
  api.requests.length = 0;
  for (let at = 0; at < names.length; at += 100) {
    for (const name of names.slice(at, at + 100)) {
      api.store.delete("pods", "kube-system", `cni-${name}`);
      api.store.put(cniPod(name, "starting", `next-${name}`));
    }
    await sleep(50);
    for (const name of names.slice(at, at + 100)) {
      api.store.put(cniPod(name, "ready", `next-${name}`));
    }
  }
  await sleep(5_000);
  return api.requests.filter(({ verb, target }) =>
    (verb === "patch" || verb === "create") && !target.includes("/leases")
  ).length;
}

async function patched(api: ApiServer, name: string, times: number): Promise<void> {
  const target = `/api/v1/nodes/${name}`;
  const end = performance.now() + 20_000;
  while (api.requests.filter((request) => request.target === target).length < times) {
    if (performance.now() > end) throw new Error(`Node ${name} was not changed in 20 s`);
    await sleep(1);
  }
}

function largeNode(name: string): ReturnType<typeof node> {
  const object = node(name);
  (object.status as Record<string, unknown>).images = [{ names: ["x".repeat(padBytes)] }];
  return object;
}

class LogReader {
  #text = "";
  readonly #reading: Promise<void>;

  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#reading = (async () => {
      for await (const piece of stream.pipeThrough(new TextDecoderStream())) this.#text += piece;
    })();
  }

  async until(part: string): Promise<void> {
    const end = performance.now() + 120_000;
    while (!this.#text.includes(part)) {
      if (performance.now() > end) throw new Error(`No "${part}" in the log: ${this.#text}`);
      await sleep(5);
    }
  }

  async end(): Promise<void> {
    await this.#reading;
  }
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
