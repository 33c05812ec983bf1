/**
 * Measures what looking after 250 running pods takes, of each engine: the slow comparison with the
 * ledger, and the search for pods that came too early. Needs root.
 */
import { cpuUsage } from "node:process";
import { readNamespaceFacts } from "../../src/engine/choice/facts.ts";
import type { Engine } from "../../src/engine/engine.ts";
import { IptablesEngine } from "../../src/engine/iptables/iptables_engine.ts";
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import { Ledger } from "../../installer/ledger/ledger.ts";
import { lookAtSandbox, type LookOptions } from "../../installer/ledger/look.ts";
import { seeProcesses } from "../../installer/ledger/processes.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import { networkNamespaceIdentity } from "../../src/linux/namespace_identity.ts";
import { lookAtCgroups } from "../../src/linux/cgroup_view.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import { ledgerEntry } from "../../tests/support/ledger_entries.ts";
import { BpfFileSystem } from "../../tests/support/pod_cgroup.ts";
import { ProgrammedPod } from "../../tests/support/programmed_pod.ts";
import { createNamespace } from "../../tests/support/topology.ts";
import { printTable } from "./lib/table.ts";

const PODS = 250;
/** The default of `SWEEP_INTERVAL`, in milliseconds. */
const INTERVAL = 600_000;

/** Pods of one engine, and what their looks need. */
interface BenchPods {
  readonly name: string;
  readonly entries: readonly LedgerEntry[];
  readonly options: (entry: LedgerEntry) => LookOptions;
}

/** Milliseconds of processor time that work takes, with the programs that it starts. */
function processorTime(work: () => void): number {
  const spent = () => {
    const { user, system } = cpuUsage();
    return (user + system) / 1000 + childrenTime();
  };
  const before = spent();
  work();
  return spent() - before;
}

/** Milliseconds of processor time of the programs that have ended; the kernel counts hundredths. */
function childrenTime(): number {
  const stat = Deno.readTextFileSync("/proc/self/stat");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[13]) + Number(fields[14])) * 10;
}

function podsWithRules(stack: DisposableStack, engine: Engine): BenchPods {
  const entries = Array.from({ length: PODS }, (_, i) => {
    const namespace = stack.use(createNamespace());
    const identity = namespace.run(() => {
      engine.apply(compileRuleset(defaultRedirectConfig, readNamespaceFacts()));
      return networkNamespaceIdentity();
    });
    return ledgerEntry({
      sandbox: `${engine.name}-${i}`,
      engine: engine.name,
      netns: namespace.path,
      namespace: identity,
    });
  });
  const unchanged = new Map<string, string>();
  return { name: engine.name, entries, options: () => ({ unchanged }) };
}

function podsWithPrograms(stack: DisposableStack): BenchPods {
  const bpffs = stack.use(new BpfFileSystem());
  const pods = Array.from(
    { length: PODS },
    () => stack.use(new ProgrammedPod("sk_lookup", undefined, bpffs)),
  );
  const view = lookAtCgroups();
  for (const pod of pods) {
    pod.view = view;
    pod.capture();
  }
  const of = new Map(pods.map((pod) => [pod.sandbox, pod]));
  return {
    name: "ebpf",
    entries: pods.map((pod) => pod.entry()),
    options: ({ sandbox }) => ({ ebpfOf: of.get(sandbox)!.ebpfOf }),
  };
}

function measure(): void {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-bench-" });
  try {
    const ledger = new Ledger(folder);
    const rows: string[][] = [];
    for (
      const make of [
        (stack: DisposableStack) => podsWithRules(stack, new NftablesEngine()),
        (stack: DisposableStack) => podsWithRules(stack, new IptablesEngine()),
        podsWithPrograms,
      ]
    ) {
      using stack = new DisposableStack();
      const { name, entries, options } = make(stack);
      if (rows.length === 0) { for (const entry of entries) ledger.put(entry); }
      let wrong = 0;
      const look = () => {
        for (const entry of entries) {
          if (lookAtSandbox(entry.netns, entry, options(entry)).kind !== "equal") wrong++;
        }
      };
      const first = processorTime(look);
      const looking = processorTime(look);
      if (wrong > 0) throw new Error(`${wrong} of ${PODS} pods of ${name} differ`);
      const reading = processorTime(() => ledger.read());
      rows.push([
        name,
        (first / PODS).toFixed(2),
        (looking / PODS).toFixed(2),
        reading.toFixed(0),
        `${((reading + looking) / INTERVAL * 100).toFixed(3)} %`,
      ]);
    }
    printTable(
      `Comparing ${PODS} running pods with the ledger, processor time without V8's compilers, in ms`,
      [
        [
          "engine",
          "one pod at first",
          "one pod",
          "ledger",
          `share of a processor, each in ${INTERVAL / 1000} s`,
        ],
        ...rows,
      ],
    );
    const seeing = processorTime(() => seeProcesses());
    const count = seeProcesses().length;
    printTable("Looking at all processes", [
      ["processes", "ms", "one, µs"],
      [`${count}`, seeing.toFixed(1), (seeing / count * 1000).toFixed(0)],
    ]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

/** Prints the figures, as the agent's runtime makes them: without V8's compilers. */
export async function bench(): Promise<void> {
  const script = new URL(import.meta.url).pathname;
  const { code } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--allow-all", "--no-check", "--v8-flags=--jitless", script],
  }).spawn().status;
  if (code !== 0) throw new Error(`The measurement ended with code ${code}`);
}

if (import.meta.main) measure();
