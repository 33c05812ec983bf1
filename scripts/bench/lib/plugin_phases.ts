/** How long the parts of a call of the compiled plugin take, as it tells the node agent. */
import { SocketServer } from "../../../installer/agent/socket_server.ts";
import type { Outcome } from "../../../src/agent/messages.ts";
import { parsePod } from "../../../src/kubernetes/pod.ts";
import { createNamespace } from "../../../src/linux/topology.ts";
import { injectedPod } from "../../../tests/support/pods.ts";
import { bridgeResult, callPlugin, newContainerId } from "../../../tests/support/runtime.ts";
import { root } from "../../build.ts";

const pod = { namespace: "demo", name: "meshed", uid: crypto.randomUUID() };

/**
 * Has the compiled plugin add a meshed pod again and again, each time in a namespace of its own.
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
  const folder = await Deno.makeTempDir({ prefix: "kuma-bench-" });
  await Deno.chmod(folder, 0o700);
  const socket = `${folder}/agent.sock`;
  const known = parsePod(injectedPod({ ...pod, annotations }));
  const outcomes: Outcome[] = [];
  const server = new SocketServer(
    socket,
    { cached: () => known, fetch: () => Promise.reject(new Error("There is no API server")) },
    {
      finished: ({ outcome }) => outcome && outcomes.push(outcome),
      podAnswered: () => {},
      failed: () => {},
    },
  );
  try {
    server.ensureServing();
    for (let call = 0; call < calls; call++) {
      using namespace = createNamespace();
      const { code, stdout } = await callPlugin(`${root}/dist/kuma-cni`, {
        command: "ADD",
        containerId: newContainerId(),
        netns: namespace.path,
        pod,
        network: { cniVersion: "0.4.0", name: "bench", type: "kuma-cni", agent: { socket } },
        prevResult: bridgeResult(namespace.path, { ipv4: "10.90.0.5", gateway4: "10.90.0.1" }),
      });
      if (code !== 0) throw new Error(`ADD fails: ${stdout}`);
    }
    return outcomes.map(({ phases }) => phases.apply ?? NaN);
  } finally {
    server.close();
    await Deno.remove(folder, { recursive: true });
  }
}
