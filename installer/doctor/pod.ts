/** One pod's life as the doctor tells it: each station, and in one sentence why it is meshed or not. Pure. */
import { isRecord, own } from "../../src/json/record.ts";
import type { Pod } from "../../src/kubernetes/pod.ts";
import { decideBySettings } from "../../src/pod/decide.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { quote } from "../../src/text/quote.ts";
import { conclude, type Diagnosis } from "./diagnosis.ts";
import type { Evidence } from "./evidence.ts";
import { type Finding, found, good, notSeen, plain } from "./finding.ts";
import { decideByNamespace, unsetSettings } from "../ledger/decision_now.ts";
import { askOnNode, deletePod, injectForCni, shellWord } from "./fixes.ts";
import { driftText } from "../ledger/drift_text.ts";
import type { Look } from "../ledger/look.ts";
import type { Settings } from "../settings/declarations.ts";
import { type EntrySeen, type Impossible, isImpossible } from "./seen.ts";

/** What was seen of one pod. */
export interface PodLifeSeen {
  readonly namespace: string;
  readonly name: string;
  /** The pod as the API server has it; `undefined`: there is none. */
  readonly object: Record<string, unknown> | undefined | Impossible;
  readonly pod: Pod | undefined;
  /** Labels of its namespace. */
  readonly namespaceLabels: Readonly<Record<string, unknown>> | Impossible;
  /** The last event that says why its sandbox could not be made. */
  readonly sandboxProblem: string | undefined;
  /** Settings of this node, whose name is empty when it is not known. */
  readonly settings: Settings;
  readonly entry: EntrySeen | undefined;
  /** What the node knows of its sandbox; `undefined`: nothing. */
  readonly evidence: Evidence | undefined | Impossible;
  /** How its rules compare with what the plugin installed; `undefined`: it is not in the ledger. */
  readonly rules: Look | undefined;
}

const label = "kuma.io/sidecar-injection";

/** Tells one pod's life. */
export function diagnosePod(seen: PodLifeSeen): Diagnosis {
  const { namespace, name } = seen;
  const { findings, end } = lifeOf(seen);
  const { exitCode, findings: sorted } = conclude(findings, "");
  // A life is told from its beginning; only what was not looked at comes last.
  const told = findings.filter(({ grade }) => grade !== "unknown");
  const unknown = sorted.filter(({ grade }) => grade === "unknown");
  return {
    verdict: plain(`${namespace}/${name} ${end}`),
    exitCode,
    findings: [...told, ...unknown],
  };
}

interface Life {
  readonly findings: readonly Finding[];
  /** The verdict behind the pod's name. */
  readonly end: string;
}

function lifeOf(seen: PodLifeSeen): Life {
  const { namespace, name, object, pod, entry } = seen;
  if (isImpossible(object)) {
    const text = `Nothing is known of it: ${object.impossible}`;
    return {
      findings: [found("pod-unseen", text, "install-cni doctor   # says what is wrong there")],
      end: `cannot be judged: the API server does not tell of it (${object.impossible})`,
    };
  }
  if (object === undefined || pod === undefined) {
    const text = `There is no pod "${namespace}/${name}"`;
    return {
      findings: [
        found(
          "pod-not-found",
          text,
          `kubectl get pods -A --field-selector metadata.name=${shellWord(name)}`,
        ),
      ],
      end: "does not exist",
    };
  }
  const spec = isRecord(object.spec) ? object.spec : {};
  const findings: Finding[] = [good("pod", `It is there, ${phaseOf(object)}`)];
  const endWith = (finding: Finding, end: string): Life => ({
    findings: [...findings, finding],
    end,
  });
  if (spec.hostNetwork === true) {
    const why = "it uses the host's network, where no CNI plugin is called";
    return endWith(
      found("pod-host-network", `hostNetwork is true: ${why}`),
      `is not meshed: ${why}`,
    );
  }
  const settings = entry?.settings ?? unsetSettings;
  const early = decideByNamespace(settings, { namespace, name });
  if (early !== undefined) {
    return endWith(
      found("pod-excluded", early.reason),
      `is not meshed: ${lowered(early.reason)}`,
    );
  }
  const injection = injectionOf(seen, object);
  findings.push(...injection.findings);
  let decision;
  try {
    decision = decideBySettings(pod, settings);
  } catch (error) {
    const reason = messageOf(error);
    return endWith(
      found(
        "pod-refused",
        reason,
        `kubectl get pod -n ${shellWord(namespace)} ${shellWord(name)} -o yaml`,
      ),
      `cannot start: ${lowered(reason)}`,
    );
  }
  if (decision.kind === "skip") return endWithSkip(decision, injection, endWith, seen);
  findings.push(good("pod", "It has the sidecar and its annotations: the plugin redirects it"));
  return capturedOr(seen, object, spec, findings);
}

/** How the pod got, or did not get, its rules. */
function capturedOr(
  seen: PodLifeSeen,
  object: Record<string, unknown>,
  spec: Record<string, unknown>,
  before: readonly Finding[],
): Life {
  let findings = before;
  const { namespace, name, evidence, settings, sandboxProblem } = seen;
  const node = settings.nodeName;
  const anew = `${deletePod(namespace, name)}   # its successor is captured`;
  const endWith = (finding: Finding, end: string): Life => ({
    findings: [...findings, finding],
    end,
  });
  const where = typeof spec.nodeName === "string" ? spec.nodeName : "";
  if (where === "") {
    return {
      findings: [...findings, good("pod", "It waits for a node")],
      end: "will be meshed: it has a sidecar, and waits for a node",
    };
  }
  if (sandboxProblem !== undefined && phaseOf(object) === "Pending") {
    return endWith(
      found(
        "pod-no-sandbox",
        sandboxProblem,
        `kubectl describe pod -n ${shellWord(namespace)} ${shellWord(name)}`,
      ),
      `does not start: ${sandboxProblem}`,
    );
  }
  if (hasFailedValidation(object)) {
    return endWith(
      found("pod-not-validated", "Its init container kuma-validation has failed", anew),
      "is meshed but has no rules: kuma-validation finds none, since its sandbox was made without " +
        "the plugin",
    );
  }
  if (node !== "" && where !== node) {
    return endWith(
      found(
        "pod-elsewhere",
        `It runs on "${where}", and this is "${node}"`,
        askOnNode(settings, where, `${namespace}/${name}`),
      ),
      `is meshed; whether it is captured can be told on its node "${where}"`,
    );
  }
  if (isImpossible(evidence) || evidence === undefined) {
    const why = evidence?.impossible ?? "nothing on this node tells of its sandbox";
    return endWith(
      notSeen("pod", "Whether it was captured", why),
      "is meshed; whether it was captured cannot be seen here",
    );
  }
  const { rules } = seen;
  if (rules?.kind === "drifted") {
    return endWith(
      found("pod-drifted", `Its rules have changed since: ${driftText(rules.differences)}`, anew),
      "was captured, but its rules have changed since",
    );
  }
  if (evidence.captured && (rules?.kind === "unseen" || rules?.kind === "gone")) {
    const why = rules.kind === "gone" ? "its network namespace is not there" : rules.reason;
    findings = [...findings, notSeen("pod", "Whether its rules are still as installed", why)];
  }
  return evidence.captured
    ? endWith(good("pod", `It was captured: ${evidence.reason}`), "is meshed and captured")
    : endWith(
      found("pod-not-captured", `It runs without rules: ${evidence.reason}`, anew),
      `is meshed but not captured: ${evidence.reason}`,
    );
}

interface Injection {
  /** What the labels ask for; `undefined`: they do not tell. */
  readonly wanted: boolean | undefined;
  readonly findings: readonly Finding[];
}

/** What the labels of the pod and of its namespace ask for; the pod's wins. */
function injectionOf(
  { namespaceLabels, namespace }: PodLifeSeen,
  object: Record<string, unknown>,
): Injection {
  const metadata = isRecord(object.metadata) ? object.metadata : {};
  const labels = isRecord(metadata.labels) ? metadata.labels : {};
  const ofPod = own(labels, label);
  if (typeof ofPod === "string") {
    const text = `Its label ${label} is ${quote(ofPod, 40)}`;
    return { wanted: isOn(ofPod), findings: [good("pod", text)] };
  }
  if (isImpossible(namespaceLabels)) {
    const what = `The label ${label} of its namespace`;
    return { wanted: undefined, findings: [notSeen("pod", what, namespaceLabels.impossible)] };
  }
  const value = own(namespaceLabels, label);
  const isSet = typeof value === "string";
  const text = isSet
    ? `The label ${label} of namespace "${namespace}" is ${quote(value, 40)}`
    : `Neither the pod nor namespace "${namespace}" has the label ${label}`;
  return { wanted: isSet && isOn(value), findings: [good("pod", text)] };
}

function isOn(value: string): boolean {
  return value === "enabled" || value === "true";
}

function endWithSkip(
  { code, reason }: { readonly code: string; readonly reason: string },
  { wanted, findings: [injection] }: Injection,
  endWith: (finding: Finding, end: string) => Life,
  { namespace, name }: PodLifeSeen,
): Life {
  const anew = deletePod(namespace, name);
  if (code === "init-container") {
    return endWith(
      found(
        "pod-own-init",
        reason,
        `${injectForCni} && ${anew}`,
      ),
      "is meshed without the plugin: its init container kuma-init sets up the redirection",
    );
  }
  const [why] = [lowered(reason)];
  if (wanted === true) {
    return endWith(
      found(
        "pod-not-injected",
        `${reason}, although the label asks for it: the injector did not answer when the pod was made`,
        `${anew}   # once the injector runs: kubectl get mutatingwebhookconfigurations`,
      ),
      `is not meshed: ${why}, although its label asks for a sidecar; the injector was away`,
    );
  }
  return endWith(
    found(
      "pod-unlabelled",
      reason,
      wanted === false
        ? `kubectl label --overwrite namespace ${
          shellWord(namespace)
        } ${label}=enabled && ${anew}` +
          "   # only if it shall be meshed"
        : undefined,
    ),
    `is not meshed: ${why}` +
      (wanted === false && injection !== undefined ? `; ${lowered(injection.text)}` : ""),
  );
}

function phaseOf({ status }: Record<string, unknown>): string {
  const phase = isRecord(status) ? status.phase : undefined;
  return typeof phase === "string" ? phase.slice(0, 40) : "of unknown phase";
}

/** Whether kuma-validation has ended with an error, now or the last time. */
function hasFailedValidation({ status }: Record<string, unknown>): boolean {
  const list = isRecord(status) ? status.initContainerStatuses : undefined;
  const own = (Array.isArray(list) ? list : [])
    .find((entry) => isRecord(entry) && entry.name === "kuma-validation");
  return [own?.state?.terminated, own?.lastState?.terminated]
    .some((end) => isRecord(end) && typeof end.exitCode === "number" && end.exitCode !== 0) &&
    own?.state?.terminated?.exitCode !== 0;
}

/** The first letter small, unless it begins a name. */
function lowered(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text[0]!.toLowerCase() + text.slice(1) : text;
}
