/**
 * Decides, from what is seen of the host, what must be done for the plugin to be installed. Pure; the
 * decision is made anew each time from the whole picture.
 *
 * Order of the steps: program, kubeconfig, chain entry, leftovers. So no configuration file names a
 * program or kubeconfig that is not there.
 */
import { chainSteps, standaloneSteps } from "./conf_steps.ts";
import { fillTemplate } from "../conflist/conflist.ts";
import type { Attributes } from "../host/host_files.ts";
import type { Before } from "../host/journal.ts";
import { kubeconfigStep } from "./kubeconfig_step.ts";
import type { Observed } from "../host/observe.ts";
import { pathsOf, type Settings } from "../settings/settings.ts";

/** Why a step is needed; a bounded set, used as a label of metrics. */
export type Cause =
  | "binary-missing"
  | "binary-changed"
  | "kubeconfig-missing"
  | "kubeconfig-changed"
  | "token-rotated"
  | "entry-missing"
  | "entry-changed"
  | "entry-not-last"
  | "file-missing"
  | "file-changed"
  | "left-over";

/** One change of the host. */
export type Step =
  | { readonly kind: "install-plugin"; readonly cause: Cause }
  | {
    readonly kind: "write";
    readonly cause: Cause;
    /** File name in the net dir. */
    readonly name: string;
    /** What is there now; `undefined`: nothing. */
    readonly expected: Uint8Array | undefined;
    readonly content: Uint8Array<ArrayBuffer>;
    readonly attributes: Attributes;
    /** What uninstalling restores; `undefined`: the file is not journaled. */
    readonly before?: Before;
  }
  | {
    readonly kind: "remove";
    readonly cause: Cause;
    readonly name: string;
    readonly expected: Uint8Array | undefined;
  };

/** A decision. */
export interface Plan {
  readonly steps: readonly Step[];
  /** What another program or a person must do first. */
  readonly waitingFor?: string;
  /** What is needed cannot be read right now; until then what is installed stays as it is. */
  readonly isUnreadable?: boolean;
  /** Trouble that keeps pods from being captured although the steps are done. */
  readonly blocked?: string;
  /** Trouble that can wait. */
  readonly warnings: readonly string[];
  /** The file that carries or gets our entry. */
  readonly target?: string;
}

/** Decides what to do. */
export function plan(settings: Settings, seen: Observed): Plan {
  const warnings: string[] = [];
  if (seen.missingFolder !== undefined) {
    return { steps: [], warnings, waitingFor: `the folder ${seen.missingFolder}` };
  }
  const steps: Step[] = [];
  if (seen.plugin.kind === "unknown") {
    return { steps, warnings, waitingFor: `the plugin's files: ${seen.plugin.reason}` };
  }
  if (seen.plugin.kind !== "current") {
    const cause = seen.plugin.kind === "missing" ? "binary-missing" : "binary-changed";
    steps.push({ kind: "install-plugin", cause });
  }
  const kubeconfig = kubeconfigStep(settings, seen);
  if ("problem" in kubeconfig) {
    if (seen.kubeconfig === undefined) {
      return { steps, warnings, waitingFor: `a kubeconfig: ${kubeconfig.problem}` };
    }
    warnings.push(`The kubeconfig is not refreshed: ${kubeconfig.problem}`);
  } else if (kubeconfig.step !== undefined) steps.push(kubeconfig.step);

  if ("problem" in seen.token && settings.networkConfig.includes(tokenPlaceholder)) {
    return { steps, warnings, waitingFor: `the token: ${seen.token.problem}`, isUnreadable: true };
  }
  const entry = entryOf(settings, seen);
  const result = settings.chained
    ? chainSteps(settings, seen, entry)
    : standaloneSteps(settings, seen, entry);
  return { ...result, steps: [...steps, ...result.steps], warnings };
}

const tokenPlaceholder = "__SERVICEACCOUNT_TOKEN__";

/** Returns our chain entry, as a byte string. */
function entryOf(settings: Settings, seen: Observed): string {
  const paths = pathsOf(settings);
  return fillTemplate(settings.networkConfig, {
    kubeconfigPath: paths.hostKubeconfig,
    agentSocketPath: paths.hostAgentSocket,
    token: "text" in seen.token ? seen.token.text.trim() : "",
  });
}
