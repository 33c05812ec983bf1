/** The service account's token that install-cni has put on a node's host, for the plugin. */
import { parseKubeconfig } from "../../../src/kubernetes/kubeconfig.ts";
import { tokenTimes } from "../../../src/kubernetes/token_expiry.ts";
import type { Machine } from "./machine.ts";

/** A token with what it says of itself. */
export interface HostToken {
  readonly text: string;
  /** In milliseconds since the epoch. */
  readonly issued: number;
  readonly expires: number;
  /** UID of the pod that it is bound to. */
  readonly pod: string;
}

/** Reads it. */
export async function hostToken(machine: Machine): Promise<HostToken> {
  const path = machine.path("/etc/cni/net.d/ZZZ-kuma-cni-kubeconfig");
  const text = parseKubeconfig(await Deno.readTextFile(path), path).token ?? "";
  const { issued, expires } = tokenTimes(text);
  if (issued === undefined || expires === undefined) {
    throw new Error("The token on the host does not say until when it is good");
  }
  const claims = Uint8Array.fromBase64(text.split(".")[1]!, { alphabet: "base64url" });
  const { "kubernetes.io": bound } = JSON.parse(new TextDecoder().decode(claims));
  return { text, issued, expires, pod: bound.pod.uid };
}
