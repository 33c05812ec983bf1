/** How long the parts of a call of the compiled plugin take, as it tells the node agent. */
import { SocketServer } from "../../../installer/agent/socket_server.ts";
import type { ReceivedFinish } from "../../../src/agent/messages.ts";
import { parsePod } from "../../../src/kubernetes/pod.ts";
import { createNamespace } from "../../../tests/support/topology.ts";
import { injectedPod } from "../../../tests/support/pods.ts";
import { bridgeResult, callPlugin, newContainerId } from "../../../tests/support/runtime.ts";
import { root } from "../../deno_tools.ts";

const pod = { namespace: "demo", name: "meshed", uid: crypto.randomUUID() };

/**
 * Has the compiled plugin of `dist/` add a meshed pod again and again.
 *
 * @param annotations Added to those of the injector.
 * @returns Milliseconds of the phase `apply` of each call: entering the namespace, looking at it,
 * compiling, applying and reading back.
 * @throws {Error} when a call fails.
 */
export async function applyPhases(
  calls: number,
  annotations: Readonly<Record<string, string>>,
): Promise<number[]> {
  const told = await toldBy(`${root}/dist/kuma-cni`, calls, { annotations, logLevel: "info" });
  return told.map(({ outcome }) => outcome?.phases.apply ?? NaN);
}

/**
 * Has a compiled plugin add a meshed pod again and again, each time in a namespace of its own.
 *
 * @param plugin Path of the program.
 * @param options Annotations beside those of the injector, and `log_level`.
 * @returns What the plugin tells the node agent of each call.
 * @throws {Error} when a call fails.
 */
export async function toldBy(
  plugin: string,
  calls: number,
  { annotations, logLevel }: {
    readonly annotations: Readonly<Record<string, string>>;
    readonly logLevel: "info" | "debug";
  },
): Promise<ReceivedFinish[]> {
  const folder = await Deno.makeTempDir({ prefix: "kuma-bench-" });
  await Deno.chmod(folder, 0o700);
  const socket = `${folder}/agent.sock`;
  const known = parsePod(injectedPod({ ...pod, annotations }));
  const told: ReceivedFinish[] = [];
  const server = new SocketServer(
    socket,
    { cached: () => known, fetch: () => Promise.reject(new Error("There is no API server")) },
    {
      finished: (request) => told.push(request),
      podAnswered: () => {},
      failed: () => {},
    },
  );
  try {
    server.ensureServing();
    for (let call = 0; call < calls; call++) {
      using namespace = createNamespace();
      const { code, stdout } = await callPlugin(plugin, {
        command: "ADD",
        containerId: newContainerId(),
        netns: namespace.path,
        pod,
        network: {
          cniVersion: "0.4.0",
          name: "bench",
          type: "kuma-cni",
          log_level: logLevel,
          agent: { socket },
        },
        prevResult: bridgeResult(namespace.path, { ipv4: "10.90.0.5", gateway4: "10.90.0.1" }),
      });
      if (code !== 0) throw new Error(`ADD fails: ${stdout}`);
    }
    return told;
  } finally {
    server.close();
    await Deno.remove(folder, { recursive: true });
  }
}
