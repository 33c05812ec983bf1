/**
 * The proof that a network namespace is one pod's and nobody else's. Rules in a wrong namespace would
 * cut off somebody who has nothing to do with the mesh, so a doubt means no. Pure.
 */
import { parseAddress } from "../../src/ip/address.ts";
import type { NodePod } from "./pod_life.ts";
import type { SeenProcess } from "./processes.ts";
import type { HasResult } from "./runtime_results.ts";

/** A namespace that is proven to be a pod's, up to its addresses, which only a look inside tells. */
export interface ProvenNamespace {
  /** The sandbox's own process, which holds the namespace. */
  readonly holder: SeenProcess;
  /** ID of the sandbox. */
  readonly sandbox: string;
  readonly namespace: string;
}

/** A proof, or the first doubt in words for people. */
export type Proof = ProvenNamespace | { readonly doubt: string };

/**
 * Finds the namespace of a pod.
 *
 * @param target The pod.
 * @param pods All pods of the node.
 * @param processes All processes of the node.
 * @param own Device and inode of the namespaces that this program and the node have; `undefined`
 * when the node's is not shown.
 * @param hasResult Whether the runtime keeps a network's result of a sandbox; absent when not seen.
 */
export function proveNamespace(
  target: NodePod,
  pods: readonly NodePod[],
  processes: readonly SeenProcess[],
  own: ReadonlySet<string> | undefined,
  hasResult?: HasResult,
): Proof {
  const { pod, life } = target;
  if (life.ips.length === 0) return { doubt: "kubelet has told no address of it" };
  const addresses = life.ips.map(canonical);
  const rival = pods.find((other) =>
    other.pod.uid !== pod.uid && other.life.isAlive && !other.life.hostNetwork &&
    other.life.ips.map(canonical).some((ip) => addresses.includes(ip))
  );
  if (rival !== undefined) {
    return { doubt: `pod ${rival.pod.namespace}/${rival.pod.name} has the same address` };
  }
  // The UID alone: what an annotation calls the pod is its author's word.
  const isOurs = ({ place }: SeenProcess) => place.kind === "container" && place.podUid === pod.uid;
  const ours = processes.filter(isOurs);
  if (ours.length === 0) return { doubt: "no process of it is seen" };
  const namespaces = new Set(ours.map(({ namespace }) => namespace));
  const [namespace] = namespaces;
  const isHidden = (process: SeenProcess) =>
    process.namespace === undefined && process.place.kind !== "none";
  if (namespace === undefined || processes.some(isHidden)) {
    return { doubt: "the namespaces of some pods' processes are not shown (CAP_SYS_PTRACE)" };
  }
  if (own === undefined) {
    return { doubt: "the node's own network namespace is not shown (CAP_SYS_PTRACE, AppArmor)" };
  }
  if (namespaces.size > 1) {
    return { doubt: `its processes are in ${namespaces.size} network namespaces` };
  }
  if (own.has(namespace)) return { doubt: "its processes are in the node's network namespace" };
  const stranger = processes.find((process) => process.namespace === namespace && !isOurs(process));
  if (stranger !== undefined) {
    return {
      doubt: `process ${stranger.pid}, which is not the pod's, is in its network namespace`,
    };
  }
  const holders = ours.filter(({ place }) =>
    place.kind === "container" && !life.containerIds.includes(place.container)
  );
  const sandboxes = new Set(holders.map(sandboxOf));
  const [holder] = holders;
  const sandbox = holder && sandboxOf(holder);
  if (holder === undefined || sandbox === undefined) {
    return { doubt: "its sandbox has no process of its own (CRI-O leaves it out)" };
  }
  if (sandboxes.size > 1) return { doubt: `${sandboxes.size} containers could be its sandbox` };
  // A container that kubelet has not told of yet looks the same; the sandbox alone has a network.
  if (hasResult?.(sandbox) === false) {
    return { doubt: `the runtime has set up no network for "${sandbox}", so it is no sandbox` };
  }
  return { holder, sandbox, namespace };
}

/** Tells whether a process still is what it was in a proof: not another one of that number. */
export function isUnchanged(before: SeenProcess, now: SeenProcess | undefined): boolean {
  return now !== undefined && now.pid === before.pid && now.start === before.start &&
    now.namespace === before.namespace &&
    JSON.stringify(now.place) === JSON.stringify(before.place);
}

/**
 * Tells what is wrong about the addresses in a namespace; nothing when all of the pod's are there.
 *
 * @param seen Addresses of all interfaces of the namespace.
 */
export function addressDoubt(ips: readonly string[], seen: readonly string[]): string | undefined {
  const there = new Set(seen.map(canonical));
  const missing = ips.filter((ip) => !there.has(canonical(ip)));
  if (ips.length > 0 && missing.length === 0) return undefined;
  return `the network namespace does not have the pod's address ${missing.join(", ")}`;
}

/** Kubelet's form of an IPv6 address need not be the kernel's. */
function canonical(text: string): string {
  const address = parseAddress(text);
  return address === undefined ? text : `${address.family} ${address.bytes.join(".")}`;
}

function sandboxOf({ place }: SeenProcess): string | undefined {
  return place.kind === "container" ? place.container : undefined;
}
