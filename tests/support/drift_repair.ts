/** Many random changes of running pods' rules, of every engine, each found and put back. */
import assert from "node:assert/strict";
import { readNamespaceFacts } from "../../src/engine/choice/facts.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { IptablesEngine } from "../../src/engine/iptables/iptables_engine.ts";
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import { listAddresses } from "../../src/linux/addresses.ts";
import { networkNamespaceIdentity } from "../../src/linux/namespace_identity.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import { type Look, lookAtSandbox } from "../../installer/ledger/look.ts";
import { Dice } from "./damage.ts";
import { BACKENDS, saved, tool } from "./iptables.ts";
import { ledgerEntry } from "./ledger_entries.ts";
import { driftsOf } from "./program_drift.ts";
import { ProgrammedPod } from "./programmed_pod.ts";
import { doHarmless, driftIptables, driftNftables } from "./rule_drift.ts";
import { createNamespace } from "./topology.ts";

/** A captured pod. */
interface DriftingPod {
  readonly name: string;
  /** How many of 20 drifts are this pod's. */
  readonly share: number;
  /** Makes one change; returns it in words. */
  drift(dice: Dice): string;
  /** Makes one that is no drift. */
  harmless(dice: Dice): { readonly what: string; undo(): void };
  look(repair: boolean): Look;
  /** All that an apply makes, byte for byte, without what was counted. */
  listing(): string;
}

const config = {
  ...defaultRedirectConfig,
  outbound: { ...defaultRedirectConfig.outbound, excludePorts: [3306, 9092, 27017] },
};

/** What {@linkcode repairDrifts} has done. */
export interface RepairedDrifts {
  /** Drifts of each pod. */
  readonly drifts: Readonly<Record<string, number>>;
  /** Changes that were none, and that nobody was told of. */
  readonly harmless: number;
}

/**
 * Drifts so many times; after each, the rules are byte for byte those of a fresh apply.
 *
 * @param seed Of the changes; a message of a failure has it, and the change's number.
 */
export function repairDrifts(count: number, seed: number): RepairedDrifts {
  using stack = new DisposableStack();
  const dice = new Dice(seed);
  const pods = [
    podOfRules(stack, "nftables", 10, new NftablesEngine(), driftNftables),
    ...BACKENDS.map((backend) =>
      podOfRules(
        stack,
        `iptables, ${backend}`,
        3,
        new IptablesEngine({ backend }),
        (dice) => driftIptables(backend, dice),
      )
    ),
    ...(["sk_lookup", "nftables"] as const).map((way) => podOfPrograms(stack, way)),
  ];
  const lots = pods.flatMap((pod) => Array.from({ length: pod.share }, () => pod));
  const right = new Map(pods.map((pod) => [pod, pod.listing()]));
  const drifts = Object.fromEntries(pods.map(({ name }) => [name, 0]));
  let harmless = 0;
  for (let i = 0; i < count; i++) {
    const pod = dice.pick(lots);
    const wanted = right.get(pod);
    if (dice.once(10)) {
      const { what, undo } = pod.harmless(dice);
      assert.deepEqual(pod.look(true), { kind: "equal" }, `${pod.name}: ${what}, seed ${seed}`);
      undo();
      harmless++;
    }
    const what = pod.drift(dice);
    const label = `drift ${i} of seed ${seed}, ${pod.name}: ${what}`;
    const look = pod.look(true);
    assert.equal(look.kind, "repaired", label);
    assert.equal(pod.listing(), wanted, label);
    // Remembered from now on, where somebody remembers.
    assert.deepEqual(pod.look(true), { kind: "equal" }, label);
    drifts[pod.name]!++;
  }
  for (const pod of pods) assert.deepEqual(pod.look(false), { kind: "equal" }, pod.name);
  return { drifts, harmless };
}

function podOfRules(
  stack: DisposableStack,
  name: string,
  share: number,
  engine: Engine,
  drift: (dice: Dice) => string,
): DriftingPod {
  const namespace = stack.use(createNamespace());
  const identity = namespace.run(() => {
    engine.apply(compileRuleset(config, readNamespaceFacts()));
    return networkNamespaceIdentity();
  });
  const entry = ledgerEntry({
    config,
    engine: engine.name,
    netns: namespace.path,
    namespace: identity,
  });
  // As in the sweep: what a mark hid would be no drift here.
  const unchanged = new Map<string, string>();
  const inside = <T>(work: () => T) => namespace.run(work);
  return {
    name,
    share,
    drift: (dice) => inside(() => drift(dice)),
    harmless: (dice) => {
      const { what, undo } = inside(() => doHarmless(dice));
      return { what, undo: () => inside(undo) };
    },
    look: (repair) => lookAtSandbox(namespace.path, entry, { repair, unchanged }),
    listing: () =>
      inside(() =>
        [
          // The order of chains in a table of iptables-nft is the tool's matter: `save` sorts them.
          ...(engine.name === "iptables"
            ? BACKENDS.flatMap((backend) => [saved("ipv4", backend), saved("ipv6", backend)])
            : [tool("nft", ["--stateless", "list", "ruleset"])]),
          ...listAddresses().map((address) => JSON.stringify(address)),
        ].join("\n")
      ),
  };
}

function podOfPrograms(stack: DisposableStack, way: "sk_lookup" | "nftables"): DriftingPod {
  const pod = stack.use(new ProgrammedPod(way));
  pod.capture();
  const entry = pod.entry();
  const drifts = Object.entries(driftsOf(pod));
  return {
    name: `ebpf, incoming by ${way}`,
    share: 2,
    drift: (dice) => {
      const [name, drift] = dice.pick(drifts);
      return `${name}: ${drift(pod, dice)}`;
    },
    harmless: (dice) => {
      for (;;) {
        const { what, undo } = pod.namespace.run(() => doHarmless(dice));
        const takeBack = () => pod.namespace.run(undo);
        // An address that came later is one for programs, which know what they were told.
        if (!what.startsWith("10.")) return { what, undo: takeBack };
        takeBack();
      }
    },
    look: (repair) => lookAtSandbox(pod.namespace.path, entry, { repair, ebpfOf: pod.ebpfOf }),
    listing: () => pod.listing(),
  };
}
