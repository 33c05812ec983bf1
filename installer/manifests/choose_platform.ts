/**
 * Chooses the platform by what a cluster shows: its nodes and the DaemonSets of network plugins. A
 * wrong folder would leave pods without rules, so anything unclear is said and not guessed.
 */
import { isRecord } from "../../src/json/record.ts";
import { type Tree } from "./tree.ts";
import { k3sBinDir, kubeletVersion } from "./k3s.ts";

/** What a look at the cluster gave. */
export type PlatformChoice =
  | {
    readonly kind: "chosen";
    readonly platform: string;
    readonly kubelet?: string;
    readonly reason: string;
  }
  | { readonly kind: "unsure"; readonly reason: string };

interface Node {
  readonly name: string;
  readonly providerId: string;
  readonly labels: Tree;
  readonly kubelet: string;
  readonly osImage: string;
}

interface DaemonSet {
  readonly name: string;
  readonly namespace: string;
  readonly images: readonly string[];
}

/** One node's platform as far as the node itself tells; the network plugin decides the rest. */
interface NodeGuess {
  readonly base: string;
  readonly sign: string;
}

/**
 * Chooses.
 *
 * @param objects Nodes and DaemonSets of the whole cluster, as `kubectl get nodes,daemonsets -A -o
 * json` prints them under `items`.
 */
export function choosePlatform(objects: readonly unknown[]): PlatformChoice {
  const nodes = objects.filter((object) => kindOf(object) === "Node").map(nodeOf)
    .filter(({ labels }) => labels["kubernetes.io/os"] !== "windows");
  const daemonSets = objects.filter((object) => kindOf(object) === "DaemonSet").map(daemonSetOf);
  const [first] = nodes;
  if (first === undefined) return unsure("there are no Linux nodes in what was read");
  const guesses = nodes.map((node) => ({ node, guess: guessOf(node) }));
  const { guess } = guesses[0]!;
  const other = guesses.find((one) => one.guess.base !== guess.base);
  if (other !== undefined) {
    return unsure(
      `nodes differ: ${first.name} is ${guess.base} (${guess.sign}), ${other.node.name} is ` +
        `${other.guess.base} (${other.guess.sign}); make one DaemonSet for each, with --set ` +
        "nameOverride and cni.nodeSelector",
    );
  }
  const said = `node ${first.name}: ${guess.sign}`;
  return choiceFor(guess.base, said, nodes, daemonSets);
}

/** The first sign that a node shows, the most telling ones first. */
function guessOf({ name, providerId, labels, kubelet, osImage }: Node): NodeGuess {
  const guess = (base: string, sign: string): NodeGuess => ({ base, sign });
  if (name.startsWith("lima-rancher-desktop") || osImage.includes("Rancher Desktop")) {
    return guess("Rancher Desktop", `its name is ${name}`);
  }
  if (name === "docker-desktop") return guess("Docker Desktop", `its name is ${name}`);
  if (kubelet.includes("+k3s")) {
    const isInContainer = name.startsWith("k3d-");
    return guess(
      isInContainer ? "k3d" : "k3s",
      `kubelet ${kubelet}${isInContainer ? `, name ${name}` : ""}`,
    );
  }
  if (kubelet.includes("+rke2")) return guess("rke2", `kubelet ${kubelet}`);
  if (kubelet.includes("+k0s")) return guess("k0s", `kubelet ${kubelet}`);
  for (
    const [base, label] of [
      ["microk8s", "microk8s.io/cluster"],
      ["minikube", "minikube.k8s.io/version"],
    ] as const
  ) {
    if (Object.hasOwn(labels, label)) return guess(base, `label ${label}`);
  }
  if (providerId.startsWith("kind://")) return guess("kind", `provider ID ${providerId}`);
  if (osImage.startsWith("Talos")) return guess("talos", `its system is ${osImage}`);
  if (osImage.startsWith("Bottlerocket")) return guess("bottlerocket", `its system is ${osImage}`);
  if (osImage.startsWith("Red Hat Enterprise Linux CoreOS")) {
    return guess("openshift", `its system is ${osImage}`);
  }
  if (/^v1\.11\./.test(kubelet)) return guess("openshift-3.11", `kubelet ${kubelet}`);
  for (
    const [base, prefix, suffix, label] of [
      ["gke", "gce://", "-gke.", "cloud.google.com/gke-nodepool"],
      ["azure", "azure://", undefined, "kubernetes.azure.com/cluster"],
      ["aws", "aws://", "-eks-", "eks.amazonaws.com/nodegroup"],
    ] as const
  ) {
    if (Object.hasOwn(labels, label)) return guess(base, `label ${label}`);
    if (suffix !== undefined && kubelet.includes(suffix)) return guess(base, `kubelet ${kubelet}`);
    if (providerId.startsWith(prefix)) {
      return guess(`${base} without a managed service`, providerId);
    }
  }
  return guess("plain", `no sign of a distribution, kubelet ${kubelet}`);
}

/** Which platform, given what the nodes are and which network plugins run. */
function choiceFor(
  base: string,
  said: string,
  nodes: readonly Node[],
  daemonSets: readonly DaemonSet[],
): PlatformChoice {
  const plugins = networkPlugins(daemonSets);
  const names = plugins.map(({ plugin }) => plugin);
  const only = names.length === 1 ? names[0] : undefined;
  const found = plugins.map(({ plugin, daemonSet }) =>
    `${plugin} (DaemonSet ${daemonSet.namespace}/${daemonSet.name})`
  ).join(" and ");
  const running = names.length === 0 ? "no network plugin's DaemonSet is known" : `${found} runs`;
  const chosen = (platform: string, kubelet?: string): PlatformChoice => ({
    kind: "chosen",
    platform,
    ...(kubelet === undefined ? {} : { kubelet }),
    reason: `${said}; ${running}`,
  });
  const unclear = (why: string) => unsure(`${said}; ${running}; ${why}`);
  switch (base) {
    case "k3s":
    case "k3d": {
      if (names.length > 0) return unclear("its own flannel has no DaemonSet, so it is not in use");
      const dirs = new Set(nodes.map((n) => k3sBinDir(base, kubeletVersion(n.kubelet)).binDir));
      if (dirs.size > 1) return unclear(`releases of the nodes differ: ${[...dirs].join(", ")}`);
      return chosen(base, nodes[0]!.kubelet);
    }
    case "kind":
      if (only === "kindnet") return chosen("kind");
      return onlyGeneric(plugins, chosen, unclear);
    case "rke2":
    case "k0s":
    case "microk8s":
    case "minikube":
    case "talos":
      return chosen(base);
    case "bottlerocket":
      return only === "aws" ? chosen(base) : unclear("its file is known for the AWS VPC CNI only");
    case "openshift":
      return chosen(base);
    case "openshift-3.11":
      return daemonSets.some(({ namespace }) => namespace === "openshift-sdn")
        ? chosen(base)
        : unclear("there is no DaemonSet in openshift-sdn");
    case "gke":
      if (only === "cilium" || only === "calico") return chosen(`gke-${only}`);
      return unclear("its file is known for Cilium and Calico only");
    case "azure": {
      if (names.length > 0) {
        return unclear("which file it uses on AKS depends on how it was set up");
      }
      const label = "kubernetes.azure.com/podnetwork-type";
      if (nodes.every(({ labels }) => labels[label] === "overlay")) return chosen("azure-overlay");
      if (daemonSets.some(({ name }) => name === "azure-cns")) {
        return unclear("azure-cns writes files of several names");
      }
      return chosen("azure");
    }
    case "aws":
      if (only === "aws") return chosen("aws");
      return onlyGeneric(plugins, chosen, unclear);
    case "plain":
      return onlyGeneric(plugins, chosen, unclear);
    default:
      return unclear(`there is no row for ${base}`);
  }
}

/** Cilium or Calico alone, which use the standard folders where the distribution has no others. */
function onlyGeneric(
  plugins: readonly NetworkPlugin[],
  chosen: (platform: string) => PlatformChoice,
  unclear: (why: string) => PlatformChoice,
): PlatformChoice {
  const [plugin, ...others] = plugins;
  if (plugin === undefined || others.length > 0) {
    return unclear("which of its files the runtime loads cannot be told from here");
  }
  if (plugin.plugin === "calico") return chosen("calico");
  if (plugin.plugin !== "cilium") return unclear(`there is no row for ${plugin.plugin} here`);
  const version = plugin.daemonSet.images.map((image) => /:v?(\d+)\.(\d+)\./.exec(image))
    .find((match) => match !== null);
  if (!version) return unclear("the version of Cilium cannot be told from its image");
  const [major, minor] = [Number(version[1]), Number(version[2])];
  return chosen(major > 1 || minor >= 14 ? "cilium" : "cilium-before-1.14");
}

interface NetworkPlugin {
  readonly plugin: string;
  readonly daemonSet: DaemonSet;
}

function networkPlugins(daemonSets: readonly DaemonSet[]): NetworkPlugin[] {
  const known = new Map([
    ["cilium", "cilium"],
    ["calico-node", "calico"],
    ["kindnet", "kindnet"],
    ["aws-node", "aws"],
    ["kube-flannel-ds", "flannel"],
    ["canal", "canal"],
    ["rke2-canal", "canal"],
    ["kube-router", "kube-router"],
    ["weave-net", "weave"],
    ["anetd", "dataplane-v2"],
  ]);
  return daemonSets.flatMap((daemonSet) => {
    const plugin = known.get(daemonSet.name);
    return plugin === undefined ? [] : [{ plugin, daemonSet }];
  });
}

function unsure(reason: string): PlatformChoice {
  return { kind: "unsure", reason };
}

function kindOf(object: unknown): unknown {
  return isRecord(object) ? object.kind : undefined;
}

function nodeOf(object: unknown): Node {
  const info = at(object, "status", "nodeInfo");
  const labels = at(object, "metadata", "labels");
  return {
    name: textAt(object, "metadata", "name"),
    providerId: textAt(object, "spec", "providerID"),
    labels: isRecord(labels) ? labels : {},
    kubelet: textAt(info, "kubeletVersion"),
    osImage: textAt(info, "osImage"),
  };
}

function daemonSetOf(object: unknown): DaemonSet {
  const containers = at(object, "spec", "template", "spec", "containers");
  return {
    name: textAt(object, "metadata", "name"),
    namespace: textAt(object, "metadata", "namespace"),
    images: Array.isArray(containers) ? containers.map((one) => textAt(one, "image")) : [],
  };
}

function at(object: unknown, ...keys: readonly string[]): unknown {
  let current = object;
  for (const key of keys) current = isRecord(current) ? current[key] : undefined;
  return current;
}

function textAt(object: unknown, ...keys: readonly string[]): string {
  const value = at(object, ...keys);
  return typeof value === "string" ? value : "";
}
