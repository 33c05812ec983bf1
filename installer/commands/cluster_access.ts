/** How a command on somebody's machine reaches their cluster. */
import { KubernetesClient } from "../../src/kubernetes/client.ts";
import { loadKubeconfig } from "../../src/kubernetes/kubeconfig.ts";
import { clientOf } from "../cluster/own_pod.ts";
import { parseSettings } from "../settings/settings.ts";

/** Lists of a large cluster take a while. */
const requestTimeoutMilliseconds = 60_000;

/**
 * Finds the cluster: by `KUBECONFIG`, else as a pod in it, else by `~/.kube/config`.
 *
 * @returns A client; dispose of it.
 * @throws {Error} when none of them is there, or the kubeconfig cannot be used.
 */
export function clusterClient(): KubernetesClient {
  const named = Deno.env.get("KUBECONFIG");
  if (!named && Deno.env.get("KUBERNETES_SERVICE_HOST")) {
    const settings = parseSettings(({ variable }) => Deno.env.get(variable), {
      needsConfig: false,
    });
    return clientOf(settings, requestTimeoutMilliseconds);
  }
  const path = named || `${Deno.env.get("HOME") ?? ""}/.kube/config`;
  const absolute = path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
  if (!exists(absolute)) {
    throw new Error(
      `There is no kubeconfig ${
        JSON.stringify(absolute)
      }; set KUBECONFIG to that of the cluster, ` +
        "or name the platform instead of auto",
    );
  }
  const access = loadKubeconfig(absolute);
  return new KubernetesClient(access, { requestTimeoutMilliseconds });
}

/** What is there but cannot be read is the reader's to tell. */
function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    return !(error instanceof Deno.errors.NotFound);
  }
}
