/** Drift of running pods: found, told, put back on request, and never in a wrong namespace. */
import "./support/load_libc.ts";
import assert from "node:assert/strict";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { hasNamespaceFile, type Look, lookAtSandbox } from "../installer/ledger/look.ts";
import type { PodEvent } from "../installer/ledger/pod_events.ts";
import { Sweep } from "../installer/ledger/sweep.ts";
import type { LedgerEntry } from "../src/ledger/entry.ts";
import { getLink, removeAddress } from "../src/linux/addresses.ts";
import { isSameIdentity, networkNamespaceIdentity } from "../src/linux/namespace_identity.ts";
import { withNetworkNamespace } from "../src/linux/network_namespace.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { repairDrifts } from "./support/drift_repair.ts";
import { BACKENDS, saved, tool, toolName } from "./support/iptables.ts";
import { ledgerEntry } from "./support/ledger_entries.ts";
import { namespaceState } from "./support/namespace_state.ts";
import { createNamespace, type NamedNamespace } from "./support/topology.ts";

function identityOf({ path }: NamedNamespace) {
  return withNetworkNamespace(path, networkNamespaceIdentity);
}

function stateOf({ path }: NamedNamespace): string {
  return withNetworkNamespace(path, namespaceState);
}

function capture({ path }: NamedNamespace): void {
  withNetworkNamespace(path, () => {
    new NftablesEngine().apply(compileRuleset(defaultRedirectConfig, readNamespaceFacts()));
  });
}

Deno.test("Two namespaces at one path have two identities, also when the kernel gives the number anew", () => {
  const seen: ReturnType<typeof networkNamespaceIdentity>[] = [];
  for (let i = 0; i < 5; i++) {
    using namespace = createNamespace();
    const identity = identityOf(namespace);
    assert.ok(isSameIdentity(identity, identityOf(namespace)));
    for (const earlier of seen) {
      assert.equal(isSameIdentity(identity, earlier), false);
      // What makes the difference where the inode is the same: a kernel since 5.14 has it.
      assert.notEqual(identity.cookie, earlier.cookie);
    }
    seen.push(identity);
  }
});

Deno.test("With REPAIR=report a drifted pod is told of and not touched, with repair it is put back", () => {
  using namespace = createNamespace();
  capture(namespace);
  const entry = ledgerEntry({ netns: namespace.path, namespace: identityOf(namespace) });
  assert.deepEqual(lookAtSandbox(namespace.path, entry), { kind: "equal" });
  withNetworkNamespace(namespace.path, () => new NftablesEngine().remove());
  const before = stateOf(namespace);
  assert.equal(lookAtSandbox(namespace.path, entry).kind, "drifted");
  assert.equal(stateOf(namespace), before);
  assert.equal(lookAtSandbox(namespace.path, entry, { repair: true }).kind, "repaired");
  assert.deepEqual(lookAtSandbox(namespace.path, entry, { repair: true }), { kind: "equal" });
});

Deno.test("Another namespace at the path of the ledger is never touched", () => {
  using namespace = createNamespace();
  using other = createNamespace();
  const before = stateOf(namespace);
  const identity = identityOf(namespace);
  const strangers = [
    { ...identity, cookie: "1" },
    { ...identity, inode: identity.inode + 1 },
    { ...identity, boot: "00000000-0000-0000-0000-000000000000" },
    identityOf(other),
  ];
  const { cookie: _, ...withoutCookie } = identity;
  for (const stranger of [...strangers, withoutCookie]) {
    const entry = ledgerEntry({ netns: namespace.path, namespace: stranger });
    assert.deepEqual(lookAtSandbox(namespace.path, entry, { repair: true }), { kind: "gone" });
  }
  assert.equal(stateOf(namespace), before);
});

Deno.test("A namespace that is gone is told apart from one that cannot be seen", async () => {
  const namespace = createNamespace();
  const entry = ledgerEntry({ netns: namespace.path, namespace: identityOf(namespace) });
  namespace[Symbol.dispose]();
  assert.deepEqual(lookAtSandbox(namespace.path, entry, { repair: true }), { kind: "gone" });
  assert.equal(hasNamespaceFile(namespace.path), false);
  const folder = await Deno.makeTempDir({ prefix: "kuma-drift-" });
  try {
    const unseen = [`${folder}/not-mounted/cni-1`, `${folder}/plain`];
    Deno.writeTextFileSync(`${folder}/plain`, "");
    for (const path of unseen) {
      assert.equal(lookAtSandbox(path, entry, { repair: true }).kind, "unseen", path);
    }
    assert.equal(hasNamespaceFile(unseen[0]!), undefined);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  assert.equal(
    lookAtSandbox("/proc/self/ns/net", entry, { repair: true }).kind,
    "gone",
    "the node's own",
  );
  const ebpf = ledgerEntry({ engine: "another" });
  assert.equal(lookAtSandbox("/proc/self/ns/net", ebpf, { repair: true }).kind, "unseen");
});

Deno.test(
  "A hundred random drifts of every engine are found and put back, and what is none is not told of",
  {
    sanitizeResources: false, // Engines load libraries when they first need them.
  },
  () => {
    const { drifts, harmless } = repairDrifts(100, 1);
    assert.ok(Object.values(drifts).every((count) => count > 0), JSON.stringify(drifts));
    assert.ok(harmless > 0);
  },
);

Deno.test("Rules of iptables that nobody has changed are compared by the tools once, changed ones again", () => {
  for (const backend of BACKENDS) {
    using namespace = createNamespace();
    namespace.run(() => {
      const ruleset = compileRuleset(defaultRedirectConfig, readNamespaceFacts());
      new IptablesEngine({ backend }).apply(ruleset);
    });
    const entry = ledgerEntry({
      engine: "iptables",
      netns: namespace.path,
      namespace: identityOf(namespace),
    });
    const unchanged = new Map<string, string>();
    const { verify } = IptablesEngine.prototype;
    let compared = 0;
    IptablesEngine.prototype.verify = function (ruleset) {
      compared++;
      return verify.call(this, ruleset);
    };
    try {
      const look = (of = entry) => lookAtSandbox(namespace.path, of, { unchanged }).kind;
      const counted = () => namespace.run(() => saved("ipv4", backend, true));
      assert.deepEqual([look(), look(), compared], ["equal", "equal", 1], backend);
      const before = counted();
      const command = new Deno.Command("bash", { args: ["-c", ": < /dev/tcp/127.0.0.1/9"] });
      namespace.run(() => command.outputSync());
      assert.notEqual(counted(), before, "a packet was counted");
      assert.deepEqual([look(), compared], ["equal", 1], `${backend}: what counts is no change`);
      const config = { ...defaultRedirectConfig, sidecarUid: 1234 };
      const outcome = { ...entry.outcome, config } as LedgerEntry["outcome"];
      assert.deepEqual([look({ ...entry, outcome }), compared], ["drifted", 2], backend);
      const nat = (...args: string[]) =>
        namespace.run(() => tool(toolName("ipv6", backend), ["-w", "-t", "nat", ...args]));
      nat("-A", "KUMA_MESH_OUTBOUND", "-p", "udp", "-j", "RETURN");
      assert.deepEqual([look(), look(), compared], ["drifted", "drifted", 4], backend);
      nat("-D", "KUMA_MESH_OUTBOUND", "-p", "udp", "-j", "RETURN");
      assert.equal(look(), "equal");
      const line = namespace.run(() => saved("ipv6", backend)).split("\n")
        .find((line) => line.startsWith("-A KUMA_MESH_OUTBOUND_REDIRECT"))!;
      const replaceBy = (line: string) => {
        const script = line.replace(/^-A (\S+)/, "-R $1 1");
        const restore = toolName("ipv6", backend, "restore");
        namespace.run(() => tool(restore, ["--noflush"], `*nat\n${script}\nCOMMIT\n`));
      };
      replaceBy(line.replace("15001", "15002"));
      assert.equal(look(), "drifted", "by a rule of the same length");
      replaceBy(line);
      assert.equal(look(), "equal");
      namespace.run(() => removeAddress(getLink("lo").index, "::6", 128));
      assert.equal(look(), "drifted", "the address is looked at, too");
    } finally {
      IptablesEngine.prototype.verify = verify;
    }
  }
});

/** A sweep over a ledger of tests, on a clock of tests. */
class Trial {
  time = 0;
  readonly told: PodEvent[] = [];
  readonly lines: string[] = [];
  readonly looked: string[] = [];
  readonly removed: string[] = [];
  readonly sweep: Sweep;

  constructor(
    entries: readonly LedgerEntry[],
    look: (entry: LedgerEntry) => Look,
    { interval = 600, costs = 0 as number | ((entry: LedgerEntry) => number) } = {},
  ) {
    this.sweep = new Sweep(interval, {
      ledger: {
        read: () => ({ entries, unreadable: [] }),
        remove: ({ sandbox }: LedgerEntry) => void this.removed.push(sandbox),
      } as never,
      log: {
        info: (text) => void this.lines.push(text),
        warn: (text) => void this.lines.push(text),
      },
      look: (entry) => {
        this.looked.push(entry.sandbox);
        this.time += typeof costs === "number" ? costs : costs(entry);
        return look(entry);
      },
      checked: () => {},
      tell: (_, event) => void this.told.push(event),
      now: () => 1_764_000_000_000 + this.time,
      clock: () => this.time,
    });
  }

  run(seconds: number): this {
    const end = this.time + seconds * 1000;
    for (; this.time < end; this.time += 1000) this.sweep.tick();
    return this;
  }
}

const pods = Array.from({ length: 250 }, (_, i) => ledgerEntry({ sandbox: `s${i}` }));

Deno.test("Each of 250 pods is looked at once in an interval, one at a time", () => {
  const trial = new Trial(pods, () => ({ kind: "equal" })).run(60 + 650);
  assert.equal(new Set(trial.looked).size, 250);
  assert.ok(trial.looked.length < 300, `${trial.looked.length} looks`);
});

Deno.test("However long a look takes, it takes a thousandth of the time", () => {
  const trial = new Trial(pods, () => ({ kind: "equal" }), { costs: 50, interval: 1 }).run(3600);
  const spent = trial.looked.length * 50;
  assert.ok(spent <= 3600 * 1000 / 1000 + 50, `${spent} ms of an hour`);
  assert.ok(trial.looked.length > 60, "and it goes on");
});

Deno.test("Pods whose looks are slow hold up no others, and take their small share of the time", () => {
  const hostile = new Set(["s1", "s4", "s7"]);
  const costs = ({ sandbox }: LedgerEntry) => hostile.has(sandbox) ? 2000 : 2;
  const entries = pods.slice(0, 10);
  const trial = new Trial(entries, () => ({ kind: "equal" }), { costs }).run(24 * 3600);
  const looks = (sandbox: string) => trial.looked.filter((one) => one === sandbox).length;
  for (const { sandbox } of entries) {
    // Once in 600 s, but for what the first looks at slow pods have put off.
    if (!hostile.has(sandbox)) assert.ok(looks(sandbox) > 130, `${sandbox}: ${looks(sandbox)}`);
    else assert.ok(looks(sandbox) >= 1, sandbox);
  }
  const spent = trial.looked.reduce((sum, sandbox) => sum + (hostile.has(sandbox) ? 2000 : 2), 0);
  assert.ok(spent <= 24 * 3600 + 2000, `${spent} ms of a day`);
});

Deno.test("A drift is told of once, and its end too", () => {
  let look: Look = {
    kind: "drifted",
    differences: [{ kind: "missing", object: "table inet kuma_mesh" }],
  };
  const trial = new Trial([ledgerEntry()], () => look, { interval: 10 }).run(200);
  assert.deepEqual(trial.told.map(({ reason }) => reason), ["RulesDrifted"]);
  assert.match(trial.told[0]!.message, /missing "table inet kuma_mesh"/);
  assert.equal(trial.sweep.drifted, 1);
  look = { kind: "equal" };
  trial.run(30);
  assert.equal(trial.sweep.drifted, 0);
  assert.deepEqual(trial.lines.at(-1), "Rules are as they should be again");
});

Deno.test("Without the capabilities that is said once, and tried again every ten minutes", () => {
  const unseen: Look = { kind: "unseen", reason: "EPERM (operation not permitted)" };
  const trial = new Trial(pods, () => unseen).run(3600);
  assert.deepEqual(trial.lines, ["Rules of running pods are not compared"]);
  assert.ok(trial.looked.length <= 7, `${trial.looked.length} looks in an hour`);
  assert.match(trial.sweep.blindness ?? "", /EPERM/);
});

Deno.test("One pod that cannot be compared does not hold up the others, and is named once", () => {
  const look = ({ sandbox }: LedgerEntry): Look =>
    sandbox === "s3" ? { kind: "unseen", reason: "another engine" } : { kind: "equal" };
  const trial = new Trial(pods.slice(0, 10), look).run(1300);
  assert.equal(new Set(trial.looked).size, 10);
  assert.ok(trial.looked.filter((sandbox) => sandbox === "s3").length >= 2);
  assert.deepEqual(trial.lines, ["Rules of a pod cannot be compared"]);
});

Deno.test("An entry whose namespace is gone goes when its DEL has had its time", () => {
  const trial = new Trial([ledgerEntry()], () => ({ kind: "gone" }), { interval: 60 });
  assert.deepEqual(trial.run(300).removed, []);
  assert.ok(trial.run(600).removed.length > 0);
});
