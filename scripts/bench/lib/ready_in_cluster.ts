/** From a pod's creation to Ready in a real cluster, with and without the plugin on its node. */
import { healthPort } from "../../../tests/e2e/support/agent.ts";
import { kubernetesVersions } from "../../../tests/e2e/support/cluster.ts";
import { writeImages } from "../../../tests/e2e/support/images.ts";
import { PodTimes } from "../../../tests/e2e/support/pod_times.ts";
import { demo, Stage } from "../../../tests/e2e/support/stage.ts";
import { workload } from "../../../tests/e2e/support/workload.ts";
import { compiledInstaller, compiledPlugin } from "../../../tests/support/compiled.ts";
import { injectedPod, type PodObject } from "../../../tests/support/pods.ts";

/** What was measured; times in milliseconds, by turn. */
export interface ReadyRun {
  readonly version: string;
  readonly figures: readonly { readonly name: string; readonly ready: number[] }[];
}

/** A node takes 110 pods. */
const podsAtATime = 20;
const nodeLabel = "measured";
const [version] = kubernetesVersions;

/**
 * Starts a cluster with a node that has bridge and portmap alone, and one that has the plugin behind
 * them, and starts pods on them turn by turn. Needs root.
 *
 * @param turns How many pods of each kind.
 */
export async function measureReady(turns: number): Promise<ReadyRun> {
  const folder = await Deno.makeTempDir({ prefix: "images-" });
  try {
    const plugin = await compiledPlugin();
    const images = await writeImages(folder, plugin.slice(0, plugin.lastIndexOf("/")));
    await using stage = await Stage.set(version, images, await compiledInstaller());
    const { cluster } = stage;
    // Not the first one, which has the control plane to carry.
    const alone = (await cluster.addNode()).machine.name;
    const chained = (await cluster.addNode()).machine.name;
    for (const name of [alone, chained]) await cluster.untilNodeReady(name);
    await cluster.kubectl("label", "node", chained, `${nodeLabel}=here`);
    const selector = { [`cni.nodeSelector.${nodeLabel}`]: "here" };
    await cluster.applyText(
      await stage.manifests({ ...selector, "cni.healthPort": String(healthPort) }),
    );
    await stage.rolledOut();
    const kinds = [
      { name: "bridge + portmap", node: alone, isMeshed: false },
      { name: "+ shim with agent, not meshed", node: chained, isMeshed: false },
      { name: "+ shim with agent, meshed", node: chained, isMeshed: true },
    ];
    const figures = kinds.map(({ name }) => ({ name, ready: [] as number[] }));
    await using times = new PodTimes(cluster, demo);
    let running: string[] = [];
    // The first turn warms up.
    for (let turn = -1; turn < turns; turn++) {
      for (const [i, { name: kind, node, isMeshed }] of kinds.entries()) {
        const name = `turn-${turn + 1}-${i}`;
        running.push(name);
        await cluster.apply(podOf(name, node, isMeshed));
        const milliseconds = await times.untilReady(name);
        if (await stage.isCaptured(name) !== isMeshed) {
          throw new Error(`${kind}: pod "${name}" is not as expected`);
        }
        if (turn >= 0) figures[i]!.ready.push(milliseconds);
      }
      if (running.length < podsAtATime * kinds.length && turn < turns - 1) continue;
      await cluster.kubectl("-n", demo, "delete", "pod", "--grace-period=1", ...running);
      running = [];
    }
    return { version, figures };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Pods of all kinds have the same containers: only what the injector notes on them differs. */
function podOf(name: string, node: string, isMeshed: boolean): PodObject {
  const pod = workload(injectedPod({ name, namespace: demo }), { light: true, node });
  return {
    ...pod,
    metadata: isMeshed ? pod.metadata : { name, namespace: demo },
    // The check for rules would fail a pod that has none.
    spec: { ...pod.spec, initContainers: [] },
  };
}
