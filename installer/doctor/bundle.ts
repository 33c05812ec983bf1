/**
 * The support bundle: what somebody else needs to help, without what nobody else may read. Files of the
 * host go in only when they can be parsed, since only then secrets in them can be found.
 */
import { tar } from "../../src/archive/tar.ts";
import { isRecord } from "../../src/json/record.ts";
import { parseKubeconfig } from "../../src/kubernetes/kubeconfig.ts";
import { podSettings } from "../../src/pod/pod_settings.ts";
import { versionLine } from "../../src/version.ts";
import type { Diagnosis } from "./diagnosis.ts";
import type { PodLifeSeen } from "./pod.ts";
import { withoutSecretMembers, withoutSecrets } from "./redact.ts";
import { isImpossible, type NodeSeen } from "./seen.ts";

/** What goes into a bundle. */
export interface BundleContent {
  readonly diagnosis: Diagnosis;
  /** The diagnosis as people read it. */
  readonly text: string;
  readonly node: NodeSeen;
  /** The pod that was asked about. */
  readonly pod?: PodLifeSeen;
  /** The agent's metrics, where they could be had. */
  readonly metrics?: string;
}

/**
 * Makes the bundle.
 *
 * @returns A gzipped tar archive, all files in the folder `kuma-cni-doctor`.
 */
export async function makeBundle(content: BundleContent): Promise<Uint8Array> {
  const known = secretsOf(content.node);
  const entries = Object.entries(filesOf(content, known)).map(([name, text]) => ({
    kind: "file" as const,
    path: `kuma-cni-doctor/${name}`,
    mode: 0o600,
    data: new TextEncoder().encode(bounded(withoutSecrets(text, known))),
  }));
  const archive = tar(entries, Math.floor(content.node.observed.at / 1000));
  const stream = new Blob([archive]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Most characters of one file: the bundle is to be sent to somebody. */
const longestFile = 1 << 20;

function bounded(text: string): string {
  const rest = text.length - longestFile;
  return rest <= 0 ? text : `${text.slice(0, longestFile)}\n(${rest} more characters left out)\n`;
}

/** Secrets that are known by their values, wherever they may turn up. */
function secretsOf({ observed }: NodeSeen): string[] {
  const secrets: string[] = [];
  if ("text" in observed.token) secrets.push(observed.token.text.trim());
  try {
    const access = parseKubeconfig(observed.kubeconfig?.text ?? "", "kubeconfig");
    secrets.push(access.token ?? "", access.clientCertificate?.key ?? "");
  } catch {
    // What cannot be read goes into no bundle.
  }
  return secrets.filter((secret) => secret !== "");
}

function filesOf(content: BundleContent, known: readonly string[]): Record<string, string> {
  const { diagnosis, text, node, pod, metrics } = content;
  const { settings, observed, plan, entries, kernel, folders, traces, token, api, agent } = node;
  const json = (value: unknown) =>
    JSON.stringify(withoutSecretMembers(value, known), null, 2) + "\n";
  const files: Record<string, string> = {
    "doctor.txt": text,
    "doctor.json": json(diagnosis),
    "version.txt": `${versionLine("install-cni")}\n`,
    "settings.json": json(settings),
    "node.json": json({ kernel, folders, traces, entries, agent, pods: node.pods }),
    "runtime.json": json(observed.view.runtime),
    "changes.json": json(node.changes),
    "account.json": json({
      expiry: token,
      api: isImpossible(api) ? api : { ...api, state: api.state.problem },
    }),
    "plan.json": json({
      steps: plan?.steps.map(({ kind, cause }) => ({ kind, cause })),
      waitingFor: plan?.waitingFor,
      blocked: plan?.blocked,
      warnings: plan?.warnings,
    }),
  };
  for (const file of observed.files) {
    const name = `net.d/${file.name.replaceAll(/[^\w.-]/g, "_").slice(0, 60)}`;
    // Two names can have become one.
    files[Object.hasOwn(files, name) ? `${name}.${Object.keys(files).length}` : name] = confText(
      file.text,
      file.problem,
      known,
    );
  }
  if (metrics !== undefined) files["metrics.txt"] = metrics;
  if (pod !== undefined) files["pod.json"] = json(podFacts(pod));
  return files;
}

/** A list as it stands, but for secrets; what cannot be parsed cannot be cleaned either. */
function confText(
  text: string | undefined,
  problem: string | undefined,
  known: readonly string[],
): string {
  if (text === undefined) return `${problem ?? "Cannot be read"}\n`;
  try {
    return JSON.stringify(withoutSecretMembers(JSON.parse(text), known), null, 2) + "\n";
  } catch {
    return `Not JSON, ${text.length} bytes, left out\n`;
  }
}

/** Annotations and labels that decide about a pod's traffic, besides those of its settings. */
const deciding: readonly string[] = [
  "kuma.io/sidecar-injected",
  "kuma.io/sidecar-injection",
  "kuma.io/mesh",
  "kuma.io/transparent-proxying",
  "traffic.kuma.io/transparent-proxy-config",
  "traffic.kuma.io/transparent-proxy-configmap-name",
  "k8s.v1.cni.cncf.io/networks",
  "kubernetes.io/config.hash",
  "kubernetes.io/config.mirror",
];

/** All others are nobody's business: `kuma.io/sidecar-env-vars`, for example, can have passwords. */
function decidingOf(map: unknown): Record<string, unknown> {
  const keys = [...deciding, ...podSettings().flatMap(({ annotation }) => annotation ?? [])];
  return isRecord(map)
    ? Object.fromEntries(
      keys.filter((key) => Object.hasOwn(map, key)).map((key) => [key, map[key]]),
    )
    : {};
}

function podFacts({ object, namespaceLabels, sandboxProblem, settings, evidence }: PodLifeSeen) {
  if (!isRecord(object) || isImpossible(object)) return { object: object ?? null };
  const { metadata, spec, status } = object as Record<string, unknown>;
  const names = (list: unknown) =>
    Array.isArray(list) ? list.map((item) => isRecord(item) ? item.name : undefined) : [];
  const fields = isRecord(spec) ? spec : {};
  const about = isRecord(metadata) ? metadata : {};
  const state = isRecord(status) ? status : {};
  return {
    namespace: about.namespace,
    name: about.name,
    uid: about.uid,
    created: about.creationTimestamp,
    annotations: decidingOf(about.annotations),
    labels: decidingOf(about.labels),
    namespaceLabels: isImpossible(namespaceLabels) ? namespaceLabels : decidingOf(namespaceLabels),
    containers: names(fields.containers),
    initContainers: names(fields.initContainers),
    hostNetwork: fields.hostNetwork,
    nodeName: fields.nodeName,
    runtimeClassName: fields.runtimeClassName,
    phase: state.phase,
    startTime: state.startTime,
    thisNode: settings.nodeName,
    sandboxProblem,
    evidence,
  };
}
