/** Decides whether the kubeconfig on the host must be written. Pure. */
import { formatKubeconfig } from "../../src/kubernetes/kubeconfig_format.ts";
import {
  KubeconfigError,
  largestKubeconfig,
  parseKubeconfig,
} from "../../src/kubernetes/kubeconfig.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { sameBytes } from "../host/host_files.ts";
import type { Observed } from "../host/observe.ts";
import { ownGid, ownUid } from "../host/owner.ts";
import { serverOf } from "../settings/api_server.ts";
import type { Settings } from "../settings/declarations.ts";
import { problemOfAuthority } from "./certificate_authority.ts";
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
  const garbled = problemOfAuthority(seen.certificateAuthority.text);
  if (garbled !== undefined) {
    return { problem: `"${settings.caFile}" cannot be used: ${garbled}` };
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
  const unreadable = problemOfKubeconfig(text, settings.kubeconfigName);
  if (unreadable !== undefined) return { problem: unreadable };
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
  const withoutToken = (text: string) => text.replace(/^( *"token": ).*$/m, "$1");
  const isRotation = isPrivate && file.text !== undefined &&
    withoutToken(file.text) === withoutToken(text);
  return write(isRotation ? "token-rotated" : "kubeconfig-changed", file.content);
}

/** Returns why the plugin's own reader refuses a kubeconfig; `undefined` when it does not. */
export function problemOfKubeconfig(text: string, name: string): string | undefined {
  const { length } = new TextEncoder().encode(text);
  if (length > largestKubeconfig) {
    return `Cannot use kubeconfig "${name}": with this token and certificate authority it has ` +
      `${length} bytes, and the plugin reads at most ${largestKubeconfig}`;
  }
  try {
    const { certificateAuthority = "" } = parseKubeconfig(text, name);
    const garbled = problemOfAuthority(certificateAuthority);
    return garbled && `Cannot use kubeconfig "${name}": of its certificate authority, ${garbled}`;
  } catch (error) {
    if (error instanceof KubeconfigError) return error.message;
    throw error;
  }
}
