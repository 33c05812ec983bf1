/**
 * Which runtime calls plugins on this node, from what its configuration and sockets show. Pure but
 * for its reader.
 */
import type { ConfigReader } from "./config_reader.ts";
import { readContainerdConfig } from "./containerd_config.ts";
import { crioConfigPath, crioDropIns, readCrioConfig } from "./crio_config.ts";
import { assumedRuntime, nameOf, type Runtime, type RuntimeKind } from "./runtime.ts";

/** Where runtimes keep their configuration and listen, as distributions of Kubernetes have it. */
const containerdPlaces: readonly { readonly config: string; readonly sockets: string[] }[] = [
  {
    config: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
    sockets: ["/run/k3s/containerd/containerd.sock"],
  },
  {
    config: "/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    sockets: ["/run/k3s/containerd/containerd.sock"],
  },
  {
    config: "/var/snap/microk8s/current/args/containerd.toml",
    sockets: ["/var/snap/microk8s/common/run/containerd.sock"],
  },
  { config: "/etc/k0s/containerd.toml", sockets: ["/run/k0s/containerd.sock"] },
  { config: "/etc/cri/containerd.toml", sockets: ["/run/containerd/containerd.sock"] },
  { config: "/etc/containerd/config.toml", sockets: ["/run/containerd/containerd.sock"] },
];
const crioSockets = ["/run/crio/crio.sock", "/var/run/crio/crio.sock"];

interface Candidate {
  readonly runtime: Runtime;
  readonly hasSocket: boolean;
}

/**
 * Tells which runtime calls plugins on this node.
 *
 * @param stated The administrator's word, or `auto`.
 * @param netDir Path of the net dir on the host; of several runtimes the one that reads it counts.
 */
export function detectRuntime(
  stated: RuntimeKind | "auto",
  netDir: string,
  reader: ConfigReader,
): Runtime {
  if (stated === "multus") return assumedRuntime("multus", "CNI_RUNTIME", true);
  let candidates = candidatesOf(reader);
  if (stated !== "auto") candidates = candidates.filter(({ runtime }) => runtime.kind === stated);
  for (
    const isBetter of [
      ({ hasSocket }: Candidate) => hasSocket,
      ({ runtime }: Candidate) => runtime.confDir === netDir,
    ]
  ) {
    if (candidates.some(isBetter)) candidates = candidates.filter(isBetter);
  }
  // A node of CRI-O often has a containerd, too, Docker's for example; the other way round is rare.
  const chosen = candidates.find(({ runtime }) => runtime.kind === "cri-o") ?? candidates[0];
  if (chosen === undefined) {
    return stated === "auto"
      ? assumedRuntime("containerd", "assumed, since no runtime's configuration is seen", false)
      : assumedRuntime(stated, "CNI_RUNTIME", true);
  }
  const { runtime } = chosen;
  const other = candidates.find((candidate) => candidate.runtime.kind !== runtime.kind);
  if (other === undefined) return runtime;
  const warning = `Both ${nameOf(runtime)} (${runtime.basis}) and ${nameOf(other.runtime)} ` +
    `(${other.runtime.basis}) are on this node; ${nameOf(runtime)} is taken for the one that ` +
    "kubelet uses, set CNI_RUNTIME to say which";
  return { ...runtime, isCertain: false, warnings: [...runtime.warnings, warning] };
}

function candidatesOf(reader: ConfigReader): Candidate[] {
  const found: Candidate[] = [];
  const seen = (paths: readonly string[]) => paths.find((path) => reader.exists(path));
  for (const { config, sockets } of containerdPlaces) {
    const socket = seen(sockets);
    const basis = reader.exists(config)
      ? config
      : config === "/etc/containerd/config.toml"
      ? socket
      : undefined;
    if (basis === undefined) continue;
    const { servesKubelet, ...rest } = readContainerdConfig(config, reader);
    if (!servesKubelet) continue;
    found.push({
      runtime: { ...assumedRuntime("containerd", basis, true), ...rest },
      hasSocket: socket !== undefined,
    });
  }
  const socket = seen(crioSockets);
  const basis = seen([crioConfigPath, crioDropIns]) ?? socket;
  if (basis !== undefined) {
    found.push({
      runtime: { ...assumedRuntime("cri-o", basis, true), ...readCrioConfig(reader) },
      hasSocket: socket !== undefined,
    });
  }
  return found;
}
