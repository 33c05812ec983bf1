/**
 * Decides, from what is seen of the host, what must be done for the plugin to be installed. Pure; the
 * decision is made anew each time from the whole picture.
 *
 * Order of the steps: program, kubeconfig, chain entry, leftovers. So no configuration file names a
 * program or kubeconfig that is not there.
 */
import { formatKubeconfig } from "../src/kubernetes/kubeconfig_format.ts";
import {
  chain,
  fillTemplate,
  isChained,
  listOfSingle,
  parseList,
  pluginType,
  unchain,
} from "./conflist.ts";
import { chooseTarget, classify, derivedNameOf, shadowOf } from "./detect.ts";
import type { Attributes } from "./host_files.ts";
import { sameBytes } from "./host_files.ts";
import { type Before, type Journal, sha256 } from "./journal.ts";
import { bytesOf, canonicalJson, parseJson } from "./json_edit.ts";
import { messageOf, type NetFile, type Observed } from "./observe.ts";
import { pathsOf, type Settings } from "./settings.ts";

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
  if (!seen.hasNetDir) {
    return { steps: [], warnings, waitingFor: `the folder "${settings.mountedNetDir}"` };
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

/** Returns the API server's address for the kubeconfig. */
export function serverOf(settings: Settings): string {
  const { apiHost, apiPort, apiProtocol } = settings;
  return `${apiProtocol}://${apiHost.includes(":") ? `[${apiHost}]` : apiHost}:${apiPort}`;
}

function kubeconfigStep(
  settings: Settings,
  seen: Observed,
): { readonly step: Step | undefined } | { readonly problem: string } {
  if ("problem" in seen.token) return seen.token;
  if ("problem" in seen.certificateAuthority) return seen.certificateAuthority;
  if (settings.apiHost === "" || settings.apiPort === "") {
    return { problem: "KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is empty" };
  }
  let text: string;
  try {
    text = formatKubeconfig({
      server: serverOf(settings),
      certificateAuthority: seen.certificateAuthority.text,
      token: seen.token.text.trim(),
    });
  } catch (error) {
    return { problem: messageOf(error) };
  }
  const content = new TextEncoder().encode(text);
  const file = seen.kubeconfig;
  const write = (cause: Cause, expected: Uint8Array | undefined) => ({
    step: {
      kind: "write" as const,
      cause,
      name: settings.kubeconfigName,
      expected,
      content,
      attributes: { mode: 0o600, uid: ownUid(), gid: ownGid() },
    },
  });
  if (file === undefined) return write("kubeconfig-missing", undefined);
  const isPrivate = file.link === undefined && file.status.mode === 0o600 &&
    file.status.uid === ownUid();
  if (isPrivate && sameBytes(file.content, content)) return { step: undefined };
  const withoutToken = (text: string) => text.replace(/^( *token: ).*$/m, "$1");
  const isRotation = isPrivate && file.text !== undefined &&
    withoutToken(file.text) === withoutToken(text);
  return write(isRotation ? "token-rotated" : "kubeconfig-changed", file.content);
}

function chainSteps(
  settings: Settings,
  seen: Observed,
  entry: string,
): Omit<Plan, "warnings"> {
  const target = chooseTarget(seen.files, settings.confName);
  if (target.kind === "waiting") {
    return {
      steps: leftovers(settings, seen, new Set()),
      waitingFor: target.for,
      isUnreadable: target.unreadable !== undefined,
    };
  }
  const file = target.file as NetFile;
  const steps: Step[] = [];
  let chained = file.name;
  if (target.is.kind === "list") {
    const step = listStep(file, entry, seen.journal);
    if (step !== undefined) steps.push(step);
  } else {
    let text = file.text!;
    if (target.is.kind === "reference-list") {
      text = target.is.repaired;
      const content = bytesOf(text);
      const before: Before = { kind: "file", content, ...attributesOf(file) };
      steps.push(writeStep(file, "left-over", content, before));
    }
    chained = derivedNameOf(file.name);
    const step = derivedStep(seen, chained, file, bytesOf(listOfSingle(text, entry)));
    if (step !== undefined) steps.push(step);
  }
  const shadow = shadowOf(seen.files, chained);
  return {
    steps: [...steps, ...leftovers(settings, seen, new Set([file.name, chained]))],
    target: chained,
    ...(shadow === undefined ? {} : {
      blocked: `The runtime loads "${shadow}" before "${chained}", so pods are not captured; ` +
        `set CNI_CONF_NAME to "${shadow}", or leave it empty`,
    }),
  };
}

function listStep(file: NetFile, entry: string, journal: Journal): Step | undefined {
  const text = file.text!;
  const list = parseList(text);
  if (isChained(list, entry)) return undefined;
  const bare = unchain(text);
  const types = list.plugins.items.map((item) =>
    item.kind === "object" &&
    item.members.some((m) =>
      m.key === "type" && m.value.kind === "scalar" && m.value.value === pluginType
    )
  );
  const count = types.filter(Boolean).length;
  const cause = count === 0
    ? "entry-missing"
    : count > 1 || types.at(-1) === false
    ? "entry-not-last"
    : "entry-changed";
  return writeStep(file, cause, bytesOf(chain(text, entry)), beforeOf(file, bare, journal));
}

/** What uninstalling restores: for a text that we wrote ourselves, what stood there before it. */
function beforeOf(file: NetFile, bare: string, journal: Journal): Before {
  const known = journal.get(file.name);
  if (known !== undefined && file.content !== undefined && known.wrote === sha256(file.content)) {
    return known.before;
  }
  if (file.link !== undefined) return { kind: "link", target: file.link };
  return { kind: "file", content: bytesOf(bare), ...attributesOf(file) };
}

function derivedStep(
  seen: Observed,
  name: string,
  source: NetFile,
  content: Uint8Array<ArrayBuffer>,
): Step | undefined {
  const existing = seen.files.find((file) => file.name === name);
  if (sameBytes(existing?.content, content) && existing?.link === undefined) return undefined;
  return {
    kind: "write",
    cause: existing === undefined ? "file-missing" : "file-changed",
    name,
    expected: existing?.content,
    content,
    attributes: attributesOf(source),
    before: existing?.text !== undefined && isForeign(existing)
      ? beforeOf(existing, existing.text, seen.journal)
      : { kind: "absent" },
  };
}

function isForeign(file: NetFile): boolean {
  const { kind } = classify(file);
  return kind === "list" || kind === "single";
}

/** Name of the file in standalone mode when none is configured, as in the reference installer. */
const standaloneName = "YYY-kuma-cni.conf";

function standaloneSteps(
  settings: Settings,
  seen: Observed,
  entry: string,
): Omit<Plan, "warnings"> {
  const name = settings.confName || standaloneName;
  const existing = seen.files.find((file) => file.name === name);
  const content = bytesOf(entry);
  const is = existing === undefined ? undefined : classify(existing);
  if (is?.kind === "single" || is?.kind === "list") {
    return {
      steps: [],
      waitingFor: `another value of CNI_CONF_NAME: "${name}" holds another plugin's ` +
        "configuration, and CHAINED_CNI_PLUGIN is false",
    };
  }
  const steps: Step[] = [];
  if (existing === undefined || !isSameJson(existing, entry)) {
    const known = seen.journal.get(name);
    const before: Before = existing?.content !== undefined && is?.kind === "broken"
      ? beforeOf(existing, existing.text!, seen.journal)
      : known?.before ?? { kind: "absent" };
    steps.push({
      kind: "write",
      cause: existing === undefined ? "file-missing" : "file-changed",
      name,
      expected: existing?.content,
      content,
      attributes: existing === undefined
        ? { mode: 0o600, uid: ownUid(), gid: ownGid() }
        : attributesOf(existing),
      before,
    });
  }
  return { steps: [...steps, ...leftovers(settings, seen, new Set([name]))], target: name };
}

function isSameJson(file: NetFile, entry: string): boolean {
  try {
    const text = file.text ?? "";
    return canonicalJson(text, parseJson(text)) === canonicalJson(entry, parseJson(entry));
  } catch {
    return false;
  }
}

/** Takes out what an earlier configuration or version of ours left in other files. */
function leftovers(settings: Settings, seen: Observed, keep: ReadonlySet<string>): Step[] {
  return seen.files.filter((file) => !keep.has(file.name)).flatMap((file): Step[] => {
    const is = classify(file);
    const expected = file.content;
    if (is.kind === "derived" || (is.kind === "own" && !file.name.endsWith(".conflist"))) {
      // While nothing carries our entry yet, even an old file of ours is better than none.
      const isOrphan = !seen.files.some(({ name }) => derivedNameOf(name) === file.name);
      if (keep.size === 0 && !(is.kind === "derived" && isOrphan)) return [];
      return [{ kind: "remove", cause: "left-over", name: file.name, expected }];
    }
    // When the file is found by looking, the primary plugin may come back to one that it had.
    const mayComeBack = settings.chained && settings.confName === "";
    if (is.kind !== "list" || mayComeBack || keep.size === 0) return [];
    if (!is.types.includes(pluginType)) return [];
    return [writeStep(file, "left-over", bytesOf(unchain(file.text!)))];
  });
}

function writeStep(
  file: NetFile,
  cause: Cause,
  content: Uint8Array<ArrayBuffer>,
  before?: Before,
): Step {
  return {
    kind: "write",
    cause,
    name: file.name,
    expected: file.content,
    content,
    attributes: attributesOf(file),
    ...(before === undefined ? {} : { before }),
  };
}

function attributesOf(file: NetFile): Attributes {
  const { mode, uid, gid } = file.status;
  return { mode, uid, gid };
}

function ownUid(): number {
  return Deno.uid() ?? 0;
}

function ownGid(): number {
  return Deno.gid() ?? 0;
}
