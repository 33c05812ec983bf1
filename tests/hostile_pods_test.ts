/** What a pod's author can do to the look after running pods: nothing to others, and not much to its time. */
import "./support/load_libc.ts";
import assert from "node:assert/strict";
import { isAbout } from "../installer/ledger/early_decision.ts";
import { EarlyPods } from "../installer/ledger/early_pods.ts";
import { type EarlyWork, lookAtSandbox } from "../installer/ledger/look.ts";
import type { PodEvent } from "../installer/ledger/pod_events.ts";
import type { NodePod } from "../installer/ledger/pod_life.ts";
import { type SeenProcess, seeProcess, seeProcesses } from "../installer/ledger/processes.ts";
import { proveNamespace } from "../installer/ledger/proof.ts";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import type { LedgerEntry } from "../src/ledger/entry.ts";
import { networkNamespaceIdentity } from "../src/linux/namespace_identity.ts";
import { NetlinkSocket } from "../src/linux/netlink.ts";
import { decideForPod } from "../src/pod/decide.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { ledgerEntry } from "./support/ledger_entries.ts";
import { nftScript } from "./support/nft.ts";
import { PodNode, type RunningPod } from "./support/running_pod.ts";
import { createNamespace, type NamedNamespace } from "./support/topology.ts";

const own = new Set([seeProcess(Deno.pid)!.namespace!]);

function doubtOf(proof: ReturnType<typeof proveNamespace>): string {
  return "doubt" in proof ? proof.doubt : `no doubt: ${JSON.stringify(proof)}`;
}

/** Starts a process in a namespace whose first thread ends, so that it looks dead and is not. */
async function startHeadless({ path }: NamedNamespace): Promise<Deno.ChildProcess> {
  const script = `
    setInterval(() => {}, 1000);
    new Worker("data:application/javascript,setInterval(() => {}, 1000)", { type: "module" });
    const number = { x86_64: 60n, aarch64: 93n }[Deno.build.arch];
    const { syscall } = Deno.dlopen("libc.so.6", {
      syscall: { parameters: ["isize", "i32"], result: "isize" },
    }).symbols;
    console.log();
    syscall(number, 0);`;
  const file = await Deno.makeTempFile({ suffix: ".js" });
  await Deno.writeTextFile(file, script);
  const child = new Deno.Command("nsenter", {
    args: [`--net=${path}`, Deno.execPath(), "run", "--quiet", "-A", file],
    stdout: "piped",
    stdin: "null",
    stderr: "null",
  }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  reader.releaseLock();
  const isZombie = () => /\) Z /.test(Deno.readTextFileSync(`/proc/${child.pid}/stat`));
  for (let tries = 0; !isZombie() && tries < 200; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.ok(isZombie(), "its first thread has ended");
  await Deno.remove(file);
  return child;
}

Deno.test("A process whose first thread has ended is a stranger all the same", async () => {
  await using node = new PodNode();
  const pod = await node.pod("10.99.30.1");
  const prove = () => proveNamespace(pod.object(), [pod.object()], seeProcesses(), own);
  assert.ok(!("doubt" in prove()));
  const child = await startHeadless(pod.namespace);
  try {
    assert.match(doubtOf(prove()), new RegExp(`process ${child.pid}, which is not the pod's`));
  } finally {
    child.kill("SIGKILL");
    await child.stdout.cancel();
    await child.status;
  }
  assert.ok(!("doubt" in prove()));
});

Deno.test("A container that kubelet has not told of is no sandbox where the runtime's results are seen", async () => {
  await using node = new PodNode();
  const pod = await node.pod("10.99.31.1");
  const prove = (hasResult: (sandbox: string) => boolean) =>
    proveNamespace(pod.object(), [pod.object()], seeProcesses(), own, hasResult);
  assert.ok(!("doubt" in prove((sandbox) => sandbox === pod.sandbox)));
  assert.match(doubtOf(prove(() => false)), /it is no sandbox/);
});

Deno.test("An address is the same in whatever form another pod has it", async () => {
  await using node = new PodNode();
  const [one, two] = [await node.pod("fd99::1"), await node.pod("fd99::2")];
  const other = two.object({ ips: ["fd99:0:0::0001"] });
  const proof = proveNamespace(one.object(), [one.object(), other], seeProcesses(), own);
  assert.match(doubtOf(proof), /has the same address/);
});

Deno.test("What an annotation calls a pod counts for mirrors of static pods alone", async () => {
  await using node = new PodNode();
  const [victim, liar] = [await node.pod("10.99.32.1"), await node.pod("10.99.32.2")];
  const entry = ledgerEntry({ podUid: victim.uid });
  const withAnnotations = ({ pod, life }: NodePod, annotations: Record<string, string>) => ({
    pod: { ...pod, annotations: { ...pod.annotations, ...annotations } },
    life,
  });
  const hash = { "kubernetes.io/config.hash": victim.uid };
  assert.equal(isAbout(entry, victim.object()), true);
  assert.equal(isAbout(entry, withAnnotations(liar.object(), hash)), false);
  const mirror = { ...hash, "kubernetes.io/config.mirror": victim.uid };
  assert.equal(isAbout(entry, withAnnotations(liar.object(), mirror)), true);
});

/** A search on a clock of the test, in which a look at all processes takes some time. */
class Search {
  time = 0;
  looks = 0;
  pods: readonly NodePod[] = [];
  entries: LedgerEntry[] = [];
  readonly told: PodEvent[] = [];
  readonly worked: string[] = [];
  processes = (): readonly SeenProcess[] => [];
  hasNamespace: boolean | undefined;
  readonly #early: EarlyPods;

  constructor(takes: number) {
    this.#early = new EarlyPods({
      mode: "waiting",
      ledger: {
        read: () => ({ entries: this.entries, unreadable: [] }),
        put: (entry) => void this.entries.push(entry),
      },
      log: { info: () => {}, warn: () => {} },
      pods: () => this.pods,
      decide: ({ pod }) => decideForPod(pod, { allowPodSettings: new Set(), resolvers: [] }),
      processes: () => {
        this.looks++;
        this.time += takes;
        return this.processes();
      },
      hasResult: () => undefined,
      hasNamespace: () => this.hasNamespace,
      ownNamespaces: () => own,
      work: (proven): EarlyWork => {
        this.worked.push(proven.sandbox);
        return { kind: "doubt", doubt: "the test says so" };
      },
      counted: () => {},
      tell: (_, event) => void this.told.push(event),
      clock: () => this.time,
    });
  }

  run(seconds: number): void {
    for (const end = this.time + seconds * 1000; this.time < end; this.time += 1000) {
      this.#early.tick();
    }
  }
}

function podsOf(pod: RunningPod, count: number): NodePod[] {
  return Array.from({ length: count }, (_, i) => {
    const { pod: object, life } = pod.object({ ips: [`10.98.0.${i + 1}`] });
    return { pod: { ...object, uid: crypto.randomUUID(), name: `app-${i}` }, life };
  });
}

Deno.test("Many pods that cannot be proven, and many processes, take a bounded share of the time", async () => {
  await using node = new PodNode();
  const template = await node.pod("10.99.33.1");
  const search = new Search(300);
  search.pods = podsOf(template, 50);
  search.run(60);
  assert.ok(search.looks * 300 <= 60_000 / 20 + 300, `${search.looks} looks in the first minute`);
  search.run(240);
  const before = search.looks;
  search.run(3600);
  const spent = (search.looks - before) * 300;
  assert.ok(spent <= 3600 + 300, `${spent} ms of an hour`);
  assert.ok(spent > 0, "and it goes on");
  // One that has just come does not wait for what the others have taken.
  search.pods = [...search.pods, ...podsOf(template, 1)];
  const looks = search.looks;
  search.run(10);
  assert.ok(search.looks > looks);
});

Deno.test("More processes than are looked at prove nothing, and that is said", async () => {
  await using node = new PodNode();
  const template = await node.pod("10.99.34.1");
  const search = new Search(0);
  search.pods = podsOf(template, 1);
  search.processes = () => seeProcesses(1);
  search.run(60);
  assert.match(
    search.told[0]?.message ?? "",
    /The node has \d+ processes, of which 1 are looked at/,
  );
  assert.deepEqual(search.worked, []);
  assert.equal(search.told.filter(({ reason }) => reason !== "NotRepaired").length, 0);
});

Deno.test("A sandbox that was made anew without the plugin is found, whatever the ledger has of the old", async () => {
  await using node = new PodNode();
  const pod = await node.pod("10.99.35.1");
  const search = new Search(0);
  search.pods = [pod.object()];
  search.entries = [ledgerEntry({ podUid: pod.uid, netns: "/run/netns/old" })];
  search.processes = () => seeProcesses();
  search.hasNamespace = true;
  search.run(10);
  assert.deepEqual(search.worked, []);
  search.hasNamespace = false;
  search.run(70);
  assert.ok(search.worked.length > 0 && search.worked.every((one) => one === pod.sandbox));
});

Deno.test("While a sandbox has no process yet nobody is alarmed, afterwards it is told", async () => {
  await using node = new PodNode();
  const search = new Search(0);
  search.pods = podsOf(await node.pod("10.99.36.1"), 1);
  search.run(3);
  assert.ok(search.looks > 0);
  assert.equal(search.told.length, 0);
  search.run(10);
  const [event] = search.told.splice(0);
  assert.match(event?.message ?? "", /no process of it is seen/);
});

Deno.test("Large sets in our table, named in many rules, are read once, and not all of them", () => {
  using namespace = createNamespace();
  const identity = namespace.run(() => {
    new NftablesEngine().apply(compileRuleset(defaultRedirectConfig, readNamespaceFacts()));
    return networkNamespaceIdentity();
  });
  const elements = Array.from({ length: 4000 }, (_, i) => 2 * i + 1).join(",");
  const names = Array.from({ length: 4 }, (_, i) => `big${i}`);
  nftScript(
    namespace,
    "add set inet kuma_mesh small { type inet_service; }\n" +
      "add element inet kuma_mesh small { 80, 443 }\n" +
      "add rule inet kuma_mesh KUMA_MESH_OUTBOUND tcp dport @small accept\n".repeat(50),
  );
  nftScript(
    namespace,
    names.map((name) =>
      `add set inet kuma_mesh ${name} { type inet_service; }\n` +
      `add element inet kuma_mesh ${name} { ${elements} }\n` +
      `add rule inet kuma_mesh KUMA_MESH_OUTBOUND tcp dport @${name} accept\n`.repeat(5)
    ).join(""),
  );
  const entry = ledgerEntry({ netns: namespace.path, namespace: identity });
  const { dump } = NetlinkSocket.prototype;
  const read: string[] = [];
  NetlinkSocket.prototype.dump = function (attempt, build) {
    if (attempt.startsWith("Cannot read the set")) read.push(attempt);
    return dump.call(this, attempt, build);
  };
  try {
    assert.equal(lookAtSandbox(namespace.path, entry).kind, "drifted");
  } finally {
    NetlinkSocket.prototype.dump = dump;
  }
  assert.equal(new Set(read).size, read.length, "each once");
  assert.ok(read.length > 0 && read.length < names.length, `${read.length} sets`);
  assert.equal(lookAtSandbox(namespace.path, entry, { repair: true }).kind, "repaired");
  assert.deepEqual(lookAtSandbox(namespace.path, entry), { kind: "equal" });
});
