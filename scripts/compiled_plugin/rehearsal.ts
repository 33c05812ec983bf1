/**
 * Makes the bytecode of the plugin: plays the calls that a node sees every day, so that the functions
 * which they need are compiled and the others are not, and writes down what V8 has then. Runs in the
 * same denort with the same flags as the plugin.
 *
 * Arguments: the folder of the plugin's scripts, where their bytecode is put, and a folder for files of
 * the calls. Without the latter it tells by its exit code whether V8 accepts the bytecode.
 */
import { Script } from "node:vm";
import { formatKubeconfig } from "../../src/kubernetes/kubeconfig_format.ts";
import { injectedPod, plainPod } from "../../tests/support/pods.ts";
import { bridgeResult, cniArgs, networkConfigText } from "../../tests/support/runtime.ts";
import { type Part, PARTS, startModules } from "./modules.ts";
import { play, type Scene } from "./stage.ts";

const [plugin = "", folder] = Deno.args;
const { exit, writeFileSync } = Deno;

function scriptOf(part: Part, options: { readonly cachedData?: Uint8Array } = {}): Script {
  const text = Deno.readTextFileSync(`${plugin}/plugin_${part}.js`);
  return new Script(text, { filename: `file:///kuma-cni/${part}.js`, ...options });
}

if (folder === undefined) {
  const refused = PARTS.some((part) => {
    const cachedData = Deno.readFileSync(`${plugin}/plugin_${part}.cache`);
    return scriptOf(part, { cachedData }).cachedDataRejected;
  });
  exit(refused ? 1 : 0);
}
const scripts = { start: scriptOf("start"), later: scriptOf("later") };

const containerId = "0".repeat(64);
const meshed = { namespace: "demo", name: "meshed", uid: "00000000-0000-4000-8000-000000000001" };
const plain = { namespace: "demo", name: "plain", uid: "00000000-0000-4000-8000-000000000002" };
const excluded = { ...plain, namespace: "kube-system" };

Deno.writeTextFileSync(
  `${folder}/kubeconfig`,
  formatKubeconfig({
    server: "https://10.96.0.1:443",
    certificateAuthority: "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n",
    token: "token",
  }),
);

function scene(
  command: string,
  pod: typeof meshed,
  rest: Partial<Scene> = {},
): Scene {
  // Any file that is not the own network namespace.
  const netns = `${folder}/kubeconfig`;
  return {
    name: `${command} of pod "${pod.namespace}/${pod.name}"`,
    env: {
      CNI_COMMAND: command,
      CNI_CONTAINERID: containerId,
      CNI_NETNS: netns,
      CNI_IFNAME: "eth0",
      CNI_PATH: "/opt/cni/bin",
      CNI_ARGS: cniArgs(containerId, pod),
    },
    input: networkConfigText({
      cniVersion: command === "STATUS" ? "1.1.0" : "0.4.0",
      name: "k8s-pod-network",
      type: "kuma-cni",
      log_level: "info",
      kubernetes: {
        kubeconfig: `${folder}/kubeconfig`,
        exclude_namespaces: ["kube-system"],
        cni_bin_dir: "/opt/cni/bin",
      },
      ...(rest.agent === undefined ? {} : { agent: { socket: `${folder}/agent.sock` } }),
    }, bridgeResult(netns, { ipv4: "10.90.0.5", ipv6: "fd90::5", gateway4: "10.90.0.1" })),
    ...rest,
  };
}

const scenes = [
  scene("VERSION", plain),
  scene("STATUS", plain),
  scene("DEL", plain),
  scene("ADD", excluded),
  scene("ADD", plain, { pod: plainPod(plain) }),
  scene("ADD", meshed, { pod: injectedPod(meshed) }),
  scene("ADD", plain, { pod: plainPod(plain), agent: true }),
  scene("ADD", meshed, { pod: injectedPod(meshed), agent: true }),
  scene("ADD", meshed, { pod: injectedPod({ ...meshed, form: "3" }), agent: true }),
];
for (const each of scenes) {
  const { exitCode, output } = await play(
    each,
    () => startModules((part) => scripts[part].runInThisContext()),
  );
  if (exitCode === 0) continue;
  console.log(`The rehearsed ${each.name} fails: ${output}`);
  exit(1);
}
for (const part of PARTS) {
  writeFileSync(`${plugin}/plugin_${part}.cache`, scripts[part].createCachedData());
}
exit(0);
