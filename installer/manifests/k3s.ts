/**
 * Where k3s looks for network plugins. It has moved that folder, on hosts and in its container image
 * (which k3d runs) at different releases.
 */
import { ValuesError } from "./tree.ts";

/** Major, minor and patch of a Kubernetes release. */
export type Version = readonly [major: number, minor: number, patch: number];

/** Since October 2024 on hosts, since March 2025 in the image. */
const settledDir = "/var/lib/rancher/k3s/data/cni";

/** First patch release of each minor release that has {@linkcode settledDir}; k3s #10869, #11497. */
const settledSince = {
  k3s: new Map([[28, 15], [29, 10], [30, 6], [31, 2]]),
  k3d: new Map([[29, 15], [30, 11], [31, 7], [32, 3]]),
} as const;

const earlierDir = {
  // The link leads to the release in use; its hash is in the folder's own name.
  k3s: "/var/lib/rancher/k3s/data/current/bin",
  k3d: "/bin",
} as const;

/**
 * Reads a kubelet's version.
 *
 * @throws {ValuesError} when it is none.
 */
export function kubeletVersion(text: string): Version {
  const [, major, minor, patch] = /^v?(\d+)\.(\d+)\.(\d+)(?:[+-].*)?$/.exec(text) ?? [];
  if (patch === undefined) {
    throw new ValuesError(
      `--kubelet-version is "${text}", expected a version such as v1.31.2+k3s1, as kubectl get ` +
        "nodes prints it",
    );
  }
  return [Number(major), Number(minor), Number(patch)];
}

/**
 * Returns k3s' folder of network plugins.
 *
 * @param kind `k3s` on hosts, `k3d` in containers.
 * @param version Version of the kubelet; `undefined`: a release that is still maintained.
 */
export function k3sBinDir(
  kind: "k3s" | "k3d",
  version: Version | undefined,
): { readonly binDir: string; readonly steps: readonly string[] } {
  if (version === undefined) {
    const releases = [...settledSince[kind]].map(([minor, patch]) => `1.${minor}.${patch}`);
    return {
      binDir: settledDir,
      steps: [
        `cni.binDir is that of ${kind} ${
          releases.join(", ")
        } and later; for earlier releases name ` +
        "the nodes' version with --kubelet-version",
      ],
    };
  }
  return { binDir: isSettled(kind, version) ? settledDir : earlierDir[kind], steps: [] };
}

function isSettled(kind: "k3s" | "k3d", [major, minor, patch]: Version): boolean {
  const since = settledSince[kind].get(minor);
  if (major !== 1) return major > 1;
  return since === undefined ? minor > Math.max(...settledSince[kind].keys()) : patch >= since;
}
