/**
 * Measures the eBPF engine against nftables and against no redirection, turn by turn in one run:
 * how long a connection takes to be made, how many short ones a pod can make before its ports run
 * out, how long an apply takes, and what a pod costs in the kernel's memory.
 *
 * Over loopback and virtual links the kernel makes the whole handshake within `connect(2)`, so that
 * one thread measures it without waiting for another. Run as root: `deno run -A scripts/bench/ebpf.ts`.
 */
import { EbpfEngine } from "../../src/engine/ebpf/ebpf_engine.ts";
import { readInstalled } from "../../src/engine/ebpf/installed.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import { bpfMapById } from "../../src/linux/bpf_maps.ts";
import { LinuxError } from "../../src/linux/errno.ts";
import { openForReading } from "../../src/linux/libc.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import { Laboratory, PEER, POD } from "../../tests/support/laboratory.ts";
import { connectClient, openClient } from "../../tests/support/odd_clients.ts";
import { BpfFileSystem, PodCgroup, withRealUser } from "../../tests/support/pod_cgroup.ts";
import { type Endpoint, listenTcp, type TcpListener } from "../../tests/support/sockets.ts";
import { printTable, quantile } from "./lib/table.ts";

const ROUNDS = 5;
const CONNECTIONS = 4000;
const SHORT_CONNECTIONS = 60_000;
const APPLIES = 40;
const APP = 1000;

const ruleset = compileRuleset({
  ...defaultRedirectConfig,
  dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
  inbound: { ...defaultRedirectConfig.inbound, excludePorts: [9001, 9901] },
}, {
  ...{ loopback: "lo", ipv6: true, conntrackZones: true },
  dockerOutput: { ipv4: false, ipv6: false },
});

type Way = "direct" | "ebpf" | "nftables";
const WAYS: readonly Way[] = ["direct", "ebpf", "nftables"];

/** A pod whose traffic goes one of the ways, with a sidecar. */
class BenchPod implements Disposable {
  readonly #stack = new DisposableStack();
  readonly #bpffs = this.#stack.use(new BpfFileSystem());
  readonly cgroup = this.#stack.use(new PodCgroup());
  readonly lab = this.#stack.use(
    new Laboratory({ cgroup: this.cgroup, podTcp: [], podUdp: [], peerTcp: [], peerUdp: [] }),
  );
  readonly outbound: TcpListener;
  readonly inbound: TcpListener;

  constructor(readonly way: Way) {
    this.lab.inPod(() => this.engine()?.apply(ruleset));
    const listen = (port: number) =>
      this.#stack.use(
        this.lab.inPod(() => this.cgroup.run(() => listenTcp({ address: "0.0.0.0", port }, 1024))),
      );
    [this.outbound, this.inbound] = [listen(15001), listen(15006)];
  }

  engine(): Engine | undefined {
    if (this.way === "direct") return undefined;
    if (this.way === "nftables") return new NftablesEngine();
    return new EbpfEngine({
      cgroup: this.cgroup.path,
      pinFolder: `${this.#bpffs.path}/kuma-cni/bench`,
    });
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** Microseconds that `connect(2)` takes, many times. */
function connectTimes(listener: TcpListener, to: Endpoint, count: number): number[] {
  return Array.from({ length: count }, () => {
    using client = openClient("ipv4");
    const start = performance.now();
    connectClient(client, to);
    const time = performance.now() - start;
    using accepted = listener.accept();
    // Without a sign of life no port waits for latecomers.
    accepted?.reset();
    client.reset();
    return 1000 * time;
  });
}

/** Makes short connections, each closed by the client, until its ports have run out. */
function shortConnections(pod: BenchPod): { readonly made: number; readonly perSecond: number } {
  const to = pod.way === "direct" ? { address: "127.0.0.1", port: 15001 } : PEER_TARGET;
  const start = performance.now();
  let made = 0;
  for (; made < SHORT_CONNECTIONS; made++) {
    using client = openClient("ipv4");
    try {
      connectClient(client, to);
    } catch (error) {
      if (error instanceof LinuxError && error.code === "EADDRNOTAVAIL") break;
      throw error;
    }
    using accepted = pod.outbound.accept();
    client.close();
    accepted?.close();
  }
  return { made, perSecond: made / (performance.now() - start) * 1000 };
}

const PEER_TARGET: Endpoint = { address: PEER.ipv4, port: 80 };

function inside<T>(pod: BenchPod, work: () => T): T {
  return pod.lab.inPod(() => pod.cgroup.run(() => withRealUser(APP, work)));
}

function measureLatency(pods: ReadonlyMap<Way, BenchPod>): void {
  const times = new Map(WAYS.map((way) => [way, { outbound: [], inbound: [] } as Times]));
  for (let round = 0; round <= ROUNDS; round++) {
    for (const [way, pod] of pods) {
      const direct = way === "direct";
      const to = direct ? { address: "127.0.0.1", port: 15001 } : PEER_TARGET;
      const outbound = inside(pod, () => connectTimes(pod.outbound, to, CONNECTIONS));
      const target = { address: POD.ipv4, port: direct ? 15006 : 8080 };
      const inbound = pod.lab.inPeer(() => connectTimes(pod.inbound, target, CONNECTIONS));
      // The first round warms everything up.
      if (round === 0) continue;
      times.get(way)!.outbound.push(quantile(outbound, 0.5));
      times.get(way)!.inbound.push(quantile(inbound, 0.5));
    }
  }
  const median = (way: Way, side: keyof Times) => quantile(times.get(way)![side], 0.5);
  const cell = (way: Way, side: keyof Times) => {
    const ratio = median(way, side) / median("direct", side);
    return `${median(way, side).toFixed(1)} µs (${ratio.toFixed(2)} ×)`;
  };
  printTable(`connect(2), median of ${ROUNDS} rounds of ${CONNECTIONS}, turn by turn`, [
    ["", "outbound", "inbound"],
    ...WAYS.map((way) => [way, cell(way, "outbound"), cell(way, "inbound")]),
  ]);
}

interface Times {
  readonly outbound: number[];
  readonly inbound: number[];
}

/** Milliseconds of applies, each in a pod of its own. */
function applyTimes(): { readonly ebpf: number[]; readonly nftables: number[] } {
  const times = { ebpf: [] as number[], nftables: [] as number[] };
  using bpffs = new BpfFileSystem();
  for (let count = 0; count < APPLIES; count++) {
    using cgroup = new PodCgroup();
    using lab = new Laboratory({ podTcp: [], podUdp: [], peerTcp: [], peerUdp: [] });
    const pinFolder = `${bpffs.path}/kuma-cni/apply-${count}`;
    const engines = {
      nftables: new NftablesEngine(),
      ebpf: new EbpfEngine({ cgroup: cgroup.path, pinFolder }),
    };
    for (const name of ["nftables", "ebpf"] as const) {
      lab.inPod(() => {
        const start = performance.now();
        engines[name].apply(ruleset);
        times[name].push(performance.now() - start);
        engines[name].remove();
      });
    }
  }
  return times;
}

/** Bytes that the kernel charges for a pod's programs and maps. */
function memoryOf(pod: BenchPod): { readonly programs: number; readonly maps: number } {
  return pod.lab.inPod(() => {
    using cgroup = openForReading(pod.cgroup.path);
    using namespace = openForReading("/proc/thread-self/ns/net");
    using installed = readInstalled(cgroup, namespace);
    const charged = (fd: number) => {
      const text = Deno.readTextFileSync(`/proc/self/fdinfo/${fd}`);
      return Number(/^memlock:\s*(\d+)$/m.exec(text)?.[1] ?? 0);
    };
    let maps = 0;
    for (const id of installed.mapIds) {
      using map = bpfMapById(id);
      maps += charged(map.number);
    }
    const programs = installed.all.reduce((sum, { program }) => sum + charged(program.number), 0);
    return { programs, maps };
  });
}

/** Measures and prints tables. */
export function bench(): void {
  using stack = new DisposableStack();
  const pods = new Map(WAYS.map((way) => [way, stack.use(new BenchPod(way))]));
  measureLatency(pods);

  printTable(`short connections to one address, at most ${SHORT_CONNECTIONS}`, [
    ["", "before ports ran out", "per second"],
    ...WAYS.map((way) => {
      const pod = pods.get(way)!;
      const { made, perSecond } = inside(pod, () => shortConnections(pod));
      const all = made === SHORT_CONNECTIONS;
      return [way, all ? `all ${made}` : `${made}`, perSecond.toFixed(0)];
    }),
  ]);

  const { ebpf, nftables } = applyTimes();
  const milliseconds = (times: number[], part: number) => `${quantile(times, part).toFixed(2)} ms`;
  printTable("apply, both families, read back", [
    ["", "first", "median", "p90"],
    ...Object.entries({ ebpf, nftables }).map(([name, times]) => [
      ...[name, `${times[0]!.toFixed(2)} ms`, milliseconds(times, 0.5), milliseconds(times, 0.9)],
    ]),
  ]);

  const { programs, maps } = memoryOf(pods.get("ebpf")!);
  printTable("memory of one pod in the kernel", [
    ["programs", "maps"],
    [`${(programs / 1024).toFixed(0)} KiB`, `${(maps / 1024).toFixed(0)} KiB`],
  ]);
}

if (import.meta.main) bench();
