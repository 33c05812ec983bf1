/** Where the API server is. */
import type { Settings } from "./declarations.ts";

/** Returns the API server's address for the kubeconfig; the settings' reader has checked its parts. */
export function serverOf(settings: Settings): string {
  const { apiHost, apiPort, apiProtocol } = settings;
  return `${apiProtocol}://${apiHost.includes(":") ? `[${apiHost}]` : apiHost}:${apiPort}`;
}
