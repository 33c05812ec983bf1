/** Nodes on which something of the installation itself is not as it should be. */
import { pathsOf } from "../../installer/settings/paths.ts";
import type { BrokenNode } from "./broken_node.ts";
import { primaryList, primarySingle } from "./installer_host.ts";
import { containerd2, k3s, list, platformNodes } from "./platform_nodes.ts";

/** The file that install-cni chains to on a usual node. */
export const chained = "/etc/cni/net.d/10-calico.conflist";

const flannel = list("flannel", "portmap");

/** The nodes by what is broken. */
export const brokenInstallations: Readonly<Record<string, BrokenNode>> = {
  "nothing is installed": {
    breaks: (bed) => {
      bed.write(chained, primaryList);
      Deno.removeSync(bed.path("/opt/cni/bin/kuma-cni"));
      Deno.removeSync(pathsOf(bed.settings).kubeconfig);
    },
    finds: ["not-installed"],
    says: /Nothing of kuma-cni is in/,
  },
  "nothing is installed, nor the primary CNI plugin": {
    breaks: (bed) => {
      Deno.removeSync(bed.path(chained));
      Deno.removeSync(bed.path("/opt/cni/bin/kuma-cni"));
      Deno.removeSync(pathsOf(bed.settings).kubeconfig);
    },
    finds: ["not-installed", "waiting"],
    says: /Nothing of kuma-cni is in/,
    about: "waiting",
    fix: "shows",
  },
  "another program wrote the list anew": {
    breaks: (bed) => bed.write(chained, primaryList),
    finds: ["entry-missing"],
    says: /10-calico\.conflist" lacks the entry of kuma-cni/,
  },
  "another plugin was put behind ours": {
    breaks: (bed) => {
      const value = JSON.parse(Deno.readTextFileSync(bed.path(chained)));
      value.plugins.push({ type: "tuning" });
      bed.write(chained, JSON.stringify(value));
    },
    finds: ["entry-wrong"],
    says: /another plugin behind it/,
  },
  "an entry that the plugin refuses": {
    breaks: (bed) =>
      bed.write(
        chained,
        Deno.readTextFileSync(bed.path(chained))
          .replace(/("exclude_namespaces": ?)\[[^\]]*\]/, "$1 5"),
      ),
    finds: ["entry-wrong", "entry-unreadable"],
    says: /another entry of kuma-cni than/,
  },
  "the program is gone": {
    breaks: (bed) => Deno.removeSync(bed.path("/opt/cni/bin/kuma-cni")),
    finds: ["plugin-missing"],
    says: /kuma-cni" is missing/,
  },
  "the program is another one": {
    breaks: (bed) => Deno.writeTextFileSync(bed.path("/opt/cni/bin/kuma-cni"), "#!/bin/false"),
    finds: ["plugin-differs"],
    says: /is not the one that this install-cni brings/,
  },
  "the net dir is another one, as with Cilium on k3s": {
    node: {
      files: {
        [`${k3s}/containerd/config.toml`]: containerd2(`${k3s}/cni/net.d`, "/opt/cni/bin"),
        [`${k3s}/cni/net.d/10-flannel.conflist`]: flannel,
        "/run/k3s/containerd/containerd.sock": "",
      },
    },
    finds: ["net-dir-other"],
    says: /The runtime reads "\/var\/lib\/rancher\/k3s\/agent\/etc\/cni\/net\.d"/,
  },
  "the bin dir is another one on k3s": {
    node: {
      netDir: `${k3s}/cni/net.d`,
      files: {
        [`${k3s}/containerd/config.toml`]: containerd2(
          `${k3s}/cni/net.d`,
          "/var/lib/rancher/k3s/data/cni",
        ),
        "/var/lib/rancher/k3s/data/cni/flannel": "",
      },
    },
    finds: ["bin-dir-other"],
    says: /looks for plugins in "\/var\/lib\/rancher\/k3s\/data\/cni"/,
  },
  "Rancher Desktop with the folders of k3s": {
    node: {
      ...platformNodes["Rancher Desktop"],
      netDir: `${k3s}/cni/net.d`,
      binDir: "/var/lib/rancher/k3s/data/cni",
    },
    breaks: (bed) => Deno.mkdirSync(bed.path("/usr/libexec/cni"), { recursive: true }),
    finds: ["bin-dir-other"],
    says: /looks for plugins in "\/usr\/libexec\/cni"/,
  },
  "MicroK8s was refreshed": {
    node: {
      netDir: "/var/snap/microk8s/1/args/cni-network",
      binDir: "/var/snap/microk8s/1/opt/cni/bin",
    },
    breaks: (bed) => {
      const snap = "/var/snap/microk8s";
      for (const part of ["args/cni-network", "opt/cni/bin"]) {
        Deno.mkdirSync(bed.path(`${snap}/2/${part}`), { recursive: true });
      }
      Deno.symlinkSync("2", bed.path(`${snap}/current`));
      bed.write(`${snap}/current/args/cni-network/10-calico.conflist`, primaryList);
      bed.environment.CNI_NET_DIR = `${snap}/current/args/cni-network`;
    },
    finds: ["mount-moved", "entry-wrong"],
    says: /is another folder than the one that is mounted here/,
  },
  "the runtime loads another file first": {
    breaks: (bed) => bed.write("/etc/cni/net.d/00-other.conflist", list("other")),
    node: { environment: { CNI_CONF_NAME: "10-calico.conflist" } },
    finds: ["not-captured"],
    says: /loads "00-other\.conflist" before/,
  },
  "what Multus calls is not our file": {
    breaks: (bed) =>
      bed.write(
        "/etc/cni/net.d/00-multus.conf",
        '{"cniVersion":"1.0.0","name":"m","type":"multus","clusterNetwork":"some-definition"}',
      ),
    finds: ["not-captured"],
    says: /so what Multus calls is not known/,
  },
  "there is no list yet": {
    breaks: (bed) => Deno.removeSync(bed.path(chained)),
    finds: ["waiting"],
    says: /Waiting for another CNI plugin's configuration/,
    fix: "shows",
  },
  "the plugin's own files cannot be read": {
    breaks: (bed) => void (bed.environment.CNI_SOURCE_DIR = `${bed.root}/nowhere`),
    finds: ["plugin-unknown", "waiting"],
    says: /Cannot find the plugin/,
    fix: "shows",
  },
  "our list beside a single plugin's file is gone": {
    node: { list: ["10-cbr0.conf", primarySingle] },
    breaks: (bed) => Deno.removeSync(bed.path("/etc/cni/net.d/10-cbr0-kuma.conflist")),
    finds: ["file-wrong"],
    says: /10-cbr0-kuma\.conflist" is missing/,
  },
  "an installation was killed after another setting had been given": {
    node: {
      environment: { CNI_CONF_NAME: "10-calico.conflist", CNI_CONF_NAME_IS_LOADED: "true" },
    },
    breaks: async (bed) => {
      bed.write("/etc/cni/net.d/20-later.conflist", primaryList);
      bed.environment.CNI_CONF_NAME = "20-later.conflist";
      await bed.killInstallationBefore(chained);
    },
    finds: ["left-over"],
    says: /, but: ".*10-calico\.conflist" is left over from an earlier version or setting/,
  },
  "the kubeconfig is another one": {
    breaks: (bed) => Deno.writeTextFileSync(pathsOf(bed.settings).kubeconfig, "kind: Config"),
    finds: ["kubeconfig-wrong"],
    says: /kubeconfig" has other content, mode or owner than it should/,
  },
  "the kubeconfig is gone": {
    breaks: (bed) => Deno.removeSync(pathsOf(bed.settings).kubeconfig),
    finds: ["kubeconfig-missing"],
    says: /kubeconfig" is missing/,
  },
  "the service account is not mounted": {
    breaks: (bed) => {
      Deno.removeSync(bed.settings.tokenFile);
      Deno.removeSync(bed.settings.caFile);
    },
    finds: ["token-unreadable", "authority-unreadable", "warning"],
    says: /, but: ".*token" is missing/,
  },
  "a service's token is gone": {
    node: { environment: { POD_NAMESPACE: "" } },
    breaks: (bed) => Deno.removeSync(bed.settings.tokenFile),
    finds: ["token-unreadable", "warning"],
    says: /, but: ".*token" is missing/,
  },
  "a service's authority is gone": {
    node: { environment: { POD_NAMESPACE: "" } },
    breaks: (bed) => Deno.removeSync(bed.settings.caFile),
    finds: ["authority-unreadable", "warning"],
    says: /, but: ".*ca\.crt" is missing/,
  },
  "a setting without effect": {
    node: { kubernetes: { exclude_namespace: ["x"] } },
    finds: ["warning"],
    says: /, but: CNI_NETWORK_CONFIG: the key ".*exclude_namespace" has no effect/,
    fix: "none",
  },
};
