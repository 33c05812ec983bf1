/**
 * How the programs of a cluster of the tests are started: the control plane and etcd are on one node,
 * whose folder has the identities, and a kubeconfig for each program.
 */

/** Kernel settings that kubelet wants to change; they are the real machine's. */
export const kernelSettings: Readonly<Record<string, number>> = {
  "vm/overcommit_memory": 1,
  "vm/panic_on_oom": 0,
  "kernel/panic": 10,
  "kernel/panic_on_oops": 1,
  "kernel/keys/root_maxkeys": 1000000,
  "kernel/keys/root_maxbytes": 25000000,
};

/** Arguments of etcd. */
export function etcdArgs(folder: string): string[] {
  return [
    `--data-dir=${folder}/etcd`,
    "--listen-client-urls=http://127.0.0.1:2379",
    "--advertise-client-urls=http://127.0.0.1:2379",
    "--listen-peer-urls=http://127.0.0.1:2380",
    "--initial-advertise-peer-urls=http://127.0.0.1:2380",
    "--initial-cluster=default=http://127.0.0.1:2380",
    "--unsafe-no-fsync",
  ];
}

/** Arguments of the API server; what is missing are the addresses of Services and all about tokens. */
export function apiServerArgs(folder: string, address: string): string[] {
  return [
    "--etcd-servers=http://127.0.0.1:2379",
    `--bind-address=${address}`,
    `--advertise-address=${address}`,
    "--secure-port=6443",
    `--cert-dir=${folder}/api-server`,
    `--tls-cert-file=${folder}/api-server.crt`,
    `--tls-private-key-file=${folder}/api-server.key`,
    `--token-auth-file=${folder}/tokens.csv`,
    "--authorization-mode=Node,RBAC",
    "--enable-admission-plugins=NodeRestriction",
    `--service-account-key-file=${folder}/accounts.crt`,
    `--service-account-signing-key-file=${folder}/accounts.key`,
    "--kubelet-preferred-address-types=InternalIP",
    "--allow-privileged=true",
    "--shutdown-delay-duration=0s",
  ];
}

function withKubeconfig(folder: string, user: string): string[] {
  return [
    ...["kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig"]
      .map((flag) => `--${flag}=${folder}/${user}.conf`),
    "--bind-address=127.0.0.1",
    "--leader-elect=false",
    `--cert-dir=${folder}/${user}`,
  ];
}

/** Arguments of the controller manager. */
export function managerArgs(folder: string): string[] {
  return [
    ...withKubeconfig(folder, "manager"),
    `--service-account-private-key-file=${folder}/accounts.key`,
    `--root-ca-file=${folder}/authority.crt`,
    "--use-service-account-credentials=true",
  ];
}

/** Arguments of the scheduler. */
export function schedulerArgs(folder: string): string[] {
  return withKubeconfig(folder, "scheduler");
}

/** Arguments of kube-proxy. */
export function proxyArgs(folder: string, node: string): string[] {
  return [
    `--kubeconfig=${folder}/proxy.conf`,
    `--hostname-override=${node}`,
    "--proxy-mode=iptables",
    "--healthz-bind-address=127.0.0.1:10256",
    "--conntrack-max-per-core=0",
    "--conntrack-tcp-timeout-established=0",
    "--conntrack-tcp-timeout-close-wait=0",
  ];
}

/** Arguments of kubelet, whose configuration is in its folder. */
export function kubeletArgs(folder: string, node: string, ips: readonly string[]): string[] {
  return [
    `--config=${folder}/kubelet.json`,
    `--kubeconfig=${folder}/kubelet.conf`,
    `--root-dir=${folder}/kubelet`,
    `--cert-dir=${folder}/kubelet/pki`,
    `--hostname-override=${node}`,
    `--node-ip=${ips.join(",")}`,
    "--v=2",
  ];
}

/**
 * Kubelet's configuration.
 *
 * @param cgroup Name of a control group of the node's own.
 */
export function kubeletConfiguration(folder: string, cgroup: string): Record<string, unknown> {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    authentication: { anonymous: { enabled: true }, webhook: { enabled: false } },
    authorization: { mode: "AlwaysAllow" },
    cgroupDriver: "cgroupfs",
    // It ends every pod that it does not know below this group: the group is ours alone.
    cgroupRoot: `/${cgroup}`,
    failSwapOn: false,
    healthzPort: 0,
    clusterDNS: ["10.96.0.10"],
    clusterDomain: "cluster.local",
    resolvConf: "",
    makeIPTablesUtilChains: false,
    evictionHard: {
      "memory.available": "1Mi",
      "nodefs.available": "0.1%",
      "imagefs.available": "0.1%",
    },
    nodeStatusUpdateFrequency: "1s",
    fileCheckFrequency: "1s",
    volumePluginDir: `${folder}/volume-plugins`,
  };
}
