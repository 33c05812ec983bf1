/** The eBPF engine's promises: all or nothing, proved by the kernel, beside others, and no trace left. */
import assert from "node:assert/strict";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import {
  EbpfEngine,
  pinFolderOf,
  readCounters,
  sweepPins,
  unpin,
} from "../src/engine/ebpf/ebpf_engine.ts";
import { readInstalled } from "../src/engine/ebpf/installed.ts";
import type { EbpfEngineOptions } from "../src/engine/ebpf/interface.ts";
import { Flight, MapName, Original } from "../src/engine/ebpf/layout.ts";
import { OpenMaps } from "../src/engine/ebpf/maps.ts";
import { CGROUP_HOOKS } from "../src/engine/ebpf/programs.ts";
import { EngineError } from "../src/engine/engine.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { listAddresses } from "../src/linux/addresses.ts";
import { bpfProgramById } from "../src/linux/bpf.ts";
import { bpfMapById, bpfMapKeys, updateBpfMap } from "../src/linux/bpf_maps.ts";
import { LinuxError } from "../src/linux/errno.ts";
import { openForReading } from "../src/linux/libc.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import type { Ruleset } from "../src/redirect/ruleset.ts";
import { attachAlone, attachBeside } from "./support/foreign_bpf.ts";
import { Laboratory, type Landing, PEER, POD } from "./support/laboratory.ts";
import { connectClient, connectFast, disconnectClient, openClient } from "./support/odd_clients.ts";
import { BpfFileSystem, PodCgroup, withRealUser } from "./support/pod_cgroup.ts";
import {
  bindUdp,
  type Endpoint,
  formatEndpoint,
  listenTcp,
  poll,
  type TcpSocket,
} from "./support/sockets.ts";
import { writeSysctl } from "./support/topology.ts";
import { validateRedirection } from "./support/validator.ts";

const dns = { ...defaultRedirectConfig.dns, enabled: true, captureAll: true };
const usual: RedirectConfig = {
  ...defaultRedirectConfig,
  dns,
  outbound: { ...defaultRedirectConfig.outbound, excludePorts: [9443] },
  inbound: { ...defaultRedirectConfig.inbound, excludePorts: [9001] },
};
const PROGRAM_NAMES = Object.values(CGROUP_HOOKS).map(({ name }) => name);
const NOTHING: Ruleset = { families: [], comments: false, ipv6PassthroughAddress: false };
const SIDECAR = 5678;
const APP = 1000;

/** A pod with a sidecar, an application and a remote host. */
class TestPod implements Disposable {
  readonly #stack = new DisposableStack();
  readonly bpffs = this.#stack.use(new BpfFileSystem());
  readonly cgroup: PodCgroup;
  readonly lab: Laboratory;
  readonly pinFolder = pinFolderOf(this.bpffs.path, "sandbox-1");

  constructor(parent?: string) {
    this.cgroup = this.#stack.use(new PodCgroup(parent));
    this.lab = this.#stack.use(
      new Laboratory({
        ...{ cgroup: this.cgroup, podTcp: [15001, 15006, 8080, 9001], podUdp: [15053] },
        ...{ peerTcp: [80, 9443], peerUdp: [53] },
      }),
    );
  }

  engine(options: Partial<EbpfEngineOptions> = {}): EbpfEngine {
    return new EbpfEngine({ cgroup: this.cgroup.path, pinFolder: this.pinFolder, ...options });
  }

  ruleset(config = usual): Ruleset {
    return compileRuleset(config, this.lab.inPod(() => readNamespaceFacts()));
  }

  /** Applies, then starts sidecar and application. */
  capture(config = usual, engine = this.engine()): void {
    const ruleset = this.ruleset(config);
    this.lab.inPod(() => engine.apply(ruleset));
    this.lab.listenAgain();
  }

  /** Does what a process in the pod does. */
  asProcess<T>(work: () => T): T {
    return this.lab.inPod(() => this.cgroup.run(work));
  }

  /** A socket of a process in the pod. */
  client(kind: "ipv4" | "ipv6" | "mptcp"): TcpSocket {
    return this.asProcess(() => openClient(kind));
  }

  /** Does what an application does. */
  asApp<T>(work: () => T): T {
    return withRealUser(APP, work);
  }

  /** Numbers of this engine's programs, and of their maps. */
  objects(): { programs: number[]; maps: number[] } {
    return this.lab.inPod(() => {
      using cgroup = openForReading(this.cgroup.path);
      using namespace = openForReading("/proc/thread-self/ns/net");
      using installed = readInstalled(cgroup, namespace);
      return {
        programs: installed.all.map(({ info }) => info.id),
        maps: [...installed.mapIds],
      };
    });
  }

  /** How many connections are between SYN and accept. */
  inFlight(): number {
    using maps = OpenMaps.open(this.objects().maps);
    return bpfMapKeys(maps.get(MapName.inFlight)!, Flight.bytes).length;
  }

  /** Where a connection of the pod ends. */
  outbound(uid: number, address: string, port = 80): string {
    const landing = this.lab.probe({
      ...{ direction: "outbound", protocol: "tcp", uid, to: { address, port } },
    });
    return landing.end === "listener" ? `${landing.place}:${landing.listenerPort}` : landing.end;
  }

  /** Where a connection to the pod ends. */
  inbound(port: number, family: "ipv4" | "ipv6" = "ipv4", timeoutMs = 200): string {
    const to = { address: POD[family], port };
    const landing = this.lab.probe({ direction: "inbound", protocol: "tcp", to }, timeoutMs);
    return landing.end === "listener" ? `${landing.place}:${landing.listenerPort}` : landing.end;
  }

  nftables(): number {
    return this.lab.inPod(() => new NftablesEngine().verify(NOTHING).length);
  }

  hasPassthroughAddress(): boolean {
    return this.lab.inPod(() => listAddresses("ipv6").some(({ address }) => address === "::6"));
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** Opens connections one after the other, until it is killed. */
const LOAD = "while :; do : < /dev/tcp/10.1.2.3/80; done";

/** Waits for ten seconds at most; what holds in the end is for the caller to say. */
async function waitFor(holds: () => boolean): Promise<void> {
  for (let tries = 0; !holds() && tries < 500; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function isGone(open: (id: number) => Disposable, id: number): boolean {
  try {
    open(id)[Symbol.dispose]();
    return false;
  } catch (error) {
    if (error instanceof LinuxError && error.code === "ENOENT") return true;
    throw error;
  }
}

async function assertGone({ programs, maps }: { programs: number[]; maps: number[] }) {
  const left = () => [
    ...programs.filter((id) => !isGone(bpfProgramById, id)).map((id) => `program ${id}`),
    ...maps.filter((id) => !isGone(bpfMapById, id)).map((id) => `map ${id}`),
  ];
  // The kernel frees them when the last reader has gone.
  await waitFor(() => left().length === 0);
  assert.deepEqual(left(), []);
}

// Loaded now: Deno's tests take a library that a test loads for a leak.
{
  using pod = new TestPod();
  pod.capture();
  pod.lab.inPod(() => pod.engine({ inbound: "nftables" }).apply(pod.ruleset()));
  sweepPins(pod.bpffs.path);
}

Deno.test("eBPF engine: applied twice is the same, CHECK notices what is gone or changed, apply heals", async () => {
  using pod = new TestPod();
  const [engine, ruleset] = [pod.engine(), pod.ruleset()];
  const differences = (of = ruleset) => pod.lab.inPod(() => engine.verify(of));
  assert.equal(differences().length, PROGRAM_NAMES.length + 1 + 1);
  const result = pod.lab.inPod(() => engine.apply(ruleset));
  assert.deepEqual([result.engine, result.backend, result.notes], ["ebpf", "sk_lookup", []]);
  assert.deepEqual(differences(), []);
  const once = pod.objects();
  pod.lab.inPod(() => engine.apply(ruleset));
  assert.deepEqual(differences(), []);
  const twice = pod.objects();
  assert.equal(twice.programs.length, once.programs.length);
  assert.deepEqual(twice.maps.toSorted(), once.maps.toSorted(), "listeners would be forgotten");

  const other = pod.ruleset({ ...usual, sidecarUid: 1234 });
  assert.deepEqual(
    [...new Set(differences(other).map(({ kind }) => kind))],
    ["changed"],
  );
  assert.equal(unpin(pod.pinFolder), true);
  const seen = () => differences().map(({ object }) => object).toSorted();
  // The kernel frees the link a moment later; until then it is the pin that is missing.
  await waitFor(() => !seen()[0]?.startsWith("BPF pin"));
  assert.deepEqual(seen(), ["BPF program kuma_sk_lookup"]);
  pod.lab.inPod(() => engine.apply(ruleset));
  assert.deepEqual(differences(), []);

  assert.equal(pod.lab.inPod(() => engine.remove()), true);
  assert.equal(pod.lab.inPod(() => engine.remove()), false);
  assert.deepEqual(pod.objects(), { programs: [], maps: [] });
  assert.deepEqual(pod.lab.inPod(() => engine.verify(NOTHING)), []);
});

Deno.test("eBPF engine: captures the traffic of the vectors' pods as the rules say", () => {
  using pod = new TestPod();
  pod.capture();
  const { ipv4, ipv6 } = PEER;
  assert.deepEqual(
    {
      app: [ipv4, ipv6].map((address) => pod.outbound(APP, address)),
      sidecar: [ipv4, ipv6].map((address) => pod.outbound(SIDECAR, address)),
      excluded: pod.outbound(APP, ipv4, 9443),
      ownPod: pod.outbound(APP, POD.ipv4, 8080),
      localhost: pod.outbound(APP, "127.0.0.1", 8080),
      nowhere: pod.outbound(APP, "0.0.0.0", 8080),
      sidecarToOwnPod: [POD.ipv4, POD.ipv6].map((to) => pod.outbound(SIDECAR, to, 8080)),
      inbound: [pod.inbound(8080), pod.inbound(8080, "ipv6"), pod.inbound(12345)],
      inboundExcluded: [pod.inbound(9001), pod.inbound(9001, "ipv6")],
    },
    {
      app: ["pod:15001", "pod:15001"],
      sidecar: ["peer:80", "peer:80"],
      excluded: "peer:9443",
      ownPod: "pod:8080",
      localhost: "pod:8080",
      nowhere: "pod:8080",
      sidecarToOwnPod: ["pod:15006", "pod:15006"],
      inbound: ["pod:15006", "pod:15006", "pod:15006"],
      inboundExcluded: ["pod:9001", "pod:9001"],
    },
  );
  const question = pod.lab.probe({
    ...{ direction: "outbound", protocol: "udp", uid: APP, to: { address: ipv4, port: 53 } },
  });
  assert.deepEqual([question.place, question.at?.port, question.answered], ["pod", 15053, true]);
});

Deno.test("eBPF engine: both ends see the addresses that they would see without redirection", () => {
  using pod = new TestPod();
  pod.capture();
  for (const family of ["ipv4", "ipv6"] as const) {
    const to = { address: PEER[family], port: 80 };
    using client = pod.client(family);
    pod.asApp(() => connectClient(client, to));
    const landing = pod.lab.take(client);
    assert.deepEqual(landing.originalDestination, to);
    assert.deepEqual(landing.peer, to);
    assert.equal(landing.sender?.address, POD[family], "the application's own address");
    assert.deepEqual(landing.seenSource, landing.sender);
    const from = pod.lab.probe({
      ...{ direction: "inbound", protocol: "tcp", to: { address: POD[family], port: 8080 } },
    });
    assert.deepEqual(from.originalDestination, { address: POD[family], port: 8080 });
    assert.equal(from.seenSource?.address, PEER[family]);
  }
});

Deno.test("eBPF engine: follows IPv4 in IPv6 sockets, MPTCP, data with the SYN, and sockets that connect again", () => {
  using pod = new TestPod();
  pod.capture();
  const to = { address: PEER.ipv4, port: 80 };
  const told = { originalDestination: to, listenerPort: 15001, answered: true };
  const seen = ({ originalDestination, listenerPort, answered }: Landing) => ({
    ...{ originalDestination, listenerPort, answered },
  });
  {
    using client = pod.client("ipv6");
    pod.asApp(() => connectClient(client, { ...to, address: `::ffff:${to.address}` }));
    const landing = pod.lab.take(client);
    assert.deepEqual(seen(landing), told);
    assert.deepEqual(landing.peer?.port, 80);
    assert.match(landing.peer?.address ?? "", /10\.93\.0\.3$/);
  }
  {
    using client = pod.client("mptcp");
    pod.asApp(() => connectClient(client, to));
    assert.deepEqual(seen(pod.lab.take(client)), told);
  }
  {
    using client = pod.client("ipv4");
    pod.asApp(() => connectFast(client, to));
    assert.deepEqual(seen(pod.lab.take(client)), { ...told, answered: true });
  }
  {
    using client = pod.client("ipv4");
    pod.asApp(() => connectClient(client, to));
    assert.deepEqual(seen(pod.lab.take(client)), told);
    pod.asApp(() => disconnectClient(client));
    pod.asApp(() => connectClient(client, { ...to, port: 9443 }));
    const direct = pod.lab.take(client);
    assert.deepEqual([direct.place, direct.listenerPort], ["peer", 9443]);
    assert.deepEqual(direct.peer, { ...to, port: 9443 }, "what it wanted before is no peer");
  }
});

Deno.test("eBPF engine: a socket that is not connected asks DNS servers, and others", () => {
  using pod = new TestPod();
  pod.capture();
  pod.lab.stopListening();
  const open = (at: Endpoint) => pod.asProcess(() => bindUdp(at));
  for (const family of ["ipv4", "ipv6"] as const) {
    const [home, anywhere] = family === "ipv4" ? ["127.0.0.1", "0.0.0.0"] : ["::1", "::"];
    using proxy = open({ address: home, port: 15053 });
    using server = open({ address: POD[family], port: 5353 });
    using client = open({ address: anywhere, port: 0 });
    /** Who got it, and from whom the answer seems to come. */
    const ask = (uid: number, to: Endpoint): string => {
      withRealUser(uid, () => client.send(new Uint8Array([1]), to));
      const answering = [proxy, server].find((one) => poll([{ fd: one.fd }], 20)[0]);
      const question = answering?.receive();
      if (answering === undefined || question === undefined) return "nobody";
      withRealUser(SIDECAR, () => answering.send(new Uint8Array([2]), question.from));
      client.wait(1000);
      return `${answering === proxy ? "proxy" : "server"} ${
        formatEndpoint(client.receive()!.from)
      }`;
    };
    for (const address of family === "ipv4" ? ["10.1.2.3", "10.4.5.6"] : ["fd01::3", "fd04::6"]) {
      const to = { address, port: 53 };
      assert.equal(ask(APP, to), `proxy ${formatEndpoint(to)}`);
    }
    const other = { address: POD[family], port: 5353 };
    assert.equal(ask(APP, other), `server ${formatEndpoint(other)}`);
    assert.equal(ask(SIDECAR, { address: PEER[family], port: 53 }), "nobody");
  }
  assert.equal(readCounters(pod.cgroup.path)?.dns, 4);
});

Deno.test("eBPF engine: a pod's ports are enough for each destination anew", () => {
  using pod = new TestPod();
  pod.capture();
  const ports = 100;
  pod.lab.inPod(() => writeSysctl("net/ipv4/ip_local_port_range", `40000 ${40000 + ports - 1}`));
  using clients = new DisposableStack();
  const connect = (address: string) => {
    const client = clients.use(pod.client("ipv4"));
    pod.asApp(() => connectClient(client, { address, port: 80 }));
  };
  // More than the listener's backlog would wait for answers.
  for (let index = 0; index < 60; index++) connect("10.1.2.3");
  for (let index = 0; index < 60; index++) connect("10.1.2.4");
  assert.equal(readCounters(pod.cgroup.path)?.outbound, 120);
});

Deno.test("eBPF engine: the sidecar gets no wrong destination when the right one is lost", () => {
  // With rules of nftables connection tracking would answer the sidecar: with its own address.
  for (const inbound of ["sk_lookup", "nftables"] as const) {
    using pod = new TestPod();
    pod.capture(usual, pod.engine({ inbound }));
    {
      using maps = OpenMaps.open(pod.objects().maps);
      const value = new Uint8Array(Original.bytes);
      for (let index = 0; index < Flight.entries; index++) {
        const key = new Uint8Array(Flight.bytes).fill(0xee);
        new DataView(key.buffer).setUint32(0, index);
        updateBpfMap(maps.get(MapName.inFlight)!, key, value);
      }
    }
    const to = { address: PEER.ipv4, port: 80 };
    const landing = pod.lab.probe({ direction: "outbound", protocol: "tcp", uid: APP, to });
    assert.deepEqual([landing.listenerPort, landing.originalDestination], [15001, undefined]);
    assert.equal(readCounters(pod.cgroup.path)?.lost, 1);
  }
});

Deno.test("eBPF engine: listeners that share a port share the connections", () => {
  using pod = new TestPod();
  pod.capture();
  pod.lab.stopListening();
  const listen = () =>
    pod.asProcess(() => listenTcp({ address: "0.0.0.0", port: 15006 }, 128, true));
  using stack = new DisposableStack();
  const listeners = Array.from({ length: 4 }, () => stack.use(listen()));
  const counts = listeners.map(() => 0);
  for (let index = 0; index < 80; index++) {
    assert.equal(pod.inbound(8080, "ipv4", 5), "lost", "the laboratory's own listeners are gone");
    for (const [which, listener] of listeners.entries()) {
      using socket = listener.accept();
      if (socket !== undefined) counts[which]!++;
    }
  }
  assert.equal(counts.reduce((sum, count) => sum + count, 0), 80);
  assert.ok(counts.every((count) => count > 0), `${counts}`);
  // As long as one of them listens, connections arrive.
  for (const listener of listeners.slice(0, 3)) listener.close();
  assert.equal(pod.inbound(8080), "lost");
  assert.notEqual(listeners[3]!.accept(), undefined);
});

Deno.test("eBPF engine: the check of the init container kuma-validation passes", () => {
  using pod = new TestPod();
  pod.capture();
  pod.lab.stopListening();
  const problems = pod.asProcess(() =>
    withRealUser(SIDECAR, () => validateRedirection({ families: ["ipv4", "ipv6"] }))
  );
  assert.deepEqual(problems, []);
});

Deno.test("eBPF engine: fails closed: without a listening sidecar nothing reaches the application", () => {
  using pod = new TestPod();
  const ruleset = pod.ruleset();
  pod.lab.inPod(() => pod.engine().apply(ruleset));
  // The application's listeners are those from before: no sidecar has been seen.
  assert.equal(pod.inbound(8080), "refused");
  assert.equal(readCounters(pod.cgroup.path)?.refused, 1);
  pod.lab.listenAgain();
  assert.equal(pod.inbound(8080), "pod:15006");
  const counters = readCounters(pod.cgroup.path)!;
  assert.deepEqual([counters.inbound, counters.refused, counters.lost], [1, 1, 0]);
});

Deno.test("eBPF engine: the sidecar stops and starts: refused meanwhile, found again afterwards", () => {
  using pod = new TestPod();
  pod.capture();
  for (let round = 0; round < 3; round++) {
    assert.equal(pod.inbound(8080), "pod:15006");
    pod.lab.stopListening();
    assert.equal(pod.inbound(8080), "refused");
    assert.equal(pod.outbound(APP, PEER.ipv4), "refused");
    pod.lab.listenAgain();
  }
  assert.equal(pod.inbound(8080, "ipv6"), "pod:15006");
  assert.equal(pod.outbound(APP, PEER.ipv6), "pod:15001");
});

Deno.test("eBPF engine: failed connections leave no entry behind", () => {
  using pod = new TestPod();
  pod.capture();
  pod.lab.stopListening();
  for (let index = 0; index < 100; index++) {
    assert.equal(pod.outbound(APP, index % 2 === 0 ? PEER.ipv4 : PEER.ipv6), "refused");
  }
  assert.equal(pod.inFlight(), 0);
  pod.lab.listenAgain();
  for (let index = 0; index < 20; index++) {
    assert.equal(pod.outbound(APP, PEER.ipv4), "pod:15001");
  }
  assert.equal(pod.inFlight(), 0);
});

Deno.test("eBPF engine: nothing is left of an apply that fails", () => {
  using pod = new TestPod();
  const before = pod.hasPassthroughAddress();
  const pinFolder = "/proc/self/kuma-cni/not-a-bpffs";
  const engine = pod.engine({ pinFolder, inbound: "sk_lookup" });
  assert.throws(() => pod.lab.inPod(() => engine.apply(pod.ruleset())), (error: unknown) => {
    assert.ok(error instanceof EngineError);
    assert.match(error.message, /^Cannot install the programs of eBPF: .*folder/);
    return true;
  });
  assert.deepEqual(pod.objects(), { programs: [], maps: [] });
  assert.deepEqual([pod.nftables(), pod.hasPassthroughAddress()], [0, before]);
});

Deno.test("eBPF engine: without a BPF file system nftables redirects what comes in", () => {
  using pod = new TestPod();
  const engine = pod.engine({ pinFolder: "/proc/self/kuma-cni/not-a-bpffs" });
  const ruleset = pod.ruleset();
  const { backend, notes } = pod.lab.inPod(() => engine.apply(ruleset));
  assert.equal(backend, "nftables");
  assert.match(notes.join(), /Incoming connections are redirected by nftables: .*folder/);
  pod.lab.listenAgain();
  assert.equal(pod.inbound(8080), "pod:15006");
  assert.equal(pod.outbound(APP, PEER.ipv4), "pod:15001");
  assert.deepEqual(pod.lab.inPod(() => engine.verify(ruleset)), []);
  assert.ok(pod.nftables() > 0);

  // The way of a usual node takes over, and nothing of the other one stays.
  pod.capture();
  assert.equal(pod.nftables(), 0);
  assert.equal(pod.inbound(8080), "pod:15006");
  assert.deepEqual(pod.lab.inPod(() => pod.engine().verify(ruleset)), []);
});

Deno.test("eBPF engine: takes over from nftables, and nftables from it", () => {
  using pod = new TestPod();
  const [nftables, ruleset] = [new NftablesEngine(), pod.ruleset()];
  pod.lab.inPod(() => nftables.apply(ruleset));
  pod.capture();
  assert.equal(pod.nftables(), 0);
  assert.equal(pod.outbound(APP, PEER.ipv4), "pod:15001");
  pod.lab.inPod(() => {
    nftables.apply(ruleset);
    pod.engine().remove();
  });
  assert.deepEqual(pod.objects().programs, []);
  assert.equal(pod.outbound(APP, PEER.ipv4), "pod:15001");
  assert.equal(pod.inbound(8080), "pod:15006");
});

Deno.test("eBPF engine: a configuration changes under a running pod, listeners stay known", () => {
  using pod = new TestPod();
  pod.capture();
  const changed = {
    ...usual,
    outbound: { ...usual.outbound, excludePorts: [80] },
    inbound: { ...usual.inbound, excludePorts: [8080] },
  };
  pod.lab.inPod(() => pod.engine().apply(pod.ruleset(changed)));
  assert.equal(pod.outbound(APP, PEER.ipv4), "peer:80");
  assert.deepEqual([pod.inbound(8080), pod.inbound(9001)], ["pod:8080", "pod:15006"]);
  // DNS is switched off: its programs go.
  const { programs } = pod.objects();
  pod.lab.inPod(() =>
    pod.engine().apply(pod.ruleset({ ...usual, dns: defaultRedirectConfig.dns }))
  );
  assert.equal(pod.objects().programs.length, programs.length - 4);
});

Deno.test("eBPF engine: another folder of pins takes over, and one program decides", () => {
  using pod = new TestPod();
  pod.capture();
  const other = pod.engine({ pinFolder: pinFolderOf(pod.bpffs.path, "sandbox-2") });
  pod.lab.inPod(() => other.apply(pod.ruleset()));
  assert.equal(pod.objects().programs.length, PROGRAM_NAMES.length + 1);
  assert.equal(pod.inbound(8080), "pod:15006");
  assert.deepEqual(pod.lab.inPod(() => other.verify(pod.ruleset())), []);
  assert.equal(unpin(pod.pinFolder), true);
  assert.equal(pod.inbound(8080), "pod:15006");
});

Deno.test("eBPF engine: two pods with the same addresses do not know of each other", () => {
  using first = new TestPod();
  using second = new TestPod();
  first.capture();
  second.capture({ ...usual, outbound: { ...usual.outbound, excludePorts: [80] } });
  assert.deepEqual([first, second].map((pod) => pod.outbound(APP, PEER.ipv4)), [
    "pod:15001",
    "peer:80",
  ]);
  assert.deepEqual([first, second].map((pod) => pod.inbound(8080)), ["pod:15006", "pod:15006"]);
  first.lab.inPod(() => first.engine().remove());
  assert.deepEqual([first, second].map((pod) => pod.inbound(8080)), ["pod:8080", "pod:15006"]);
});

Deno.test(
  "eBPF engine: lives beside a program at the parent that allows others, and says so when it does not",
  () => {
    for (
      const [place, multi] of [["connect4", true], ["connect4", false], [
        "getsockopt",
        false,
      ]] as const
    ) {
      using parent = new PodCgroup();
      using _ = multi ? attachBeside(parent.path, place) : attachAlone(parent.path, place);
      using pod = new TestPod(parent.path);
      const ruleset = pod.ruleset();
      if (multi) {
        pod.capture();
        assert.equal(pod.outbound(APP, PEER.ipv4), "pod:15001");
        assert.deepEqual(pod.lab.inPod(() => pod.engine().verify(ruleset)), []);
        continue;
      }
      const before = pod.hasPassthroughAddress();
      assert.throws(
        () => pod.lab.inPod(() => pod.engine().apply(ruleset)),
        /EPERM .*parent of the pod's cgroup must allow others below/,
      );
      assert.deepEqual(pod.objects(), { programs: [], maps: [] });
      assert.deepEqual([pod.nftables(), pod.hasPassthroughAddress()], [0, before]);
      assert.deepEqual(sweepPins(pod.bpffs.path), []);
      assert.equal(pod.outbound(APP, PEER.ipv4), "peer:80");
    }
  },
);

Deno.test("eBPF engine: an apply that fails half-way leaves the earlier programs in force", () => {
  using parent = new PodCgroup();
  using pod = new TestPod(parent.path);
  pod.capture();
  const changed = pod.ruleset({
    ...usual,
    outbound: { ...usual.outbound, excludePorts: [80] },
    inbound: { ...usual.inbound, excludePorts: [8080] },
  });
  // The last of the places refuses, when all others have got their new programs.
  using _ = attachAlone(parent.path, "getsockopt");
  assert.throws(() => pod.lab.inPod(() => pod.engine().apply(changed)), /EPERM/);
  assert.deepEqual(pod.lab.inPod(() => pod.engine().verify(pod.ruleset())), []);
  assert.deepEqual([pod.outbound(APP, PEER.ipv4), pod.inbound(8080)], ["pod:15001", "pod:15006"]);
});

Deno.test("eBPF engine: a pod that is deleted under load leaves no program, map or pin", async () => {
  using bpffs = new BpfFileSystem();
  const pinFolder = pinFolderOf(bpffs.path, "sandbox-2");
  let objects: { programs: number[]; maps: number[] };
  {
    using pod = new TestPod();
    pod.capture(usual, pod.engine({ pinFolder }));
    objects = pod.objects();
    assert.ok(objects.programs.length === PROGRAM_NAMES.length + 1 && objects.maps.length === 5);
    const load = pod.asProcess(() =>
      new Deno.Command("bash", { args: ["-c", LOAD], stdout: "null", stderr: "null" }).spawn()
    );
    try {
      const busy = () => readCounters(pod.cgroup.path)!.outbound > 20;
      await waitFor(busy);
      assert.ok(busy(), "nothing is going on");
      assert.deepEqual(sweepPins(bpffs.path).map(({ removed }) => removed), [false]);
    } finally {
      load.kill("SIGKILL");
      await load.status;
    }
  }
  // The kernel tells of the namespace's end when it has cleaned up.
  await waitFor(() => sweepPins(bpffs.path)[0]?.removed ?? true);
  assert.deepEqual(sweepPins(bpffs.path), []);
  assert.equal(unpin(pinFolder), false);
  await assertGone(objects);
});

Deno.test("eBPF engine: container IDs name no other folder of pins", () => {
  assert.throws(() => pinFolderOf("/sys/fs/bpf", "../x"), TypeError);
});

Deno.test("eBPF engine: a new sandbox in the pod's cgroup starts anew", () => {
  using first = new TestPod();
  first.capture();
  const before = first.objects();
  using second = new TestPod();
  const engine = second.engine({ cgroup: first.cgroup.path });
  second.lab.inPod(() => engine.apply(second.ruleset()));
  using cgroup = openForReading(first.cgroup.path);
  using installed = readInstalled(cgroup);
  assert.equal(installed.all.length, PROGRAM_NAMES.length);
  assert.ok([...installed.mapIds].every((id) => !before.maps.includes(id)), "listeners of another");
});

Deno.test("eBPF engine: 16 threads: the sidecar is told each original destination", () => {
  using pod = new TestPod();
  pod.capture();
  pod.lab.stopListening();
  const script = new URL("./support/ebpf_stress.ts", import.meta.url).pathname;
  const { stdout, success, stderr } = pod.asProcess(() =>
    new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", script, "16", "1500"],
      stdout: "piped",
      stderr: "piped",
    }).outputSync()
  );
  assert.ok(success, new TextDecoder().decode(stderr));
  assert.deepEqual(JSON.parse(new TextDecoder().decode(stdout)), { right: 24000, wrong: [] });
  assert.equal(pod.inFlight(), 0);
  assert.equal(readCounters(pod.cgroup.path)?.lost, 0);
});

Deno.test("eBPF engine: a cgroup without its programs has counted nothing, which is not 0", () => {
  using cgroup = new PodCgroup();
  assert.equal(readCounters(cgroup.path), undefined);
});
