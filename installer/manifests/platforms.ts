/**
 * Environments: where each keeps its network configuration and programs, and what must be done
 * elsewhere. Rows are those of Kuma's documentation; more where the platform's own sources are sure.
 */
import { k3sBinDir, kubeletVersion } from "./k3s.ts";
import { setAt } from "./values.ts";
import { type Tree, ValuesError } from "./tree.ts";

/** What is known of the cluster besides the platform's name. */
export interface PlatformFacts {
  /** Version of the nodes' kubelet, for example `v1.31.2+k3s1`. */
  readonly kubelet?: string | undefined;
  /** Whether to come in by Multus' auxiliary chain. */
  readonly auxiliaryChain?: boolean | undefined;
}

/** A platform's row, with the facts filled in. */
export interface PlatformRow {
  /** Values by their full name. */
  readonly values: Readonly<Record<string, unknown>>;
  /** What the user must do elsewhere, one step each. */
  readonly steps: readonly string[];
}

/** A platform. */
export interface Platform {
  readonly name: string;
  /** What it is, for people. */
  readonly title: string;
  /** Whether there is a way in by Multus' auxiliary chain. */
  readonly hasAuxiliaryChain?: boolean;
  row(facts: PlatformFacts): PlatformRow;
}

const standardDirs = { netDir: "/etc/cni/net.d", binDir: "/opt/cni/bin" } as const;
const gkeDirs = { netDir: "/etc/cni/net.d", binDir: "/home/kubernetes/bin" } as const;
const k3sNetDir = "/var/lib/rancher/k3s/agent/etc/cni/net.d";
const microk8s = "/var/snap/microk8s/current";

/** Where Multus looks for its auxiliary chain on OpenShift: beside the primary network's list. */
const auxiliaryChainDir = "/var/run/multus/cni/net.d/vendor-cni-chain";

const ciliumStep = "Cilium must leave other files alone: set its Helm value cni.exclusive=false " +
  "(cni-exclusive in its ConfigMap), else it renames or rewrites what is chained";
const gkeStep = "GKE: network policy must be enabled in the cluster";
const ipv4Step = "EKS nodes have IPv6 off: set the control plane's " +
  "controlPlane.envVars.KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_IP_FAMILY_MODE=ipv4; " +
  "Kuma 3 takes transparentProxy.configMap.config.ipFamilyMode=ipv4 instead";
const azureStep = "Azure may put its list back at any time; install-cni chains to it again";
const podSecurityStep = "Talos enforces Pod Security outside of kube-system: label another " +
  "cni.namespace pod-security.kubernetes.io/enforce=privileged";

/** All platforms, in the order of the documentation. */
export const platforms: readonly Platform[] = [
  chained("cilium", "Cilium 1.14 and later", "05-cilium.conflist", standardDirs, [ciliumStep]),
  chained("cilium-before-1.14", "Cilium before 1.14", "05-cilium.conf", standardDirs),
  chained("calico", "Calico", "10-calico.conflist", standardDirs),
  k3s("k3d", "K3d with flannel"),
  k3s("k3s", "K3s with flannel"),
  chained("kind", "kind", "10-kindnet.conflist", standardDirs),
  chained("azure", "AKS with Azure CNI", "10-azure.conflist", standardDirs, [azureStep]),
  chained(
    "azure-overlay",
    "AKS with Azure CNI overlay",
    "15-azure-swift-overlay.conflist",
    standardDirs,
    [azureStep],
  ),
  chained("aws", "EKS with the AWS VPC CNI", "10-aws.conflist", standardDirs, [ipv4Step]),
  chained("gke-cilium", "GKE with Cilium", "05-cilium.conflist", gkeDirs, [gkeStep, ciliumStep]),
  chained("gke-calico", "GKE with Calico", "10-calico.conflist", gkeDirs, [gkeStep]),
  {
    name: "openshift-3.11",
    title: "OpenShift 3.11",
    row: () => ({
      // Its Kubernetes 1.11 does not have the field, and kubectl refuses unknown ones.
      values: {
        "cni.containerSecurityContext.privileged": true,
        "cni.containerSecurityContext.seccompProfile": null,
      },
      steps: [
        "On each master, enable MutatingAdmissionWebhook and ValidatingAdmissionWebhook under " +
        "admissionConfig.pluginConfig in /etc/origin/master/master-config.yaml, then restart the " +
        "API server and the controllers",
        "oc adm policy add-scc-to-user privileged -z kuma-cni -n kube-system",
        "Kuma must make a NetworkAttachmentDefinition in each namespace of the mesh: label it " +
        "kuma.io/sidecar-injection",
      ],
    }),
  },
  {
    name: "openshift",
    title: "OpenShift 4",
    hasAuxiliaryChain: true,
    row: ({ auxiliaryChain = false }) =>
      auxiliaryChain
        ? {
          values: {
            ...openshiftValues,
            "cni.netDir": auxiliaryChainDir,
            // Multus calls the chain for each pod, those of the platform itself, too.
            "cni.excludeNamespaces": ["openshift-*"],
          },
          steps: [
            "This way in needs OpenShift 4.18 or later (Multus 4.2.1); no annotation and no " +
            "NetworkAttachmentDefinition is needed. It was tried with what Multus sends, not on a " +
            "cluster",
          ],
        }
        : {
          values: openshiftValues,
          steps: [
            "Kuma must make a NetworkAttachmentDefinition in each namespace of the mesh: label it " +
            "kuma.io/sidecar-injection",
          ],
        },
  },
  // RKE2, k0s and others leave the choice of the network plugin open; the file that the runtime
  // loads is the right one.
  chained("rke2", "RKE2", "", standardDirs),
  chained("k0s", "k0s", "", standardDirs),
  chained("microk8s", "MicroK8s", "", {
    netDir: `${microk8s}/args/cni-network`,
    binDir: `${microk8s}/opt/cni/bin`,
  }, [
    "A snap refresh moves MicroK8s' folders: restart the DaemonSet after one, kubectl rollout " +
    "restart",
  ]),
  chained("minikube", "minikube", "", standardDirs),
  chained("talos", "Talos", "", standardDirs, [podSecurityStep]),
  chained("bottlerocket", "Bottlerocket on EKS", "10-aws.conflist", standardDirs, [ipv4Step]),
];

/** CRI-O deletes a pod by what it was started with, so that the plugin's stub must outlive it. */
const openshiftValues = {
  "cni.runtime": "cri-o",
  "cni.containerSecurityContext.privileged": true,
} as const;

function chained(
  name: string,
  title: string,
  confName: string,
  dirs: { readonly netDir: string; readonly binDir: string },
  steps: readonly string[] = [],
): Platform {
  const values = {
    "cni.chained": true,
    "cni.netDir": dirs.netDir,
    "cni.binDir": dirs.binDir,
    "cni.confName": confName,
  };
  return { name, title, row: () => ({ values, steps }) };
}

function k3s(name: "k3s" | "k3d", title: string): Platform {
  return {
    name,
    title,
    row({ kubelet }) {
      const version = kubelet === undefined ? undefined : kubeletVersion(kubelet);
      const { binDir, steps } = k3sBinDir(name, version);
      return {
        values: {
          "cni.chained": true,
          "cni.netDir": k3sNetDir,
          "cni.binDir": binDir,
          "cni.confName": "10-flannel.conflist",
        },
        steps,
      };
    },
  };
}

/**
 * Finds a platform's row.
 *
 * @throws {ValuesError} when there is none, or the facts do not fit.
 */
export function platformRow(name: string, facts: PlatformFacts): PlatformRow {
  const platform = platforms.find((candidate) => candidate.name === name);
  if (platform === undefined) {
    const names = platforms.map((candidate) => candidate.name).join(", ");
    throw new ValuesError(`--platform is "${name}", expected auto or one of ${names}`);
  }
  if (facts.auxiliaryChain && !platform.hasAuxiliaryChain) {
    throw new ValuesError(
      `--auxiliary-chain does not go with --platform ${name}, expected --platform openshift`,
    );
  }
  return platform.row(facts);
}

/** Makes a tree of a row's values. */
export function treeOfRow({ values }: PlatformRow): Tree {
  const tree: Tree = {};
  for (const [name, value] of Object.entries(values)) setAt(tree, name, value);
  return tree;
}
