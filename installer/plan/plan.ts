/**
 * Decides, from what is seen of the host, what must be done for the plugin to be installed. Pure; the
 * decision is made anew each time from the whole picture.
 *
 * Order of the steps: program, kubeconfig, chain entry, leftovers. So no configuration file names a
 * program or kubeconfig that is not there.
 */
import { fillTemplate } from "../conflist/conflist.ts";
import { type JsonText, parseText } from "../conflist/json_edit.ts";
import { mostFiles, type Observed } from "../host/observe.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { binDirTrouble } from "./bin_dir.ts";
import { chainSteps, standaloneSteps } from "./conf_steps.ts";
import { kubeconfigStep, problemOfKubeconfig } from "./kubeconfig_step.ts";
import type { Plan, Step } from "./steps.ts";
import { tokenPlaceholder, withTokenHidden } from "./token_in_entry.ts";

/** Decides what to do. */
export function plan(settings: Settings, seen: Observed): Plan {
  const warnings: string[] = [];
  if (seen.missingFolder !== undefined) {
    return { steps: [], warnings, waitingFor: `the folder ${seen.missingFolder}` };
  }
  const steps: Step[] = [];
  const binDir = binDirTrouble(seen.binDirPath, pathsOf(settings));
  if (binDir.waitingFor !== undefined) return { steps, warnings, waitingFor: binDir.waitingFor };
  if (seen.plugin.kind === "unknown" || seen.plugin.kind === "unseen") {
    return { steps, warnings, waitingFor: `the plugin's files: ${seen.plugin.reason}` };
  }
  if (seen.plugin.kind !== "current") {
    const cause = seen.plugin.kind === "missing" ? "binary-missing" : "binary-changed";
    steps.push({ kind: "install-plugin", cause });
  }
  const kubeconfig = kubeconfigStep(settings, seen);
  if ("problem" in kubeconfig) {
    const old = seen.kubeconfig?.text;
    const isUsable = old !== undefined &&
      problemOfKubeconfig(old, settings.kubeconfigName) === undefined;
    if (!isUsable) return { steps, warnings, waitingFor: `a kubeconfig: ${kubeconfig.problem}` };
    warnings.push(`The kubeconfig is not refreshed: ${kubeconfig.problem}`);
  } else if (kubeconfig.step !== undefined) steps.push(kubeconfig.step);

  if ("problem" in seen.token && settings.networkConfig.includes(tokenPlaceholder)) {
    return { steps, warnings, waitingFor: `the token: ${seen.token.problem}`, isUnreadable: true };
  }
  const entry = entryOf(settings, seen);
  const result = withTokenHidden(
    settings,
    seen,
    settings.chained ? chainSteps(settings, seen, entry) : standaloneSteps(settings, seen, entry),
  );
  const remarks = binDir.remark === undefined ? [] : [binDir.remark];
  if (seen.unread > 0) {
    remarks.push(
      `"${settings.mountedNetDir}" has ${seen.unread} configuration files besides the first ` +
        `${mostFiles}, which alone are looked at`,
    );
  }
  return { ...result, steps: [...steps, ...result.steps], warnings, remarks };
}

/** Returns our chain entry. */
function entryOf(settings: Settings, seen: Observed): JsonText {
  const paths = pathsOf(settings);
  return parseText(fillTemplate(settings.networkConfig, {
    kubeconfigPath: paths.hostKubeconfig,
    agentSocketPath: paths.hostAgentSocket,
    token: "text" in seen.token ? seen.token.text.trim() : "",
  }));
}
