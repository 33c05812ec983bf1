/** What a node of a cluster has on its disk before anything is started: its configuration. */
import { kubeletConfiguration } from "./control_plane.ts";
import type { Machine } from "./machine.ts";

/** Name of the primary plugin's list in each node's net dir. */
export const conflistName = "10-bridge.conflist";

/** A node's addresses, IPv4 first. */
export function addressesOf(number: number): readonly [string, string] {
  return [`10.95.0.${number}`, `fd95::${number}`];
}

/** Ranges of the addresses of its pods. */
export function podRangesOf(number: number): { readonly ipv4: string; readonly ipv6: string } {
  return { ipv4: `10.${87 + number}.0.0/16`, ipv6: `fd88:${number}::/64` };
}

/** Path of its container runtime's socket. */
export function socketOf({ folder }: Machine): string {
  return `${folder}/containerd.sock`;
}

/** The primary plugin's list, with odd formatting, which nobody may change. */
export function conflistOf(number: number): string {
  const { ipv4, ipv6 } = podRangesOf(number);
  return `{
  "name":"k8s-pod-network",   "cniVersion" : "1.1.0",
  "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "mtu": 1400.0,
      "ipam": { "type": "host-local",
        "ranges": [ [{ "subnet": "${ipv4}" }], [{ "subnet": "${ipv6}" }] ],
        "routes": [ { "dst": "0.0.0.0/0" }, { "dst": "::/0" } ] } },
    { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true }
  ]
}
`;
}

/** Settings of containerd. */
export function containerdToml(folder: string): string {
  return `version = 3
root = "${folder}/containerd/root"
state = "${folder}/containerd/state"
# They make folders at fixed places.
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
  address = "${folder}/containerd.sock"
[ttrpc]
  address = "${folder}/containerd.sock.ttrpc"
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = "e2e.local/box:1"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  # Without the right to lower it, runc would fail to set the score of a pod.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    conf_dir = "/etc/cni/net.d"
    bin_dirs = ["/opt/cni/bin"]
    max_conf_num = 1
`;
}

/** Settings of kubelet. */
export function kubeletJson({ folder, cgroup }: Machine): string {
  const common = kubeletConfiguration(folder, cgroup);
  const little = "0.1%";
  return JSON.stringify({
    ...common,
    failCgroupV1: false,
    readOnlyPort: 0,
    containerRuntimeEndpoint: `unix://${folder}/containerd.sock`,
    evictionHard: {
      ...common.evictionHard as object,
      "nodefs.inodesFree": little,
      "imagefs.inodesFree": little,
    },
    staticPodPath: `${folder}/static`,
  });
}
