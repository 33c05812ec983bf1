/** Drift of pods of the engine `ebpf`: found and put back by the sweep, and never another sandbox's. */
import "./support/load_libc.ts";
import assert from "node:assert/strict";
import { Ledger } from "../installer/ledger/ledger.ts";
import { isLastWord } from "../installer/ledger/early_decision.ts";
import { lookAtSandbox } from "../installer/ledger/look.ts";
import type { PodEvent } from "../installer/ledger/pod_events.ts";
import { Sweep } from "../installer/ledger/sweep.ts";
import type { LedgerEntry } from "../src/ledger/entry.ts";
import { unpin } from "../src/engine/ebpf/ebpf_engine.ts";
import { addAddress, getLink } from "../src/linux/addresses.ts";
import { Dice } from "./support/damage.ts";
import { attachBeside } from "./support/foreign_bpf.ts";
import { ledgerEntry } from "./support/ledger_entries.ts";
import { nftScript } from "./support/nft.ts";
import { driftsOf } from "./support/program_drift.ts";
import { ProgrammedPod } from "./support/programmed_pod.ts";

const options = { sanitizeResources: false }; // Engines load libraries when they first need them.

for (const way of ["sk_lookup", "nftables"] as const) {
  Deno.test(
    `ebpf, incoming by ${way}: each drift is found, only told of without repair, and put back`,
    options,
    () => {
      using pod = new ProgrammedPod(way);
      pod.capture();
      const entry = pod.entry();
      const right = pod.listing();
      const look = (repair = false) =>
        lookAtSandbox(pod.namespace.path, entry, { repair, ebpfOf: pod.ebpfOf });
      assert.deepEqual(look(), { kind: "equal" });
      const dice = new Dice(7);
      const maps = () => pod.withPrograms(({ mapIds }) => new Set(mapIds));
      for (const [name, drift] of Object.entries(driftsOf(pod))) {
        const before = maps();
        const what = `${name}: ${drift(pod, dice)}`;
        const kept = maps().intersection(before);
        const drifted = pod.listing();
        assert.notEqual(drifted, right, what);
        assert.equal(look().kind, "drifted", what);
        assert.equal(pod.listing(), drifted, `${what}: a report changes nothing`);
        assert.equal(look(true).kind, "repaired", what);
        assert.equal(pod.listing(), right, what);
        assert.ok(kept.isSubsetOf(maps()), `${what}: listeners would be forgotten`);
        assert.deepEqual(look(), { kind: "equal" }, what);
      }
    },
  );
}

Deno.test(
  "Whichever program has maps of its own, the pod's stay those of the others",
  options,
  () => {
    using pod = new ProgrammedPod("sk_lookup");
    pod.capture();
    const entry = pod.entry();
    const right = pod.listing();
    const maps = () => pod.withPrograms(({ mapIds }) => new Set(mapIds));
    const drift = driftsOf(pod)["a program has maps of its own"]!;
    const seen = new Set<string>();
    for (let seed = 1; seen.size < 10 && seed < 200; seed++) {
      const before = maps();
      const name = drift(pod, new Dice(seed));
      seen.add(name);
      const kept = maps().intersection(before);
      const look = lookAtSandbox(pod.namespace.path, entry, { repair: true, ebpfOf: pod.ebpfOf });
      assert.equal(look.kind, "repaired", name);
      assert.equal(pod.listing(), right, name);
      // Else what it knows of listeners and connections would be lost.
      assert.ok(kept.isSubsetOf(maps()), name);
    }
    assert.equal(seen.size, 10);
  },
);

Deno.test("What others attach or install beside the programs is no drift", options, () => {
  using pod = new ProgrammedPod("sk_lookup");
  pod.capture();
  const entry = pod.entry();
  using _connect = attachBeside(pod.kubelet.pod.path, "connect4");
  using _getsockopt = attachBeside(pod.kubelet.pod.path, "getsockopt");
  nftScript(pod.namespace, "table inet monitoring {\n chain input {\n counter\n }\n}\n");
  const before = pod.listing();
  for (const repair of [false, true]) {
    const look = lookAtSandbox(pod.namespace.path, entry, { repair, ebpfOf: pod.ebpfOf });
    assert.deepEqual(look, { kind: "equal" });
  }
  assert.equal(pod.listing(), before);
});

Deno.test(
  "An address that came later is told of, since programs know only those that they were told",
  options,
  () => {
    using pod = new ProgrammedPod("sk_lookup");
    pod.capture();
    const look = (repair: boolean) =>
      lookAtSandbox(pod.namespace.path, pod.entry(), { repair, ebpfOf: pod.ebpfOf });
    pod.namespace.run(() => addAddress(getLink("lo").index, "10.90.0.8", 32));
    const seen = look(false);
    assert.ok(seen.kind === "drifted");
    assert.deepEqual(seen.differences, [
      { kind: "missing", object: "address 10.90.0.8 in BPF map kuma_addresses" },
    ]);
    assert.equal(look(true).kind, "repaired");
    assert.deepEqual(look(false), { kind: "equal" });
  },
);

Deno.test(
  "Programs of the pod's next sandbox are never those of an old entry's repair",
  options,
  () => {
    using pod = new ProgrammedPod("sk_lookup");
    pod.capture();
    const old = pod.entry();
    const next = pod.sandboxNamespace();
    unpin(pod.pinFolder);
    pod.capture(next);
    const before = pod.listing(next);
    const look = lookAtSandbox(pod.namespace.path, old, { repair: true, ebpfOf: pod.ebpfOf });
    assert.ok(look.kind === "drifted", look.kind);
    assert.match(look.notRepaired ?? "", /those of another sandbox/);
    assert.equal(pod.listing(next), before);
    // While the next sandbox has no programs yet, only the ledger tells that the old one is over.
    pod.withPrograms(() => {}, next);
    for (const isLast of [false, true]) {
      using fresh = new ProgrammedPod("nftables");
      const entry = fresh.entry();
      const look = lookAtSandbox(fresh.namespace.path, entry, {
        repair: true,
        isLast: () => isLast,
        ebpfOf: fresh.ebpfOf,
      });
      assert.equal(look.kind, isLast ? "repaired" : "drifted");
    }
  },
);

Deno.test("An entry is the last word while it stands and no other sandbox of its pod is later", () => {
  const entry = ledgerEntry({ sandbox: "s1" });
  const later = (more: Partial<LedgerEntry>): LedgerEntry => ({
    ...entry,
    sandbox: "s2",
    time: entry.time + 1,
    ...more,
  });
  assert.equal(isLastWord(entry, [entry]), true);
  assert.equal(isLastWord(entry, []), false, "its DEL has come");
  assert.equal(isLastWord(entry, [{ ...entry, time: entry.time + 1 }]), false, "another ADD");
  assert.equal(isLastWord(entry, [entry, later({})]), false);
  assert.equal(isLastWord(entry, [entry, later({ time: entry.time - 1 })]), true);
  assert.equal(isLastWord(entry, [entry, later({ podUid: "uid-2" })]), true);
  assert.equal(isLastWord(entry, [entry, later({ sandbox: "s1", interfaceName: "net1" })]), true);
  const { podUid: _, ...nameless } = later({});
  assert.equal(isLastWord(entry, [entry, nameless]), false, "then the name counts");
});

Deno.test(
  "The sweep looks at pods of every engine, once what it takes is loaded, and tells of each",
  options,
  async () => {
    const folder = await Deno.makeTempDir({ prefix: "kuma-drift-" });
    await using _folder = {
      [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
    };
    using pod = new ProgrammedPod("sk_lookup");
    pod.capture();
    const ledger = new Ledger(folder);
    ledger.put(pod.entry());
    const told: PodEvent[] = [];
    const counted: string[] = [];
    let isLoaded = false;
    let time = 0;
    const sweep = new Sweep(10, {
      ledger,
      log: { info: () => {}, warn: () => {} },
      look: (entry) =>
        isLoaded
          ? lookAtSandbox(entry.netns, entry, {
            repair: told.length > 0,
            isLast: () => isLastWord(entry, ledger.read().entries),
            ebpfOf: pod.ebpfOf,
          })
          : undefined,
      checked: (result) => void counted.push(result),
      tell: (_, event) => void told.push(event),
      now: () => Date.now(),
      clock: () => time,
    });
    const round = () => {
      for (const end = time + 70_000; time < end; time += 1000) sweep.tick();
    };
    round();
    assert.deepEqual(counted, [], "nothing is counted that was not looked at");
    isLoaded = true;
    round();
    assert.deepEqual([...new Set(counted)], ["equal"]);
    const right = pod.listing();
    driftsOf(pod)["a program is detached"]!(pod, new Dice(3));
    round();
    assert.deepEqual(told.map(({ reason }) => reason), ["RulesDrifted", "RulesRepaired"]);
    assert.match(told[0]!.message, /missing "BPF program kuma_/);
    assert.equal(pod.listing(), right);
    assert.equal(sweep.drifted, 0);
  },
);
