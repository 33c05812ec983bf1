/**
 * Measures what looking after 250 running pods takes: the slow comparison with the ledger, and the
 * search for pods that came too early. Needs root.
 */
import { cpuUsage } from "node:process";
import { readNamespaceFacts } from "../../src/engine/choice/facts.ts";
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import { Ledger } from "../../installer/ledger/ledger.ts";
import { lookAtSandbox } from "../../installer/ledger/look.ts";
import { seeProcesses } from "../../installer/ledger/processes.ts";
import { networkNamespaceIdentity } from "../../src/linux/namespace_identity.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import { ledgerEntry } from "../../tests/support/ledger_entries.ts";
import { createNamespace, type NamedNamespace } from "../../tests/support/topology.ts";
import { printTable } from "./lib/table.ts";

const PODS = 250;
/** The default of `SWEEP_INTERVAL`, in milliseconds. */
const INTERVAL = 600_000;

/** Milliseconds of processor time that work takes. */
function processorTime(work: () => void): number {
  const before = cpuUsage();
  work();
  const { user, system } = cpuUsage(before);
  return (user + system) / 1000;
}

/** Prints the figures. */
export function bench(): void {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-bench-" });
  const namespaces: NamedNamespace[] = [];
  try {
    const ledger = new Ledger(folder);
    for (let i = 0; i < PODS; i++) {
      const namespace = createNamespace();
      namespaces.push(namespace);
      const identity = namespace.run(() => {
        new NftablesEngine().apply(compileRuleset(defaultRedirectConfig, readNamespaceFacts()));
        return networkNamespaceIdentity();
      });
      const sandbox = `sandbox-${i}`;
      ledger.put(ledgerEntry({ sandbox, netns: namespace.path, namespace: identity }));
    }
    const reading = processorTime(() => ledger.read());
    const { entries } = ledger.read();
    let wrong = 0;
    const looking = processorTime(() => {
      for (const entry of entries) {
        if (lookAtSandbox(entry.netns, entry).kind !== "equal") wrong++;
      }
    });
    if (wrong > 0 || entries.length !== PODS) throw new Error(`${wrong} of ${PODS} pods differ`);
    const seeing = processorTime(() => seeProcesses());
    const count = seeProcesses().length;
    const percent = ((reading + looking) / INTERVAL * 100).toFixed(3);
    printTable(`Looking after ${PODS} running pods, nftables, processor time`, [
      ["part", "ms"],
      ["the ledger is read", reading.toFixed(1)],
      ["all pods are compared once", looking.toFixed(1)],
      ["one pod", (looking / PODS).toFixed(2)],
      [`all processes are looked at (${count})`, seeing.toFixed(1)],
      [`share of one processor, each pod once in ${INTERVAL / 1000} s`, `${percent} %`],
    ]);
  } finally {
    for (const namespace of namespaces) namespace[Symbol.dispose]();
    Deno.removeSync(folder, { recursive: true });
  }
}
