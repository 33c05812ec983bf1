/**
 * The whole of it in Kubernetes clusters of today: what the manifests make, pods as the injector
 * writes them with real Envoys as sidecars, and what nodes go through.
 */
import "../support/load_libc.ts";
import { deepEqual, equal, match } from "node:assert/strict";
import { compiledInstaller, compiledPlugin } from "../support/compiled.ts";
import { parts } from "../../scripts/e2e/parts.ts";
import { type KubernetesVersion, kubernetesVersions, programsOf } from "./support/cluster.ts";
import { fact, seconds } from "./support/facts.ts";
import { writeImages } from "./support/images.ts";
import { demo, Stage } from "./support/stage.ts";
import { lifeOfANode, staticPod } from "./steps/node_life.ts";
import { apiServerAway } from "./steps/outage.ts";
import { objectsOfAllPlatforms, withoutCapabilities } from "./steps/manifests.ts";
import { shortenTokens, TokenRotation } from "./steps/token_rotation.ts";
import { traffic } from "./steps/traffic.ts";

const plugin = await compiledPlugin();
const installer = await compiledInstaller();
const images = await writeImages(
  await Deno.makeTempDir({ prefix: "images-" }),
  plugin.slice(0, plugin.lastIndexOf("/")),
);
const { containerd, runc, etcd, envoy, kubectl, "cni-plugins": plugins } = parts;
fact(`containerd ${containerd.version}, runc ${runc.version}, etcd ${etcd.version}`);
fact(`reference plugins ${plugins.version}, Envoy ${envoy.version}, kubectl ${kubectl.version}`);
fact(`kernel ${Deno.osRelease()}, ${navigator.hardwareConcurrency} cores`);

for (const version of kubernetesVersions) {
  Deno.test(`Kubernetes ${version}, by kubectl`, (t) => byKubectl(t, version));
}

async function byKubectl(t: Deno.TestContext, version: KubernetesVersion): Promise<void> {
  const isNewest = version === kubernetesVersions[0];
  await programsOf(version);
  const begin = performance.now();
  await using stage = await Stage.set(version, images, installer);
  fact(`Kubernetes ${version}: the node is ready after ${seconds(performance.now() - begin)}`);
  const before = await stage.hostFiles(stage.cluster.nodes[0]!);

  await objectsOfAllPlatforms(t, stage);
  const isInstalled = await t.step(
    "what install-cni manifests prints is applied and gets ready",
    async () => {
      await stage.cluster.applyText(await stage.manifests());
      await stage.rolledOut();
      match(await stage.agentLog(), /Pods of this node are followed/);
      await stage.assertNoneHasDied();
    },
  );
  if (!isInstalled) return;
  await withoutCapabilities(t, stage);

  if (isNewest) {
    await shortenTokens(stage);
    await stage.rolledOut();
    const rotation = new TokenRotation(stage);
    await rotation.begin(t);
    // Ten minutes of waiting follow: time to make what the next test needs, if the cache has it not.
    const made = Promise.allSettled(kubernetesVersions.slice(1).map(programsOf));
    await apiServerAway(t, stage);
    if (!await traffic(t, stage)) return;
    await staticPod(t, stage);
    await rotation.end(t);
    await made;
    await lifeOfANode(t, stage);
  } else {
    if (!await traffic(t, stage)) return;
    await staticPod(t, stage);
  }

  await t.step(
    "deleting the DaemonSet, then the rest, leaves the host byte for byte as it was",
    () => removal(stage, before),
  );
}

async function removal(stage: Stage, before: Record<string, string>): Promise<void> {
  const { cluster } = stage;
  await stage.removePods();
  const manifest = await stage.manifests();
  await cluster.kubectl("-n=kube-system", "delete", "daemonset", "kuma-cni-node");
  await stage.untilInstallerIsGone();
  deepEqual(await stage.hostFiles(cluster.nodes[0]!), before);
  const args = ["delete", "--ignore-not-found", "--filename=-"];
  const { code, stderr } = await cluster.tryKubectl(args, manifest);
  equal(code, 0, stderr);
  await stage.create({ name: "after" }, { light: true });
  await cluster.until("a pod that starts now is not captured", async () => {
    const args = ["-n", demo, "logs", "after", "-c", "kuma-validation"];
    return (await cluster.tryKubectl(args)).stdout.includes("127.0.0.6 is not redirected");
  });
}
