/** Healthy nodes of each platform: its files as it keeps them; facts are those of docs/install.md. */
import type { DoctorNode } from "./doctor_bed.ts";

/** Where k3s keeps the configurations of its parts. */
export const k3s = "/var/lib/rancher/k3s/agent/etc";
/** Text of a list that calls such plugins. */
export const list = (...types: string[]): string =>
  JSON.stringify({ cniVersion: "1.0.0", name: "net", plugins: types.map((type) => ({ type })) });
/** Configuration of containerd 1.x. */
export const containerd2 = (netDir: string, binDir: string): string =>
  `version = 2\n[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "${binDir}"\n` +
  `conf_dir = "${netDir}"\n`;
/** Configuration of containerd 2.x. */
export const containerd3 = (netDir: string, binDir: string): string =>
  `version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ['${binDir}']\n` +
  `conf_dir = '${netDir}'\n`;

/** Healthy nodes: files of each platform as platforms keep them. */
export const platformNodes: Readonly<Record<string, DoctorNode>> = {
  "kubeadm": { files: { "/etc/containerd/config.toml": "version = 2\n" } },
  "kubeadm, containerd 2 with an import": {
    files: {
      "/etc/containerd/config.toml": 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
      "/etc/containerd/conf.d/cni.toml": containerd3("/etc/cni/net.d", "/opt/cni/bin"),
    },
  },
  "kubeadm, CRI-O of an RPM": {
    binDir: "/usr/libexec/cni",
    files: {
      "/etc/crio/crio.conf": "[crio.network]\n",
      "/etc/crio/crio.conf.d/10-rpm": '[crio.network]\nplugin_dirs = ["/usr/libexec/cni"]\n',
      "/usr/libexec/cni/calico": "",
      "/usr/libexec/cni/portmap": "",
    },
  },
  "kind": {
    files: { "/etc/containerd/config.toml": "version = 2\n" },
    list: ["10-kindnet.conflist", list("ptp", "portmap")],
  },
  "minikube": { list: ["1-k8s.conflist", list("bridge", "portmap", "firewall")] },
  "k3s": {
    netDir: `${k3s}/cni/net.d`,
    binDir: "/var/lib/rancher/k3s/data/cni",
    files: {
      [`${k3s}/containerd/config.toml`]: containerd2(
        `${k3s}/cni/net.d`,
        "/var/lib/rancher/k3s/data/cni",
      ),
      "/run/k3s/containerd/containerd.sock": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap", "bandwidth")],
  },
  "k3d before March 2025": {
    netDir: `${k3s}/cni/net.d`,
    binDir: "/bin",
    files: {
      [`${k3s}/containerd/config.toml`]: containerd3(`${k3s}/cni/net.d`, "/bin"),
      "/run/k3s/containerd/containerd.sock": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap")],
  },
  "RKE2": {
    files: {
      "/var/lib/rancher/rke2/agent/etc/containerd/config.toml": containerd3(
        "/etc/cni/net.d",
        "/opt/cni/bin",
      ),
      "/run/k3s/containerd/containerd.sock": "",
    },
    list: ["10-canal.conflist", list("calico", "portmap")],
  },
  "k0s": {
    files: {
      "/etc/k0s/containerd.toml": "# k0s_managed=true\nversion = 3\n",
      "/run/k0s/containerd.sock": "",
    },
    list: ["10-kuberouter.conflist", list("bridge", "portmap")],
  },
  "Rancher Desktop": {
    binDir: "/usr/libexec/cni",
    files: {
      "/etc/containerd/config.toml": containerd2("/etc/cni/net.d", "/usr/libexec/cni"),
      "/run/containerd/containerd.sock": "",
      // k3s is there, and has its data; its containerd does not run.
      "/var/lib/rancher/k3s/server/token": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap")],
  },
  "Talos": {
    files: {
      "/etc/cri/containerd.toml": 'version = 3\nimports = ["/etc/cri/conf.d/cri.toml"]\n',
      "/etc/cri/conf.d/cri.toml": containerd3("/etc/cni/net.d", "/opt/cni/bin"),
      "/run/containerd/containerd.sock": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap")],
  },
  "GKE": {
    binDir: "/home/kubernetes/bin",
    files: {
      "/etc/containerd/config.toml": containerd2("/etc/cni/net.d", "/home/kubernetes/bin"),
    },
    list: ["10-gke-ptp.conflist", list("gke", "cilium-cni", "portmap")],
  },
  "EKS": {
    files: { "/etc/containerd/config.toml": containerd3("/etc/cni/net.d", "/opt/cni/bin") },
    list: ["10-aws.conflist", list("aws-cni", "egress-cni", "portmap")],
  },
  "AKS, Cilium": {
    list: ["05-cilium.conflist", list("cilium-cni")],
    files: {
      "/var/run/cilium/state/globals/node_config.h": "#define ENABLE_SOCKET_LB_HOST_ONLY 1\n",
      "/etc/cni/net.d/10-azure.conflist.cilium_bak": list("azure-vnet"),
    },
  },
  "OpenShift behind Multus": {
    netDir: "/run/multus/cni/net.d",
    binDir: "/var/lib/cni/bin",
    environment: { CNI_RUNTIME: "multus" },
    list: [
      "10-ovn-kubernetes.conf",
      '{"cniVersion":"1.0.0","name":"o","type":"ovn-k8s-cni-overlay"}',
    ],
  },
  "Multus in front": {
    files: {
      "/etc/cni/net.d/00-multus.conf": JSON.stringify({
        cniVersion: "1.0.0",
        name: "multus",
        type: "multus",
        clusterNetwork: "/etc/cni/net.d/10-calico.conflist",
      }),
    },
  },
  "NodeLocal DNSCache under containerd": {
    files: {
      "/var/lib/kubelet/config.yaml": "kind: KubeletConfiguration\nclusterDNS:\n- 169.254.20.10\n",
    },
  },
};
