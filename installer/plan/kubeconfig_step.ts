/** Decides whether the kubeconfig on the host must be written. Pure. */
import { formatKubeconfig } from "../../src/kubernetes/kubeconfig_format.ts";
import { messageOf } from "../../src/log/message_of.ts";
import { sameBytes } from "../host/host_files.ts";
import type { Observed } from "../host/observe.ts";
import { ownGid, ownUid } from "../host/owner.ts";
import { serverOf } from "../settings/api_server.ts";
import type { Settings } from "../settings/declarations.ts";
import type { Cause, Step } from "./steps.ts";

/** Returns the step that is needed, if any, or why the content cannot be told. */
export function kubeconfigStep(
  settings: Settings,
  seen: Observed,
): { readonly step: Step | undefined } | { readonly problem: string } {
  if ("problem" in seen.token) return seen.token;
  if ("problem" in seen.certificateAuthority) return seen.certificateAuthority;
  if (settings.apiHost === "" || settings.apiPort === "") {
    return { problem: "KUBERNETES_SERVICE_HOST or KUBERNETES_SERVICE_PORT is empty" };
  }
  let text: string;
  try {
    text = formatKubeconfig({
      server: serverOf(settings),
      certificateAuthority: seen.certificateAuthority.text,
      token: seen.token.text.trim(),
    });
  } catch (error) {
    return { problem: messageOf(error) };
  }
  const content = new TextEncoder().encode(text);
  const file = seen.kubeconfig;
  const write = (cause: Cause, expected: Uint8Array | undefined) => ({
    step: {
      kind: "write" as const,
      cause,
      name: settings.kubeconfigName,
      expected,
      content,
      attributes: { mode: 0o600, uid: ownUid(), gid: ownGid() },
    },
  });
  if (file === undefined) return write("kubeconfig-missing", undefined);
  const isPrivate = file.link === undefined && file.status.mode === 0o600 &&
    file.status.uid === ownUid();
  if (isPrivate && sameBytes(file.content, content)) return { step: undefined };
  const withoutToken = (text: string) => text.replace(/^( *token: ).*$/m, "$1");
  const isRotation = isPrivate && file.text !== undefined &&
    withoutToken(file.text) === withoutToken(text);
  return write(isRotation ? "token-rotated" : "kubeconfig-changed", file.content);
}
