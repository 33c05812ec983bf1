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
  "kubeadm": {
    basis: "/etc/containerd/config.toml",
    files: { "/etc/containerd/config.toml": "version = 2\n" },
  },
  "kubeadm, containerd 2 with an import": {
    basis: "/etc/containerd/config.toml",
    files: {
      "/etc/containerd/config.toml": 'version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n',
      "/etc/containerd/conf.d/cni.toml": containerd3("/etc/cni/net.d", "/opt/cni/bin"),
    },
  },
  "kubeadm, CRI-O of an RPM": {
    basis: "/etc/crio/crio.conf",
    binDir: "/usr/libexec/cni",
    files: {
      "/etc/crio/crio.conf": "[crio.network]\n",
      "/etc/crio/crio.conf.d/10-rpm": '[crio.network]\nplugin_dirs = ["/usr/libexec/cni"]\n',
      "/usr/libexec/cni/calico": "",
      "/usr/libexec/cni/portmap": "",
    },
  },
  "kind": {
    basis: "/etc/containerd/config.toml",
    files: { "/etc/containerd/config.toml": "version = 2\n" },
    list: ["10-kindnet.conflist", list("ptp", "portmap")],
  },
  "minikube": { list: ["1-k8s.conflist", list("bridge", "portmap", "firewall")] },
  "k3s": {
    basis: `${k3s}/containerd/config.toml`,
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
    basis: `${k3s}/containerd/config.toml`,
    netDir: `${k3s}/cni/net.d`,
    binDir: "/bin",
    files: {
      [`${k3s}/containerd/config.toml`]: containerd3(`${k3s}/cni/net.d`, "/bin"),
      "/run/k3s/containerd/containerd.sock": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap")],
  },
  "RKE2": {
    basis: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
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
    basis: "/etc/k0s/containerd.toml",
    files: {
      "/etc/k0s/containerd.toml": "# k0s_managed=true\nversion = 3\n",
      "/run/k0s/containerd.sock": "",
    },
    list: ["10-kuberouter.conflist", list("bridge", "portmap")],
  },
  "Rancher Desktop": {
    basis: "/etc/containerd/config.toml",
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
    basis: "/etc/cri/containerd.toml",
    files: {
      "/etc/cri/containerd.toml": 'version = 3\nimports = ["/etc/cri/conf.d/cri.toml"]\n',
      "/etc/cri/conf.d/cri.toml": containerd3("/etc/cni/net.d", "/opt/cni/bin"),
      "/run/containerd/containerd.sock": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap")],
  },
  "GKE": {
    basis: "/etc/containerd/config.toml",
    binDir: "/home/kubernetes/bin",
    files: {
      "/etc/containerd/config.toml": containerd2("/etc/cni/net.d", "/home/kubernetes/bin"),
    },
    list: ["10-gke-ptp.conflist", list("gke", "cilium-cni", "portmap")],
  },
  "EKS": {
    basis: "/etc/containerd/config.toml",
    files: { "/etc/containerd/config.toml": containerd3("/etc/cni/net.d", "/opt/cni/bin") },
    list: ["10-aws.conflist", list("aws-cni", "egress-cni", "portmap")],
  },
  "EKS, Amazon Linux 2": {
    basis: "/etc/containerd/config.toml",
    files: {
      "/etc/os-release": 'ID="amzn"\nVERSION_ID="2"\n',
      "/etc/containerd/config.toml": containerd2("/etc/cni/net.d", "/opt/cni/bin"),
      "/run/containerd/containerd.sock": "",
      "/run/dockershim.sock": "",
    },
    list: [
      "10-aws.conflist",
      JSON.stringify({
        cniVersion: "0.4.0",
        name: "aws-cni",
        disableCheck: true,
        plugins: [
          { name: "aws-cni", type: "aws-cni", vethPrefix: "eni", mtu: "9001" },
          { name: "egress-cni", type: "egress-cni", ipam: { type: "host-local" } },
          { type: "portmap", capabilities: { portMappings: true }, snat: true },
        ],
      }),
    ],
  },
  "EKS, Amazon Linux 2 with Docker": {
    files: {
      "/etc/containerd/config.toml": 'disabled_plugins = ["cri"]\n',
      "/run/containerd/containerd.sock": "",
      "/run/dockershim.sock": "",
    },
    list: ["10-aws.conflist", list("aws-cni", "egress-cni", "portmap")],
  },
  "Bottlerocket": {
    basis: "/etc/containerd/config.toml",
    files: {
      "/etc/containerd/config.toml": containerd2("/etc/cni/net.d", "/opt/cni/bin"),
      "/run/containerd/containerd.sock": "",
      "/etc/os-release": "ID=bottlerocket\n",
    },
    list: ["10-aws.conflist", list("aws-cni", "egress-cni", "portmap")],
  },
  "Flatcar": {
    basis: "/run/containerd/containerd.sock",
    files: {
      "/etc/os-release": "ID=flatcar\n",
      // Its containerd reads the file in the read-only /usr; the one in /etc is the user's, if any.
      "/usr/share/containerd/config.toml": "version = 2\n",
      "/run/containerd/containerd.sock": "",
    },
    list: ["10-calico.conflist", list("calico", "portmap", "bandwidth")],
  },
  "OpenShift 3.11 with CRI-O": {
    basis: "/etc/crio/crio.conf",
    files: {
      "/etc/crio/crio.conf":
        '[crio.network]\nnetwork_dir = "/etc/cni/net.d/"\nplugin_dir = "/opt/cni/bin/"\n',
      "/var/run/crio/crio.sock": "",
      "/opt/cni/bin/openshift-sdn": "",
    },
    list: [
      "80-openshift-network.conf",
      '{"cniVersion": "0.2.0", "name": "openshift-sdn", "type": "openshift-sdn"}',
    ],
  },
  "OpenShift 3.11 with Docker": {
    list: [
      "80-openshift-network.conf",
      '{"cniVersion": "0.2.0", "name": "openshift-sdn", "type": "openshift-sdn"}',
    ],
  },
  "Lima, Kubernetes": {
    basis: "/etc/containerd/config.toml",
    files: {
      "/etc/containerd/config.toml": "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\n" +
        "bin_dirs = ['/usr/local/libexec/cni', '/opt/cni/bin']\n",
      "/run/containerd/containerd.sock": "",
      "/usr/local/libexec/cni/bridge": "",
    },
    list: ["10-flannel.conflist", list("flannel", "portmap")],
  },
  "Docker Desktop": {
    files: {
      // Docker's own containerd serves no kubelet; cri-dockerd does.
      "/etc/containerd/config.toml": 'disabled_plugins = ["cri"]\n',
      "/run/containerd/containerd.sock": "",
      "/run/cri-dockerd.sock": "",
    },
    list: ["10-default.conflist", list("ptp", "portmap")],
  },
  "MicroK8s": {
    basis: "/var/snap/microk8s/current/args/containerd.toml",
    links: { "/var/snap/microk8s/current": "7394" },
    netDir: "/var/snap/microk8s/current/args/cni-network",
    binDir: "/var/snap/microk8s/current/opt/cni/bin",
    files: {
      // Made anew at each start, with the revision's own paths.
      "/var/snap/microk8s/current/args/containerd.toml": containerd2(
        "/var/snap/microk8s/7394/args/cni-network",
        "/var/snap/microk8s/7394/opt/cni/bin",
      ),
      "/var/snap/microk8s/common/run/containerd.sock": "",
    },
    list: ["10-calico.conflist", list("calico", "portmap", "bandwidth")],
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
