/** What is found of the chain: the entry as it stands, and what the runtime makes of it. Pure. */
import { pluginType } from "../conflist/conflist.ts";
import type { Observed } from "../host/observe.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { obstacleOf } from "../runtime/capture.ts";
import { catalogue } from "./catalogue.ts";
import { type Finding, found, good } from "./finding.ts";
import { log, renewAuthority, renewToken, restart, setValue, showNodePods } from "./fixes.ts";
import { findingsOf } from "./installed.ts";
import type { EntrySeen, NodeSeen } from "./seen.ts";

/** Plugins of other service meshes, and whose they are. */
const otherMeshes: Readonly<Record<string, string>> = {
  "istio-cni": "Istio",
  "linkerd-cni": "Linkerd",
  "consul-cni": "Consul",
  "merbridge-cni": "Merbridge",
};

/** Tells about everything that install-cni puts on the host. */
export function installedFindings(seen: NodeSeen): Finding[] {
  const { settings, observed, plan, entries, hasProgram } = seen;
  if (!hasProgram && entries.length === 0 && observed.kubeconfig === undefined) {
    const text = `Nothing of kuma-cni is in "${settings.mountedNetDir}" and ` +
      `"${settings.mountedBinDir}": install-cni has not run on this node, or has uninstalled`;
    const told = plan === undefined ? [] : findingsOf(settings, observed, plan);
    const waiting = told.filter(({ code }) => code === "waiting");
    return [
      found("not-installed", text, restart(settings)),
      ...waiting.map((finding) => completed(finding, seen)),
    ];
  }
  const findings = plan === undefined
    ? withoutSettings(seen)
    : findingsOf(settings, observed, plan);
  const told = new Set(findings.map(({ code }) => code));
  const more = entries.flatMap(entryFindings).filter(({ code }) => !told.has(code));
  return [...findings, ...more].map((finding) => completed(finding, seen));
}

/** A finding about what is installed under the name that the catalogue has, with what it means and the fix. */
function completed(finding: Finding, seen: NodeSeen): Finding {
  const { code, grade, text } = finding;
  if (code === undefined || code === "not-seen") return finding;
  const { subject } = catalogue[code];
  if (grade !== "failure") return { ...finding, subject };
  const { fix = fixOf(finding, seen) } = finding;
  return { ...finding, subject, fix, text: text + consequenceOf(finding, seen) };
}

/** What a difference on the node means for the pods that start now: who is woken by it asks that first. */
function consequenceOf({ code }: Finding, { entries }: NodeSeen): string {
  const isCalled = entries.length > 0;
  switch (code) {
    case "plugin-missing":
      return isCalled ? ", so no pod can start on this node" : ", so no pod is captured";
    case "plugin-differs":
      return ", so pods start by another version, or do not start";
    case "bin-dir-other":
      return ", so pods are not captured, or do not start";
    case "entry-wrong":
      return ", so pods that start now may be captured wrongly";
    case "waiting":
      return isCalled
        ? ", and until then nothing is put right"
        : ", and until then no pod is captured";
    case "entry-missing":
    case "file-wrong":
      return ", so pods that start now are not captured";
    case "kubeconfig-missing":
    case "kubeconfig-wrong":
      return ", so pods that the agent does not know cannot start";
    default:
      return "";
  }
}

/** Without the settings nothing can be compared, but the chain can be judged all the same. */
function withoutSettings({ settings, observed, entries, hasProgram }: NodeSeen): Finding[] {
  const [entry] = entries;
  const folder = settings.mountedNetDir;
  if (observed.missingFolder !== undefined) {
    return [found("waiting", `Waiting for the folder ${observed.missingFolder}`)];
  }
  const program = hasProgram
    ? []
    : [found("plugin-missing", `"${pathsOf(settings).plugin}" is missing`)];
  if (observed.kubeconfig === undefined) {
    program.push(found("kubeconfig-missing", `"${pathsOf(settings).kubeconfig}" is missing`));
  }
  if (entry === undefined) {
    return [
      ...program,
      found("entry-missing", `No file of "${folder}" has the entry of kuma-cni`),
    ];
  }
  const { runtime, dir, wrongNetDir, wrongBinDir } = observed.view;
  const obstacle = obstacleOf(runtime, dir, entry.file, settings.netDir);
  return [
    ...program,
    wrongNetDir !== undefined
      ? found("net-dir-other", wrongNetDir)
      : wrongBinDir !== undefined
      ? found("bin-dir-other", wrongBinDir)
      : obstacle !== undefined
      ? found("not-captured", obstacle)
      : good("chain", `"${folder}/${entry.file}" has the entry of kuma-cni`),
  ];
}

/** What lets install-cni go on. */
function whatToWaitFor(settings: Settings, observed: Observed): string {
  const { missingFolder, plugin, token, certificateAuthority, files } = observed;
  if (missingFolder !== undefined) {
    return `ls -ld ${settings.netDir} ${pathsOf(settings).hostBinDir}   # on the node`;
  }
  if (plugin.kind === "unknown") return log(settings);
  if ("problem" in token) return renewToken(settings);
  if ("problem" in certificateAuthority) return renewAuthority(settings);
  return files.length === 0
    ? `${showNodePods(settings)}   # does the primary CNI plugin run?`
    : `ls -l ${settings.netDir}   # on the node: which file is it about?`;
}

function entryFindings({ file, types, problem }: EntrySeen): Finding[] {
  const findings: Finding[] = [];
  if (problem !== undefined) {
    findings.push(found("entry-unreadable", `The entry in "${file}" is refused: ${problem}`));
  }
  const count = types.filter((type) => type === pluginType).length;
  if (count > 1) {
    findings.push(found("entry-wrong", `"${file}" has the entry of kuma-cni ${count} times`));
  } else if (types.at(-1) !== pluginType) {
    const behind = types.slice(types.indexOf(pluginType) + 1).map((type) => `"${type}"`);
    findings.push(
      found("entry-wrong", `"${file}" calls ${behind.join(", ")} behind kuma-cni, not before it`),
    );
  }
  for (const type of new Set(types)) {
    if (!Object.hasOwn(otherMeshes, type)) continue;
    findings.push(
      found(
        "other-mesh",
        `"${file}" also calls "${type}" of ${otherMeshes[type]}: a pod in both meshes gets the ` +
          "rules of both, and only one of them is first",
        "kubectl get namespaces --show-labels   # let each namespace belong to one mesh alone",
      ),
    );
  }
  return findings;
}

function fixOf({ code, text }: Finding, { settings, observed, plan }: NodeSeen): string {
  const { runtime } = observed.view;
  switch (code) {
    case "net-dir-other":
      return setValue(settings, `cni.netDir=${runtime.confDir}`);
    case "bin-dir-other":
      return setValue(settings, `cni.binDir=${runtime.programDirs?.[0]}`);
    case "not-captured":
      if (text.includes("CNI_CONF_NAME_IS_LOADED") && plan?.target !== undefined) {
        const word = `cni.confName=${plan.target},cni.confNameIsLoaded=true`;
        return `${setValue(settings, word)}   # only if pods go through that file`;
      }
      return settings.confName === ""
        ? `ls -l ${settings.netDir}   # the first file in the order of bytes counts`
        : setValue(settings, "cni.confName=") + "   # then it is the file that the runtime loads";
    case "waiting":
      return whatToWaitFor(settings, observed);
    case "plugin-unknown":
      return log(settings);
    default:
      return restart(settings);
  }
}
