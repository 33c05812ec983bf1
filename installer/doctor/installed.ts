/** What `install-cni check` and `doctor` tell about what is installed, made of what was seen and decided. Pure. */
import type { Observed, Readable } from "../host/observe.ts";
import type { Cause, Plan, Step } from "../plan/steps.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { warningsOfEntry } from "../settings/plugin_entry.ts";
import type { FindingCode } from "./catalogue.ts";
import { type Finding, notSeen } from "./finding.ts";
import { renewAuthority, renewToken, restart } from "./fixes.ts";

/** What each cause of a step says about the host. */
export const causeTexts: Readonly<Record<Cause, string>> = {
  "binary-missing": "is missing",
  "binary-changed": "is not the one that this install-cni brings",
  "kubeconfig-missing": "is missing",
  "kubeconfig-changed": "has other content, mode or owner than it should",
  "token-rotated": "has an older token than the service account",
  "entry-missing": "lacks the entry of kuma-cni",
  "entry-changed": "has another entry of kuma-cni than CNI_NETWORK_CONFIG says",
  "entry-not-last": "has the entry of kuma-cni twice, or another plugin behind it",
  "file-missing": "is missing",
  "file-changed": "has other content than it should",
  "left-over": "is left over from an earlier version or setting",
};

/** Which finding each cause of a step is. */
const codes: Readonly<Record<Cause, FindingCode>> = {
  "binary-missing": "plugin-missing",
  "binary-changed": "plugin-differs",
  "kubeconfig-missing": "kubeconfig-missing",
  "kubeconfig-changed": "kubeconfig-wrong",
  "token-rotated": "kubeconfig-wrong",
  "entry-missing": "entry-missing",
  "entry-changed": "entry-wrong",
  "entry-not-last": "entry-wrong",
  "file-missing": "file-wrong",
  "file-changed": "file-wrong",
  "left-over": "left-over",
};

/** Returns the file or program that a step is about, by its path for this process. */
export function objectOf(settings: Settings, step: Step): string {
  return step.kind === "install-plugin"
    ? pathsOf(settings).plugin
    : `${settings.mountedNetDir}/${step.name}`;
}

/** Returns one finding for each fact. */
export function findingsOf(
  settings: Settings,
  seen: Observed,
  plan: Plan,
): Finding[] {
  const paths = pathsOf(settings);
  // A running agent mends within milliseconds, so where something differs none runs, or it is stuck.
  const healing = restart(settings);
  const wrong = (path: string, subject: string): Finding | undefined => {
    const step = plan.steps.find((step) => objectOf(settings, step) === path);
    return step && {
      subject,
      grade: "failure",
      code: codes[step.cause],
      text: `"${path}" ${causeTexts[step.cause]}`,
      fix: healing,
    };
  };
  const findings: Finding[] = [
    pluginFinding(paths.plugin, seen, healing),
    wrong(paths.kubeconfig, "kubeconfig") ?? {
      subject: "kubeconfig",
      ...(seen.kubeconfig === undefined ? { code: "kubeconfig-missing" as const } : {}),
      grade: seen.kubeconfig === undefined ? "failure" : "ok",
      text: seen.kubeconfig === undefined
        ? `"${paths.kubeconfig}" is missing`
        // While something is waited for, its content is not compared with anything.
        : `"${paths.kubeconfig}" is ${plan.waitingFor === undefined ? "as it should be" : "there"}`,
    },
    readableFinding("token", settings.tokenFile, seen.token, renewToken(settings)),
    readableFinding(
      "authority",
      settings.caFile,
      seen.certificateAuthority,
      renewAuthority(settings),
    ),
  ];
  for (const step of plan.steps) {
    const path = objectOf(settings, step);
    if (path === paths.plugin || path === paths.kubeconfig) continue;
    findings.push({
      subject: "chain",
      code: codes[step.cause],
      grade: step.cause === "left-over" ? "warning" : "failure",
      text: `"${path}" ${causeTexts[step.cause]}`,
      fix: healing,
    });
  }
  if (plan.waitingFor !== undefined) {
    findings.push({
      subject: "chain",
      grade: "failure",
      code: "waiting",
      text: `Waiting for ${plan.waitingFor}`,
    });
  } else if (plan.target !== undefined && findings.every(({ subject }) => subject !== "chain")) {
    findings.push({
      subject: "chain",
      grade: "ok",
      text: `"${settings.mountedNetDir}/${plan.target}" has the entry of kuma-cni`,
    });
  }
  if (plan.blocked !== undefined) {
    findings.push({
      subject: "ready",
      grade: "failure",
      code: codeOfBlock(seen),
      text: plan.blocked,
    });
  }
  const warnings = [...warningsOfEntry(settings), ...plan.warnings, ...plan.remarks ?? []];
  for (const warning of warnings) {
    findings.push({ subject: "warning", grade: "warning", code: "warning", text: warning });
  }
  return findings;
}

/** What keeps pods from being captured although everything is in place. */
function codeOfBlock({ view }: Observed): FindingCode {
  if (view.wrongBinDir !== undefined) return "bin-dir-other";
  return view.wrongNetDir !== undefined ? "net-dir-other" : "not-captured";
}

/** What was seen of the program itself: a plan that waits for something has no step for it. */
function pluginFinding(path: string, { plugin }: Observed, healing: string): Finding {
  switch (plugin.kind) {
    case "current":
      return { subject: "plugin", grade: "ok", text: `"${path}" is the one of this version` };
    case "missing":
    case "differs": {
      const cause = plugin.kind === "missing" ? "binary-missing" : "binary-changed";
      const text = `"${plugin.path}" ${causeTexts[cause]}`;
      return { subject: "plugin", grade: "failure", code: codes[cause], text, fix: healing };
    }
    case "unseen":
      return notSeen("plugin", `Whether "${path}" is the one of this version`, plugin.reason);
    case "unknown":
      return { subject: "plugin", grade: "failure", code: "plugin-unknown", text: plugin.reason };
  }
}

/** A file of the service account; without it the kubeconfig grows old, but pods start meanwhile. */
function readableFinding(
  subject: "token" | "authority",
  path: string,
  readable: Readable,
  fix: string,
): Finding {
  return "text" in readable
    ? { subject, grade: "ok", text: `"${path}" can be read` }
    : { subject, grade: "warning", code: `${subject}-unreadable`, text: readable.problem, fix };
}
