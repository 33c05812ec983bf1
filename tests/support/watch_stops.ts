/**
 * Starts and ends watches one after the other, for a test that lets the garbage collector run all the
 * time; prints how many of them ended within a second of being told to.
 */
import { KubernetesClient } from "../../src/kubernetes/client.ts";
import { parsePod } from "../../src/kubernetes/pod.ts";
import { watch } from "../../src/kubernetes/watch.ts";
import { ApiServer } from "./api_server.ts";
import { plainPod } from "./pods.ts";

const [times = "1"] = Deno.args;
await using api = await ApiServer.start({ objects: [plainPod({ padBytes: 100_000 })] });
using client = new KubernetesClient({
  server: api.url,
  certificateAuthority: api.certificateAuthority,
  token: api.token,
  insecureSkipTlsVerify: false,
});
let ended = 0;
for (let time = 0; time < Number(times); time++) {
  const stop = new AbortController();
  const follow = async () => {
    const notices = watch(client, { path: "/api/v1/pods", parse: parsePod, signal: stop.signal });
    for await (const _ of notices) continue;
    return true;
  };
  const following = follow();
  while (api.watches === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  api.store.put(plainPod({ padBytes: 100_000 }));
  await new Promise((resolve) => setTimeout(resolve, 20));
  stop.abort();
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => timer = setTimeout(() => resolve(false), 1000));
  if (await Promise.race([following, late])) ended++;
  clearTimeout(timer);
  while (api.watches > 0) {
    api.closeConnections();
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}
console.log(ended);
Deno.exit(0);
