/** What is found of the node round the plugin: kernel, runtime, folders, other software. Pure. */
import { decideBeforeLookup } from "../../src/pod/decide_early.ts";
import { likelyWriter } from "../host/changes.ts";
import { nameOf } from "../runtime/runtime.ts";
import { type Finding, found, good, notSeen } from "./finding.ts";
import { restart, setValue, showRuntime } from "./fixes.ts";
import { isImpossible, type NodeSeen } from "./seen.ts";

const mountBpf = "mount -t bpf bpf /sys/fs/bpf";

/** Tells about the kernel. */
export function kernelFindings({ kernel, entries, settings }: NodeSeen): Finding[] {
  const { release, nftables, ipv6, userNamespaces, cgroup2, bpf } = kernel;
  const findings: Finding[] = [];
  if (isImpossible(nftables)) {
    findings.push(notSeen("kernel", "Whether the kernel has nf_tables", nftables.impossible));
  } else if (nftables) {
    findings.push(good("kernel", `Linux ${release} has nf_tables`));
  } else if (entries.some(({ settings }) => settings?.engine === "nftables")) {
    findings.push(
      found(
        "kernel-without-nftables",
        `Linux ${release} has no nf_tables, and the engine is set to nftables, so that meshed ` +
          "pods cannot start",
        `modprobe nf_tables || ${setValue(settings, "cni.engine=auto")}`,
      ),
    );
  } else findings.push(good("kernel", `Linux ${release} has no nf_tables: iptables is used`));
  if (!ipv6) {
    findings.push(
      found(
        "ipv6-off",
        "IPv6 is off: pods get rules for IPv4 alone, which is right where they have no IPv6",
        "sysctl -w net.ipv6.conf.all.disable_ipv6=0   # only if pods shall have IPv6",
      ),
    );
  }
  if (!userNamespaces) {
    findings.push(
      found(
        "user-namespaces-off",
        "User namespaces are off in this kernel: pods with `hostUsers: false` cannot start",
        "sysctl -w user.max_user_namespaces=65536   # only if there shall be such pods",
      ),
    );
  }
  if (entries.some(({ settings }) => settings?.engine === "ebpf") && (!cgroup2 || bpf === false)) {
    findings.push(
      found(
        "ebpf-without-means",
        cgroup2
          ? "The engine is set to ebpf and no BPF file system is mounted: incoming connections are " +
            "redirected by nftables"
          : "The engine is set to ebpf and no cgroup2 is mounted: another engine is used, or with " +
            "ebpf.strict meshed pods cannot start",
        cgroup2 ? mountBpf : setValue(settings, "cni.engine=auto"),
      ),
    );
    return findings;
  }
  if (!cgroup2) {
    findings.push(found("no-cgroup2", "No cgroup2 is mounted, which only the engine ebpf needs"));
  }
  if (bpf === false) {
    findings.push(
      found(
        "no-bpf",
        "No BPF file system is mounted, which only the engine ebpf needs",
        `${mountBpf}   # only for cni.engine=ebpf`,
      ),
    );
  }
  return findings;
}

/** Tells about the runtime and the two folders. */
export function runtimeFindings({ observed, folders, settings }: NodeSeen): Finding[] {
  const { runtime } = observed.view;
  const findings: Finding[] = [];
  const where = runtime.confDir === undefined
    ? ""
    : `: net dir "${runtime.confDir}", bin dirs ${
      (runtime.programDirs ?? []).map((folder) => `"${folder}"`).join(", ")
    }`;
  findings.push(
    runtime.isCertain ? good("runtime", `${nameOf(runtime)} (${runtime.basis})${where}`) : found(
      "runtime-assumed",
      `${nameOf(runtime)} (${runtime.basis})${where}`,
      `${showRuntime(settings)}   # docs/doctor.md has the value of cni.hostFolders for each`,
    ),
  );
  for (const warning of runtime.warnings) {
    const fix = `${showRuntime(settings)}   # says which one kubelet uses; then cni.runtime`;
    findings.push(found("runtime-odd", warning, warning.startsWith("Both ") ? fix : undefined));
  }
  for (const path of folders.moved) {
    findings.push(
      found(
        "mount-moved",
        `"${path}" on the host is another folder than the one that is mounted here, as after a ` +
          "refresh of a snap, so what is written here is read by nobody",
        restart(settings),
      ),
    );
  }
  if (folders.netDirFileSystem === "tmpfs" || folders.netDirFileSystem === "ramfs") {
    findings.push(
      found(
        "net-dir-volatile",
        `"${settings.netDir}" is in memory (${folders.netDirFileSystem}): after a reboot pods that ` +
          "start before the agent are not captured",
        setValue(settings, "cni.controller.enabled=true") + "   # keeps pods away until then",
      ),
    );
  }
  return findings;
}

/** Tells about software that is known not to go together with a chained plugin. */
export function conflictFindings({ traces, entries, observed, settings }: NodeSeen): Finding[] {
  const findings: Finding[] = [];
  const backup = traces.ciliumBackups.find(({ hasEntry }) => hasEntry);
  // What it put aside before others were let in, or before we chained to its own list, harms nobody.
  if (backup !== undefined && entries.length === 0) {
    findings.push(
      found(
        "cilium-exclusive",
        `Cilium has put "${backup.name}" aside, which has our entry: it claims the net dir for itself`,
        "helm upgrade cilium cilium/cilium -n kube-system --reuse-values --set cni.exclusive=false",
      ),
    );
  }
  if (traces.socketLoadBalancing === "everywhere") {
    findings.push(
      found(
        "socket-lb",
        "Cilium translates Services at the sockets of pods, before any rule sees the packet, so that " +
          "the sidecar gets connections to pods instead of the Service and routes them past the mesh",
        "helm upgrade cilium cilium/cilium -n kube-system --reuse-values " +
          "--set socketLB.hostNamespaceOnly=true",
      ),
    );
  }
  const [entry] = entries;
  const { excludeNamespaces, includeNamespaces } = entry?.settings ?? {};
  const ofNode = { podNamespace: "kube-system", podName: "any" };
  if (
    excludeNamespaces !== undefined &&
    decideBeforeLookup(ofNode, excludeNamespaces, includeNamespaces) === undefined
  ) {
    findings.push(
      found(
        "kube-system-included",
        '"kube-system" is not in "kubernetes.exclude_namespaces": its pods are looked up, and while ' +
          "the API server is away the node's own helpers cannot start",
        setValue(
          settings,
          `cni.excludeNamespaces={${[...excludeNamespaces, "kube-system"].join()}}`,
        ),
      ),
    );
  }
  const local = (traces.kubeletDns ?? []).filter((server) => server.startsWith("169.254."));
  const known = entry?.settings?.clusterDns ?? [];
  const unknown = local.filter((server) => !known.includes(server));
  // containerd tells each pod's resolvers; CRI-O and Multus never do.
  if (unknown.length > 0 && observed.view.runtime.kind !== "containerd") {
    findings.push(
      found(
        "node-local-dns",
        `kubelet gives pods ${unknown.join(", ")} (NodeLocal DNSCache) to ask, and the rules for ` +
          "DNS do not know it, so names of the mesh are not resolved",
        setValue(settings, `cni.clusterDns={${[...known, ...unknown].join()}}`),
      ),
    );
  }
  return findings;
}

/** Writes within one hour that are more than a program's own restarts. */
const contention = 10;
const hour = 3600_000;
const day = 24 * hour;

/** Tells who last wrote the list, and whether that goes on. */
export function changeFindings({ changes, observed, settings }: NodeSeen): Finding[] {
  const last = changes.at(-1);
  if (last === undefined) return [good("changes", "No other program has undone the entry yet")];
  const writer = likelyWriter(last.types) ?? "another program";
  const when = new Date(last.written ?? last.at).toISOString().replace(/\.\d+Z$/, "Z");
  const what = last.written === undefined ? "was taken away" : `was written by ${writer}`;
  const owner = last.uid === undefined || last.uid === 0 ? "" : ` (UID ${last.uid})`;
  const text = `"${last.file}" ${what}${owner} at ${when}, and put right again`;
  const within = (age: number) => changes.filter(({ at }) => observed.at - at < age).length;
  if (within(hour) >= contention) {
    return [
      found(
        "contention",
        `${text}; ${within(hour)} times in the last hour, each time with a gap`,
        last.types?.includes("cilium-cni")
          ? "helm upgrade cilium cilium/cilium -n kube-system --reuse-values --set cni.exclusive=false"
          : `auditctl -w ${settings.netDir} -p wa -k cni   # then "ausearch -k cni" names the program`,
      ),
    ];
  }
  const often = within(day);
  return [found("list-rewritten", often > 1 ? `${text}; ${often} times in the last day` : text)];
}
