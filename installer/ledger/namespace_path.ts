/** Where this process sees the file of a network namespace of the host. */
import { seenPath } from "../host/runtime_view.ts";
import type { Settings } from "../settings/declarations.ts";

/** Returns the path as this process sees it. */
export function seenNamespacePath(settings: Settings, hostPath: string): string {
  // A process's own file: with the node's process IDs it is the same here.
  if (hostPath.startsWith("/proc/")) return hostPath;
  // On every distribution /var/run is a link, which leads nowhere below another root.
  return seenPath(settings, hostPath.replace(/^\/var\/run\//, "/run/"));
}
