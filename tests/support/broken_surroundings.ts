/** Nodes on which the runtime, the kernel, the cluster or other software is in the way. */
import { ok } from "node:assert/strict";
import { writeChanges } from "../../installer/host/changes.ts";
import { pathsOf } from "../../installer/settings/paths.ts";
import type { BrokenNode } from "./broken_node.ts";
import { chained } from "./broken_installation.ts";
import { type DoctorBed, nodeName } from "./doctor_bed.ts";
import { list } from "./platform_nodes.ts";
import { injectedPod } from "./pods.ts";
import { EACCES, EPROTONOSUPPORT, withoutNetfilter } from "./surroundings.ts";

const containerd = { "/etc/containerd/config.toml": "version = 2\n" };
const healthy = /^Healthy: meshed pods that start now are captured/;

/** A token as the API server issues them, good until so many milliseconds from now. */
function tokenFor(milliseconds: number): string {
  const part = (value: unknown) =>
    btoa(JSON.stringify(value)).replaceAll("=", "").replaceAll("+", "-").replaceAll("/", "_");
  const exp = Math.floor((Date.now() + milliseconds) / 1000);
  return `${part({ alg: "RS256" })}.${part({ iat: exp - 3600, exp })}.c2lnbmF0dXJl`;
}

/** Lines that take every file system of a type out of a mount namespace. */
function unmount(type: string): string {
  return `awk '$0 ~ / - ${type} / { print $5 }' /proc/self/mountinfo | tac | xargs -r umount -l`;
}

function rewrites(bed: DoctorBed, count: number): void {
  const at = Date.now() - 60_000;
  const change = { at, file: "10-azure.conflist", cause: "entry-missing", written: at };
  const changes = Array.from({ length: count }, () => ({ ...change, types: ["azure-vnet"] }));
  writeChanges(bed.operations, pathsOf(bed.settings).stateDir, changes);
}

/** The nodes by what is broken. */
export const brokenSurroundings: Readonly<Record<string, BrokenNode>> = {
  "both containerd and CRI-O": {
    node: {
      files: {
        ...containerd,
        "/etc/crio/crio.conf": "[crio.network]\n",
        "/opt/cni/bin/calico": "",
        "/opt/cni/bin/portmap": "",
      },
    },
    finds: ["runtime-odd"],
    says: /, but: Both CRI-O .* and containerd .* are on this node/,
    fix: "shows",
  },
  "no runtime's configuration is seen": {
    finds: [],
    notes: ["runtime-assumed"],
    says: healthy,
    fix: "shows",
  },
  "the net dir is in memory": {
    within: {
      kinds: ["mount"],
      setup: (bed) => {
        const [there, kept] = [bed.settings.mountedNetDir, `${bed.root}/kept`];
        const socket = bed.socket.slice(there.length);
        // A copy of the socket would be none.
        return `mkdir ${kept}; mount --bind ${there} ${kept}; mount -t tmpfs none ${there}
          cp -a ${kept}/. ${there}/; mount --bind ${kept}${socket} ${there}${socket}`;
      },
    },
    finds: [],
    notes: ["net-dir-volatile"],
    says: healthy,
    fix: { eases: (cluster) => void cluster.object("Deployment") },
  },
  "the token has expired": {
    // Long enough for the installation, which takes no token that has expired already.
    node: () => ({ token: tokenFor(2500) }),
    breaks: async (bed) => {
      bed.api.rotateToken();
      await new Promise((resolve) => setTimeout(resolve, 2600));
    },
    finds: ["token-expired", "api-down"],
    says: /The token on the host has expired at 20/,
  },
  "the token is about to expire": {
    node: () => ({ token: tokenFor(60_000) }),
    breaks: (bed) => void (bed.nextToken = tokenFor(3600_000)),
    finds: ["token-expires"],
    says: /, but: The token on the host expires at 20.* and has not been renewed/,
  },
  "the token was revoked": {
    breaks: (bed) => void bed.api.rotateToken(),
    finds: ["api-down"],
    says: /refuses the service account's token \(401\)/,
  },
  "the API server is away": {
    breaks: (bed) => bed.api.close(),
    finds: ["api-down"],
    says: /The API server cannot be reached/,
    fix: "shows",
  },
  "the API server hangs": {
    breaks: (bed) => bed.api.inject({ kind: "hang" }),
    finds: ["api-down"],
    says: /does not answer in time/,
    fix: "shows",
  },
  "the API server is slow": {
    breaks: (bed) => bed.api.inject({ kind: "delay", milliseconds: 600 }, { verb: "get" }),
    finds: ["api-slow"],
    says: /, but: The API server answers in \d+ ms/,
    fix: {
      eases: (cluster) =>
        ok(JSON.stringify(cluster.object("ClusterRole")).includes('["get","list","watch"]')),
    },
  },
  "the right to get pods is missing": {
    breaks: (bed) => bed.api.forbid("get", "pods"),
    finds: ["right-missing"],
    says: /may not get pods \(403\)/,
  },
  "optional rights are missing": {
    breaks: (bed) => bed.api.forbid("watch", "pods"),
    finds: [],
    notes: ["rights-narrow"],
    says: healthy,
  },
  "the agent is away": {
    breaks: (bed) => bed.stopAgent(),
    finds: ["agent-silent"],
    says: /, but: The node agent does not answer at its socket/,
  },
  "the agent is away, of whose pod the name is not known": {
    node: { environment: { POD_NAME: "" } },
    breaks: (bed) => bed.stopAgent(),
    finds: ["agent-silent"],
    says: /, but: The node agent does not answer at its socket/,
  },
  "the agent is away, which runs as a service": {
    node: { environment: { POD_NAMESPACE: "" } },
    breaks: (bed) => bed.stopAgent(),
    finds: ["agent-silent"],
    says: /, but: The node agent does not answer at its socket/,
  },
  "the agent is not ready": {
    breaks: async (bed) => {
      Deno.removeSync(bed.path(chained));
      await bed.runAgent();
    },
    finds: ["waiting", "agent-not-ready"],
    says: /Waiting for another CNI plugin's configuration/,
    fix: "shows",
  },
  "a pod runs without rules": {
    node: {
      objects: [
        injectedPod({ namespace: "shop", name: "web-0", nodeName }),
        injectedPod({ namespace: "shop", name: "web-1", nodeName }),
      ],
    },
    breaks: (bed) => {
      bed.cache("shop", "web-0", true);
      bed.cache("shop", "web-1", false);
    },
    finds: ["pods-not-captured"],
    says: /1 meshed pod runs without rules: shop\/web-1$/,
  },
  "Cilium claims the folder": {
    breaks: (bed) => {
      Deno.renameSync(bed.path(chained), bed.path(`${chained}.cilium_bak`));
      bed.write("/etc/cni/net.d/05-cilium.conflist", list("cilium-cni"));
    },
    finds: ["cilium-exclusive", "entry-missing"],
    says: /Cilium has put "10-calico\.conflist\.cilium_bak" aside/,
  },
  "socket load balancing in pods": {
    node: {
      files: { "/run/cilium/state/globals/node_config.h": "#define ENABLE_SOCKET_LB_FULL 1" },
    },
    finds: ["socket-lb"],
    says: /, but: Cilium translates Services at the sockets of pods/,
  },
  "kube-system is not excluded": {
    node: { kubernetes: { exclude_namespaces: ["default"] } },
    finds: ["kube-system-included"],
    says: /, but: "kube-system" is not in/,
  },
  "another mesh's plugin": {
    node: { list: ["10-calico.conflist", list("calico", "istio-cni")] },
    finds: ["other-mesh"],
    says: /, but: .* also calls "istio-cni" of Istio/,
    fix: "shows",
  },
  "NodeLocal DNSCache under CRI-O": {
    node: {
      environment: { CNI_RUNTIME: "cri-o" },
      files: {
        "/var/lib/kubelet/config.yaml": "clusterDNS: [169.254.20.10]\n",
        "/opt/cni/bin/calico": "",
        "/opt/cni/bin/portmap": "",
      },
    },
    finds: ["node-local-dns"],
    says: /, but: kubelet gives pods 169\.254\.20\.10/,
  },
  "a list that another program resets again and again": {
    breaks: (bed) => rewrites(bed, 12),
    finds: ["contention"],
    says: /was written by Azure CNI \(azure-cns\) at .*; 12 times in the last hour/,
    fix: "shows",
  },
  "a list that another program has reset": {
    breaks: (bed) => rewrites(bed, 1),
    finds: [],
    notes: ["list-rewritten"],
    says: healthy,
    fix: "none",
  },
  "the kernel has no nf_tables, which the engine needs": {
    node: { entry: { engine: "nftables" } },
    behind: withoutNetfilter(EPROTONOSUPPORT),
    finds: ["kernel-without-nftables"],
    says: /has no nf_tables, and the engine is set to nftables/,
  },
  "a security module keeps the kernel's nf_tables from being seen": {
    node: { entry: { engine: "nftables" } },
    behind: withoutNetfilter(EACCES),
    finds: [],
    notes: ["not-seen"],
    says: healthy,
    fix: "none",
  },
  "IPv6 is off": {
    within: {
      kinds: ["network"],
      setup: () => "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6",
    },
    // The API server is in another network.
    finds: ["api-down"],
    notes: ["ipv6-off"],
    says: /The API server cannot be reached/,
    about: "ipv6-off",
  },
  "user namespaces are off": {
    within: { kinds: ["user"], setup: () => "echo 0 > /proc/sys/user/max_user_namespaces" },
    finds: [],
    notes: ["user-namespaces-off", "not-seen"],
    says: healthy,
  },
  "no cgroup2 is mounted": {
    within: { kinds: ["mount"], setup: () => unmount("cgroup2") },
    finds: [],
    notes: ["no-cgroup2"],
    says: healthy,
    fix: "none",
  },
  "no BPF file system is mounted": {
    within: { kinds: ["mount"], setup: () => unmount("bpf") },
    isOnHost: true,
    finds: [],
    notes: ["no-bpf"],
    says: healthy,
  },
  "the engine ebpf without a BPF file system": {
    node: { entry: { engine: "ebpf" } },
    within: { kinds: ["mount"], setup: () => unmount("bpf") },
    isOnHost: true,
    finds: ["ebpf-without-means"],
    says: /, but: The engine is set to ebpf and no BPF file system is mounted/,
  },
  "the engine ebpf without cgroup2": {
    node: { entry: { engine: "ebpf" } },
    within: { kinds: ["mount"], setup: () => unmount("cgroup2") },
    finds: ["ebpf-without-means"],
    says: /, but: The engine is set to ebpf and no cgroup2 is mounted/,
  },
};
