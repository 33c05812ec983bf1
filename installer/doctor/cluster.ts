/** What is found of the plugin's account, the API server, the agent and the node's pods. Pure. */
import { isOverdue, type TokenTimes } from "../../src/kubernetes/token_expiry.ts";
import { doubtsOf } from "../cluster/doubts.ts";
import { type Finding, found, good, notSeen } from "./finding.ts";
import {
  deletePod,
  log,
  renewToken,
  restart,
  restoreRights,
  setValue,
  shellWord,
} from "./fixes.ts";
import { isImpossible, type NodeSeen, slowMilliseconds } from "./seen.ts";

/** Tells about the token and the API server, as the plugin meets them. */
export function apiFindings({ api, token, observed, settings }: NodeSeen): Finding[] {
  const now = observed.at;
  const findings: Finding[] = [];
  if (isImpossible(token)) {
    // That there is none is told with the other files.
    if (observed.kubeconfig !== undefined) {
      findings.push(found("kubeconfig-wrong", token.impossible, restart(settings)));
    }
  } else {
    const { issued, expires } = token;
    const age = issued === undefined ? "" : `${words(now - issued)} old, `;
    const rest = expires === undefined
      ? "does not say when it expires"
      : `good for ${words(expires - now)}`;
    findings.push(
      ...(isOverdue(token, now)
        ? tokenDoubts(token, now, renewToken(settings))
        : [good("token", `The token on the host is ${age}${rest}`.replace("is does", "does"))]),
    );
  }
  if (isImpossible(api)) {
    findings.push(notSeen("api", "Whether the API server answers", api.impossible));
    return findings;
  }
  const doubts = doubtsOf(api.state, undefined, Math.max(now, api.state.problemSince ?? 0), 0);
  for (const { code, text } of doubts) {
    findings.push(
      code === "api-forbidden"
        ? found("right-missing", text, `${restoreRights(settings)}   # restores the rights`)
        : found(
          "api-down",
          text,
          // A token that was good can have been revoked; for all else the way there is to be looked at.
          code === "api-unauthorized"
            ? renewToken(settings)
            : `curl -k ${shellWord(`${api.server}/livez`)}   # from the node`,
        ),
    );
  }
  if (doubts.length === 0 && api.milliseconds !== undefined) {
    const time = Math.round(api.milliseconds);
    findings.push(
      time > slowMilliseconds
        ? found(
          "api-slow",
          `The API server answers in ${time} ms, and a pod that the agent does not know waits for it`,
          setValue(settings, "cni.rbac.watchPods=true") + "   # so that the agent knows them all",
        )
        : good("api", `The API server answers this account in ${time} ms`),
    );
  }
  return [...findings, ...rightsFindings(settings, api.rights, doubts.length > 0)];
}

function tokenDoubts(token: TokenTimes, now: number, fix: string): Finding[] {
  const quiet = { problem: undefined, problemSince: undefined, forbidden: [] };
  return doubtsOf(quiet, token, now, 0)
    .map(({ code, text }) =>
      code === "token-expired"
        ? found(code, `${text}, so pods that the agent does not know cannot start`, fix)
        : found("token-expires", text, fix)
    );
}

function rightsFindings(
  settings: NodeSeen["settings"],
  rights: Exclude<NodeSeen["api"], { impossible: string }>["rights"],
  isDown: boolean,
): Finding[] {
  if (isImpossible(rights)) {
    return isDown ? [] : [notSeen("rights", "The account's rights", rights.impossible)];
  }
  const denied = rights.filter(({ allowed }) => !allowed).map(({ verb }) => verb);
  if (denied.length === 0) return [good("rights", "The account may get, list and watch pods")];
  // That it may not even get them is told already.
  if (isDown && denied.includes("get")) return [];
  return [
    found(
      "rights-narrow",
      `The account may not ${denied.join(", ")} pods in all namespaces` +
        (denied.includes("get")
          ? ", perhaps on purpose (namespaceAllowList)"
          : ", so the agent knows no pod before it starts"),
      setValue(settings, "cni.rbac.watchPods=true"),
    ),
  ];
}

/** Tells about the running agent. */
export function agentFindings({ agent, settings }: NodeSeen): Finding[] {
  const { socket, readiness } = agent;
  const findings: Finding[] = [
    // The kernel takes the connection of a stopped agent, too, so no more than this is known.
    socket === true ? good("agent", "The node agent listens at its socket") : found(
      "agent-silent",
      `The node agent does not answer at its socket (${socket}): nobody puts the list right when ` +
        "another program changes it, and each pod asks the API server",
      restart(settings),
    ),
  ];
  if (readiness === undefined) return findings;
  if (isImpossible(readiness)) {
    findings.push(notSeen("agent", "What the agent says about itself", readiness.impossible));
  } else if (!readiness.ready) {
    findings.push(
      found(
        "agent-not-ready",
        `The node agent is not ready: ${readiness.reason}`,
        log(settings),
      ),
    );
  } else findings.push(good("agent", `The node agent is ready: ${readiness.reason}`));
  return findings;
}

/** Pods that are named before the rest is counted. */
const named = 5;

/** Tells about pods of this node that run without their rules. */
export function podFindings({ pods }: NodeSeen): Finding[] {
  if (isImpossible(pods)) {
    return [notSeen("pods", "Which pods are captured", pods.impossible)];
  }
  const meshed = pods.filter(({ meshed }) => meshed);
  const missed = meshed.filter(({ captured }) => captured === false);
  if (missed.length === 0) {
    const unknown = meshed.filter(({ captured }) => captured === undefined);
    const total = `Meshed pods of this node: ${meshed.length} of ${pods.length}`;
    if (meshed.length === 0) return [good("pods", total)];
    if (unknown.length === 0) return [good("pods", `${total}, all captured`)];
    const what = `Whether ${unknown.length} of ${meshed.length} meshed pods are captured`;
    return [notSeen("pods", what, unknown[0]!.reason)];
  }
  const names = missed.slice(0, named).map(({ namespace, name }) => `${namespace}/${name}`);
  const more = missed.length > named ? ` and ${missed.length - named} more` : "";
  const [first] = missed;
  return [
    found(
      "pods-not-captured",
      `${missed.length} meshed ${missed.length === 1 ? "pod runs" : "pods run"} without rules: ` +
        `${names.join(", ")}${more}`,
      `${deletePod(first!.namespace, first!.name)}   # its successor is captured; ` +
        `"install-cni doctor ${names[0]}" tells why it is not`,
    ),
  ];
}

/** A time span in the largest unit that has at least two of it. */
export function words(milliseconds: number): string {
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]] as const;
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const [size, unit] = units.find(([size]) => seconds >= 2 * size) ?? units[3];
  return `${Math.floor(seconds / size)} ${unit}`;
}
