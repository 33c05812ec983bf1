/** `--platform auto`: what a cluster shows, and which platform that is, or why it is not clear. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { choosePlatform } from "../installer/manifests/choose_platform.ts";
import { k3sBinDir, kubeletVersion } from "../installer/manifests/k3s.ts";
import { platformRow } from "../installer/manifests/platforms.ts";

interface NodeFacts {
  readonly name?: string;
  readonly kubelet?: string;
  readonly os?: string;
  readonly provider?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

function node({ name = "n1", kubelet = "v1.31.2", os = "Debian", provider, labels }: NodeFacts) {
  return {
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/os": "linux", ...labels } },
    spec: provider === undefined ? {} : { providerID: provider },
    status: { nodeInfo: { kubeletVersion: kubelet, osImage: os } },
  };
}

function daemonSet(name: string, image = "x:1", namespace = "kube-system") {
  return {
    kind: "DaemonSet",
    metadata: { name, namespace },
    spec: { template: { spec: { containers: [{ name: "c", image }] } } },
  };
}

const cilium = daemonSet("cilium", "quay.io/cilium/cilium:v1.16.1@sha256:00");
const calico = daemonSet("calico-node");
const aws = daemonSet("aws-node");
const gke = { kubelet: "v1.31.2-gke.100", provider: "gce://p/z/n" };
const eks = { kubelet: "v1.31.2-eks-abc", provider: "aws:///z/i" };
const aks = { provider: "azure:///x", labels: { "kubernetes.azure.com/cluster": "c" } };

const clear: readonly [platform: string, objects: readonly unknown[]][] = [
  ["kind", [node({ provider: "kind://docker/kind/n1" }), daemonSet("kindnet")]],
  ["calico", [node({ provider: "kind://docker/kind/n1" }), calico]],
  ["cilium", [node({}), cilium]],
  ["cilium-before-1.14", [node({}), daemonSet("cilium", "cilium:v1.13.9")]],
  ["calico", [node({}), calico, daemonSet("kube-proxy")]],
  ["k3s", [node({ kubelet: "v1.31.2+k3s1" })]],
  ["k3d", [node({ name: "k3d-x-server-0", kubelet: "v1.31.2+k3s1" })]],
  ["rke2", [node({ kubelet: "v1.31.2+rke2r1" }), daemonSet("rke2-canal")]],
  ["k0s", [node({ kubelet: "v1.31.2+k0s" }), daemonSet("kube-router")]],
  ["microk8s", [node({ labels: { "microk8s.io/cluster": "true" } }), calico]],
  ["minikube", [node({ labels: { "minikube.k8s.io/version": "v1" } })]],
  ["talos", [node({ os: "Talos (v1.9.0)" }), daemonSet("kube-flannel")]],
  ["bottlerocket", [node({ ...eks, os: "Bottlerocket OS 1.20" }), aws]],
  ["openshift", [node({ os: "Red Hat Enterprise Linux CoreOS 418" })]],
  ["openshift-3.11", [
    node({ kubelet: "v1.11.0+d4cacc0", os: "Red Hat Enterprise Linux Server 7.9" }),
    daemonSet("ovs", "x", "openshift-sdn"),
  ]],
  ["gke-cilium", [node(gke), cilium]],
  ["gke-calico", [node(gke), calico]],
  ["aws", [node(eks), aws]],
  ["cilium", [node(eks), cilium]],
  ["azure", [node(aks)]],
  ["azure-overlay", [
    node({ ...aks, labels: { ...aks.labels, "kubernetes.azure.com/podnetwork-type": "overlay" } }),
    daemonSet("azure-cns"),
  ]],
];

for (const [platform, objects] of clear) {
  Deno.test(`the cluster is ${platform}: ${JSON.stringify(objects).length} bytes of signs`, () => {
    const choice = choosePlatform(objects);
    deepEqual([choice.kind, "platform" in choice && choice.platform], ["chosen", platform]);
    ok(choice.reason.includes("node "), choice.reason);
    // The row must be there, with the facts that were found.
    platformRow(platform, { kubelet: "kubelet" in choice ? choice.kubelet : undefined });
  });
}

const unclear: readonly [why: string, objects: readonly unknown[]][] = [
  ["no Linux nodes", []],
  ["no Linux nodes", [node({ labels: { "kubernetes.io/os": "windows" } }), cilium]],
  ["no network plugin's DaemonSet is known", [node({})]],
  ["cilium (DaemonSet kube-system/cilium) and calico", [node({}), cilium, calico]],
  ["no row for flannel", [node({}), daemonSet("kube-flannel-ds")]],
  ["version of Cilium", [node({}), daemonSet("cilium", "cilium@sha256:00")]],
  ["nodes differ", [node({}), node({ name: "n2", kubelet: "v1.31.2+k3s1" }), cilium]],
  ["its own flannel has no DaemonSet", [node({ kubelet: "v1.31.2+k3s1" }), cilium]],
  ["releases of the nodes differ", [
    node({ kubelet: "v1.31.1+k3s1" }),
    node({ name: "n2", kubelet: "v1.31.2+k3s1" }),
  ]],
  ["Rancher Desktop", [node({ name: "lima-rancher-desktop", kubelet: "v1.31.2+k3s1" })]],
  ["Docker Desktop", [node({ name: "docker-desktop" })]],
  ["Cilium and Calico only", [node(gke), daemonSet("anetd")]],
  ["azure-cns", [node(aks), daemonSet("azure-cns")]],
  ["depends on how it was set up", [node(aks), cilium]],
  ["aws (DaemonSet kube-system/aws-node) and cilium", [node(eks), aws, cilium]],
  ["AWS VPC CNI only", [node({ ...eks, os: "Bottlerocket OS 1.20" }), cilium]],
  ["openshift-sdn", [node({ kubelet: "v1.11.0" })]],
];

for (const [why, objects] of unclear) {
  Deno.test(`an unclear cluster is not guessed: ${why}, ${objects.length} objects`, () => {
    const choice = choosePlatform(objects);
    equal(choice.kind, "unsure", JSON.stringify(choice));
    ok(choice.reason.includes(why), choice.reason);
  });
}

Deno.test("anything at all is read as a cluster without an exception", () => {
  for (const odd of [null, 1, "x", [], {}, { kind: "Node" }, { kind: "Node", metadata: 1 }]) {
    ok(choosePlatform([odd, odd, { kind: "DaemonSet", spec: [] }]).reason.length > 0);
  }
});

Deno.test("the bin dir of k3s goes by the release, on hosts and in containers", () => {
  const settled = "/var/lib/rancher/k3s/data/cni";
  const old = "/var/lib/rancher/k3s/data/current/bin";
  const rows: [version: string, host: string, container: string][] = [
    ["v1.27.16+k3s1", old, "/bin"],
    ["v1.28.14+k3s1", old, "/bin"],
    ["v1.28.15+k3s1", settled, "/bin"],
    ["v1.29.9+k3s1", old, "/bin"],
    ["v1.29.10+k3s1", settled, "/bin"],
    ["v1.29.15+k3s1", settled, settled],
    ["v1.30.5+k3s1", old, "/bin"],
    ["v1.30.6+k3s1", settled, "/bin"],
    ["v1.30.11+k3s1", settled, settled],
    ["v1.31.1+k3s1", old, "/bin"],
    ["v1.31.2+k3s1", settled, "/bin"],
    ["v1.31.7+k3s1", settled, settled],
    ["v1.32.0+k3s1", settled, "/bin"],
    ["v1.32.3+k3s1", settled, settled],
    ["v1.33.0+k3s1", settled, settled],
    ["v2.0.0", settled, settled],
  ];
  deepEqual(
    rows.map(([version]) => [
      version,
      k3sBinDir("k3s", kubeletVersion(version)).binDir,
      k3sBinDir("k3d", kubeletVersion(version)).binDir,
    ]),
    rows,
  );
});
