/** The primary network of a containerd of the tests: a bridge with addresses of both families. */
import assert from "node:assert/strict";
import type { Sandbox } from "./containerd.ts";
import type { ProbedPod } from "./sandbox_probe.ts";

/** Name of the primary plugin's list. */
export const conflistName = "10-bridge.conflist";
/** The bridge's addresses. */
export const bridgeAddress = { ipv4: "10.88.0.1", ipv6: "fd88::1" } as const;

/**
 * The primary plugin's list, with odd formatting, which nobody else may change.
 *
 * @param dataDir Folder in which the addresses of pods are noted.
 * @param change What else stands in it.
 */
export function bridgeConflist(dataDir: string, change = ""): string {
  return `{
  "name":"k8s-pod-network",   "cniVersion" : "0.4.0",${change}
  "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": 1400.0,
      "ipam": { "type": "host-local", "dataDir": "${dataDir}",
        "ranges": [ [{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd88::/64" }] ],
        "routes": [ { "dst": "0.0.0.0/0" }, { "dst": "::/0" } ] } }
  ]
}
`;
}

/**
 * What the probes need to know about a pod, for each family.
 *
 * @param host Path of the network namespace that the bridge is in.
 */
export function probedPods({ networkNamespace, ips }: Sandbox, host: string): ProbedPod[] {
  assert.equal(ips.length, 2, `The pod must have addresses of both families, has ${ips}`);
  return ips.map((podAddress) => ({
    pod: networkNamespace,
    host,
    podAddress,
    hostAddress: podAddress.includes(":") ? bridgeAddress.ipv6 : bridgeAddress.ipv4,
  }));
}
