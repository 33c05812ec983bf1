/**
 * Asks an API server for a pod, in a process of its own whose environment a test has set, and prints
 * the error's message or "answered", then the variables that were in the environment at first.
 *
 * Arguments: `direct` or `fetch`, and the access as JSON.
 */
import { KubernetesClient } from "../../src/kubernetes/client.ts";
import { ApiError } from "../../src/kubernetes/errors.ts";
import { libc } from "../../src/linux/libc.ts";

libc();
const [how, access = ""] = Deno.args;
const names = ["DENO_CERT", "DENO_TLS_CA_STORE", "SSL_CERT_DIR", "SSL_CERT_FILE"];
const environment = () => JSON.stringify(names.map((name) => Deno.env.get(name)));
const before = environment();
using client = new KubernetesClient(JSON.parse(access), { direct: how === "direct" });
let result = "answered";
try {
  await client.getPod({ namespace: "demo", name: "app-1" });
} catch (error) {
  if (!(error instanceof ApiError)) throw error;
  result = `${error.kind}: ${error.message}`;
}
if (environment() !== before) result += "; the environment has changed";
console.log(result);
