/**
 * Our image under the objects of Kuma's own chart, with the rights that these give and no others; then
 * our objects in the place of those, by kubectl and by the real Helm.
 */
import "../support/load_libc.ts";
import { deepEqual, equal, match } from "node:assert/strict";
import { compiledInstaller, compiledPlugin } from "../support/compiled.ts";
import { accountObjects, installerObjects, rights } from "../support/reference_manifest.ts";
import { parts } from "../../scripts/e2e/parts.ts";
import { conflistName, kubernetesVersions } from "./support/cluster.ts";
import { fact } from "./support/facts.ts";
import { writeImages } from "./support/images.ts";
import { pause } from "./support/machine.ts";
import { Sandboxes } from "./support/sandboxes.ts";
import { hostToken } from "./support/host_token.ts";
import { chart, demo, isRefused, Stage } from "./support/stage.ts";
import { churn } from "./steps/churn.ts";
import { staticPod } from "./steps/node_life.ts";

/** The oldest: the clusters that Kuma's chart has been in for longest. */
const version = kubernetesVersions.at(-1)!;
const plugin = await compiledPlugin();
const installer = await compiledInstaller();
const images = await writeImages(
  await Deno.makeTempDir({ prefix: "images-" }),
  plugin.slice(0, plugin.lastIndexOf("/")),
);
fact(`Kubernetes ${version}, containerd ${parts.containerd.version}`);
fact(`kubectl ${parts.kubectl.version}; Helm ${parts["helm-3"].version}`);

const daemonSet = "daemonset/kuma-cni-node";
const inSystem = "-n=kube-system";

/** What Kuma's chart makes, with our image. */
function objects(delayStartupSeconds = 0): object[] {
  const folders = { netDir: "/etc/cni/net.d", binDir: "/opt/cni/bin" };
  return installerObjects({ ...folders, confName: conflistName, delayStartupSeconds });
}

Deno.test("our image under the reference's objects, and ours in their place", async (t) => {
  await using stage = await Stage.set(version, images, installer);
  const { cluster } = stage;
  const node = cluster.nodes[0]!;
  using sandboxes = new Sandboxes(node.machine);
  const before = await stage.hostFiles(node);
  const isChained = async () => (await stage.conflist(node)).includes("kuma-cni");

  const isReady = await t.step(
    "the reference's DaemonSet becomes ready with the reference's rights",
    async () => {
      await cluster.apply(...accountObjects(rights.reference), ...objects());
      await stage.rolledOut();
      await stage.assertNoneHasDied();
      await cluster.until("the log says what it cannot", async () => {
        return /Pods of this node are not followed.*403: pods is forbidden/
          .test(await stage.agentLog());
      });
    },
  );
  if (!isReady) return;
  await t.step("pods get their rules, or none, and the log says so", async () => {
    await stage.start({ name: "meshed" }, { light: true });
    equal(await stage.isCaptured("meshed"), true);
    await stage.startPlain("plain");
    equal(await stage.isCaptured("plain"), false);
    const log = await stage.agentLog();
    match(log, /\tkuma-cni\tPod's traffic is redirected .*"meshed"/);
    match(log, /\tkuma-cni\tPod is skipped.*"plain"/);
  });
  await t.step("no pod fails or is missed while the DaemonSet rolls", async () => {
    const restart = () => cluster.kubectl(inSystem, "rollout", "restart", daemonSet);
    fact(`rolling update: ${await churn(stage, "roll", async () => void await restart())}`);
  });
  await t.step("no pod fails or is missed while an agent takes long to start", async () => {
    const told = await churn(stage, "late", () => cluster.apply(...objects(20)));
    fact(`rolling update, the new agent 20 s late: ${told}`);
    await cluster.apply(...objects());
    await stage.rolledOut();
  });
  await staticPod(t, stage);
  await t.step("without the API server a pod waits rather than start without rules", async () => {
    await node.machine.stop("apiserver");
    await sandboxes.stop((await sandboxes.idOf(demo, "meshed"))!);
    const end = performance.now() + 15_000;
    while (performance.now() < end) {
      equal(await sandboxes.idOf(demo, "meshed"), undefined);
      await pause(200);
    }
    await cluster.startApiServer();
    await cluster.until("it has a sandbox again", async () => {
      return await sandboxes.idOf(demo, "meshed") !== undefined;
    }, 90_000);
    equal(await sandboxes.isCaptured(demo, "meshed"), true);
    // Scheduler and kubelet take their time to find back; what follows shall not have to.
    await stage.start({ name: "next" }, { light: true });
    equal(await stage.isCaptured("next"), true);
  });
  await t.step(
    "a deletion that it cannot prove leaves the plugin, and no pod starts past it",
    async () => {
      const token = await hostToken(node.machine);
      await cluster.kubectl(inSystem, "delete", daemonSet);
      await stage.untilInstallerIsGone();
      equal(await isChained(), true);
      // It has gone with the pod that it was bound to; the API server notices within ten seconds.
      await cluster.until("the token on the host is refused", async () => {
        return isRefused(await stage.askWith(token.text));
      });
      await stage.create({ name: "orphan" }, { light: true });
      let refusals: string[] = [];
      await cluster.until("its sandbox is refused", async () => {
        refusals = (await stage.failedSandboxes()).filter((text) => text.includes("orphan"));
        return refusals.length > 0;
      }, 120_000);
      match(refusals[0]!, /The token in the kubeconfig is expired, revoked/);
      equal(await sandboxes.idOf(demo, "orphan"), undefined);
      await cluster.apply(...objects());
      await stage.rolledOut();
      equal(await stage.isCaptured("orphan"), true);
      await stage.removePods();
    },
  );

  await t.step(
    "our objects take the place of the reference's, and pods start meanwhile",
    async () => {
      const manifest = await stage.manifests();
      const told = await churn(stage, "over", () => cluster.applyText(manifest));
      fact(`our objects applied over the reference's: ${told}`);
      await assertOurs(stage);
      match(await stage.agentLog(), /Pods of this node are followed/);
    },
  );
  await t.step("objects that Helm has left are replaced", async () => {
    await leaveByHelm(stage);
    await kubectlWith(stage, await stage.manifests(), "replace", "--save-config");
    await stage.rolledOut();
    await assertOurs(stage);
    equal(await isChained(), true);
  });
  await t.step(
    `Helm ${parts["helm-3"].version} takes over what Kuma's release has left`,
    async () => {
      await leaveByHelm(stage);
      // All objects go at once later, and with them the right to ask whether that is meant. Helm would
      // keep Kuma's probe beside one by HTTP.
      const values = stage.values({ "cni.uninstall.whenRefused": "true", "cni.healthPort": "0" });
      await stage.helm(3, "install", "kuma-cni", chart, "--take-ownership", ...values);
      await stage.rolledOut();
      await assertOurs(stage, "exec");
      await stage.start({ name: "by-helm" }, { light: true });
      equal(await stage.isCaptured("by-helm"), true);
    },
  );
  await t.step("helm uninstall leaves the host as it was before Kuma's chart", async () => {
    await stage.removePods();
    await stage.helm(3, "uninstall", "kuma-cni", "--wait", "--timeout=120s");
    await stage.untilInstallerIsGone();
    deepEqual(await stage.hostFiles(node), before);
    await stage.createPlain("after");
    equal(await stage.isCaptured("after"), false);
  });
});

/** Has the reference's objects as Helm leaves them, without kubectl's notes, in place of ours. */
async function leaveByHelm(stage: Stage): Promise<void> {
  const { cluster } = stage;
  await cluster.kubectl(inSystem, "delete", daemonSet);
  await stage.untilInstallerIsGone();
  await kubectlWith(stage, await stage.manifests(), "delete", "--ignore-not-found");
  const items = [...accountObjects(rights.reference), ...objects()];
  await kubectlWith(stage, JSON.stringify({ apiVersion: "v1", kind: "List", items }), "create");
  await stage.rolledOut();
}

async function kubectlWith({ cluster }: Stage, input: string, ...args: string[]): Promise<void> {
  const { code, stderr } = await cluster.tryKubectl([...args, "--filename=-"], input);
  equal(code, 0, `${args.join(" ")}: ${stderr}`);
}

/** Fails unless the DaemonSet's container is what our manifests say, nothing of the reference's in it. */
async function assertOurs({ cluster }: Stage, probe = "httpGet"): Promise<void> {
  const path = "/apis/apps/v1/namespaces/kube-system/daemonsets/kuma-cni-node";
  const { spec } = await cluster.get<{
    spec: {
      template: {
        spec: {
          containers: { command: string[]; args?: string[]; readinessProbe: object }[];
        };
      };
    };
  }>(path);
  const [container] = spec.template.spec.containers;
  deepEqual([container!.command, container!.args ?? []], [["/install-cni"], []]);
  const kinds = ["httpGet", "exec"].filter((kind) => kind in container!.readinessProbe);
  deepEqual(kinds, [probe]);
}
