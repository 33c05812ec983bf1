/** The part of the agent that looks after running pods: ledger, drift, and pods that came too early. */
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import { bootIdentifier } from "../../src/linux/namespace_identity.ts";
import { LostNamespaceError } from "../../src/linux/network_namespace.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { Logger } from "../../src/log/log.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { cacheDirOf } from "../host/namers.ts";
import type { Settings } from "../settings/declarations.ts";
import { readPluginEntry } from "../settings/plugin_entry.ts";
import { decideNow } from "./decision_now.ts";
import { EarlyPods } from "./early_pods.ts";
import { isLastWord, uidsOf } from "./early_decision.ts";
import { Ledger } from "./ledger.ts";
import { hasNamespaceFile, type Look, lookAtSandbox, workInProven } from "./look.ts";
import { seenNamespacePath } from "./namespace_path.ts";
import { PodEvents } from "./pod_events.ts";
import type { NodePod } from "./pod_life.ts";
import { hasPrograms, loadProgramsOf, PodPrograms } from "./pod_programs.ts";
import { seeProcess, seeProcesses } from "./processes.ts";
import { runtimeResults } from "./runtime_results.ts";
import { Sweep } from "./sweep.ts";

/** Milliseconds between two looks for entries that are over. */
const cleaningPause = 5 * 60_000;

/** What the agent gives. */
export interface RunningPodsParts {
  readonly settings: Settings;
  readonly stateFolder: string;
  readonly log: Logger;
  client(): KubernetesClient;
  /** The node's pods; `undefined` while they are not followed. */
  pods(): readonly NodePod[] | undefined;
  checked(result: string): void;
  early(result: string): void;
}

/** Looks after running pods. Nothing here throws into the agent's loop. */
export class RunningPods {
  readonly ledger: Ledger;
  readonly #sweep: Sweep;
  readonly #early: EarlyPods;
  readonly #events: PodEvents;
  readonly #unchanged = new Map<string, string>();
  readonly #programs: PodPrograms;
  readonly #mayHavePrograms: boolean;
  #nextCleaning = 0;
  #trouble = "";

  constructor(private readonly parts: RunningPodsParts) {
    const { settings, log } = parts;
    const ledger = this.ledger = new Ledger(parts.stateFolder);
    const events = this.#events = new PodEvents(() => parts.client(), log);
    this.#programs = new PodPrograms(() => loadProgramsOf(settings));
    this.#mayHavePrograms = settings.mountedBpffs !== "";
    if (this.#mayHavePrograms && settings.repairEarlyPods !== "off") this.#programs.get();
    const clock = () => performance.now();
    const plugin = () => readPluginEntry(settings.networkConfig).settings;
    this.#sweep = new Sweep(settings.sweepInterval, {
      ledger,
      log,
      look: (entry) => this.#look(entry),
      checked: (result) => parts.checked(result),
      tell: (entry, event) => void events.tell(podOf(entry), event),
      now: () => Date.now(),
      clock,
    });
    this.#early = new EarlyPods({
      mode: settings.repairEarlyPods,
      ledger,
      log,
      pods: () => parts.pods() ?? [],
      decide: ({ pod }) => decideNow(plugin(), pod),
      processes: () => seeProcesses(),
      hasResult: () => runtimeResults(cacheDirOf(settings)),
      hasNamespace: (path) => hasNamespaceFile(seenNamespacePath(settings, path)),
      ownNamespaces,
      work: (proven, { pod, life }, { config }, repair) => {
        const { engine } = plugin();
        // Programs are the plugin's to attach, which is on the host; the rules are the same.
        const setting = engine === "ebpf" ? "auto" : engine;
        const find = this.#mayHavePrograms ? this.#programs.get() : undefined;
        const programs = find?.({ sandbox: proven.sandbox, podUid: pod.uid }, false);
        const wish = { setting, config, ...(programs === undefined ? {} : { programs }) };
        return workInProven(proven, life.ips, wish, repair);
      },
      counted: (result) => parts.early(result),
      tell: ({ pod }, event) => void this.#events.tell(pod, event),
      clock,
    });
  }

  /** Number of pods whose rules differ from the ledger, as far as it was looked. */
  get drifted(): number {
    return this.#sweep.drifted;
  }

  /** Does what is due; call it about once a second, and when a pod has changed. */
  tick(): void {
    try {
      if (performance.now() >= this.#nextCleaning) {
        this.#nextCleaning = performance.now() + cleaningPause;
        this.#clean();
      }
      if (this.parts.settings.sweepInterval > 0) this.#sweep.tick();
      this.#early.tick();
      this.#trouble = "";
    } catch (error) {
      if (error instanceof LostNamespaceError) {
        // Whatever this process did next would happen to a pod; kubelet starts another.
        this.parts.log.error(messageOf(error));
        Deno.exit(1);
      }
      const message = messageOf(error);
      if (message !== this.#trouble) {
        this.parts.log.warn("Running pods are not looked after", { reason: message });
      }
      this.#trouble = message;
    }
  }

  #look(entry: LedgerEntry): Look | undefined {
    const { settings } = this.parts;
    const ebpfOf = hasPrograms(entry) ? this.#programs.get() : undefined;
    if (hasPrograms(entry) && ebpfOf === undefined) {
      const { failure } = this.#programs;
      return failure === undefined ? undefined : { kind: "unseen", reason: failure };
    }
    return lookAtSandbox(seenNamespacePath(settings, entry.netns), entry, {
      repair: settings.repair === "repair",
      unchanged: this.#unchanged,
      isLast: () => isLastWord(entry, this.ledger.read().entries),
      ...(ebpfOf === undefined ? {} : { ebpfOf }),
    });
  }

  #clean(): void {
    const { settings } = this.parts;
    const pods = this.parts.pods();
    const hasResult = runtimeResults(cacheDirOf(settings));
    const removed = this.ledger.clean({
      now: Date.now(),
      boot: bootIdentifier(),
      ...(pods === undefined ? {} : { podUids: new Set(pods.flatMap(({ pod }) => uidsOf(pod))) }),
      ...(hasResult === undefined ? {} : { hasResult }),
      hasNamespace: (path) => hasNamespaceFile(seenNamespacePath(settings, path)),
    });
    if (removed > 0) this.parts.log.debug("Ledger has let go of what is over", { removed });
  }
}

function podOf({ podNamespace, podName, podUid }: LedgerEntry) {
  return { namespace: podNamespace, name: podName, uid: podUid ?? "" };
}

/** The node's namespace, as its first process has it, and this program's own. */
function ownNamespaces(): Set<string> | undefined {
  const [first, own] = [1, Deno.pid].map((pid) => seeProcess(pid)?.namespace);
  return first === undefined || own === undefined ? undefined : new Set([first, own]);
}
