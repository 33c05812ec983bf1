/**
 * The chart by the real Helm with the controllers of our own, in clusters of today: a node that comes
 * while its agent is late, attachments, and the way back.
 */
import "../support/load_libc.ts";
import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { attachmentDefinition } from "../support/controller_bed.ts";
import { compiledInstaller, compiledPlugin } from "../support/compiled.ts";
import { parts } from "../../scripts/e2e/parts.ts";
import { type ClusterNode, type KubernetesVersion, kubernetesVersions } from "./support/cluster.ts";
import { fact, seconds } from "./support/facts.ts";
import { writeImages } from "./support/images.ts";
import { pause } from "./support/machine.ts";
import { chart, demo, Stage } from "./support/stage.ts";
import { churn } from "./steps/churn.ts";
import { VERSION } from "../../src/version.ts";

/** As in the reference's own test of this race. */
const lateness = 40;
const release = "kuma-cni";
/** Of a node's taint while its plugin is not there. */
const taintKey = "NodeReadiness";
const attachments = `/apis/k8s.cni.cncf.io/v1/namespaces/${demo}/network-attachment-definitions`;

const plugin = await compiledPlugin();
const installer = await compiledInstaller();
const images = await writeImages(
  await Deno.makeTempDir({ prefix: "images-" }),
  plugin.slice(0, plugin.lastIndexOf("/")),
);
fact(`kubectl ${parts.kubectl.version}, Helm ${parts["helm-3"].version}`);
fact(`containerd ${parts.containerd.version}`);

for (const version of kubernetesVersions) {
  Deno.test(`Kubernetes ${version}, by Helm`, (t) => byHelm(t, version));
}

async function byHelm(t: Deno.TestContext, version: KubernetesVersion): Promise<void> {
  // The older Helm meets the older Kubernetes, as in clusters that are seldom touched.
  const helm = version === kubernetesVersions[0] ? 4 : 3;
  await using stage = await Stage.set(version, images, installer);
  const { cluster } = stage;
  const first = cluster.nodes[0]!;
  const before = await stage.hostFiles(first);
  const values = (delay: number) =>
    stage.values({
      "cni.controller.enabled": "true",
      "cni.delayStartupSeconds": String(delay),
      // All objects go at once, and with them the right to ask whether that is meant.
      "cni.uninstall.whenRefused": "true",
    });

  const isInstalled = await t.step(
    `Helm ${helm} installs the chart with controllers`,
    async () => {
      const debugging = ["--set", "cni.logLevel=debug"];
      await stage.helm(helm, "install", release, await previousChart(), ...values(0), ...debugging);
      await stage.rolledOut();
      await stage.rolledOut("deployment/kuma-cni-controller");
      await cluster.until("the node has no taint", async () => !await isTainted(stage, first));
      await stage.start({ name: "first" }, { light: true });
      equal(await stage.isCaptured("first"), true);
    },
  );
  if (!isInstalled) return;

  const asInstalled = await daemonSetOf(stage);
  const logLevel = async () => /"log_level": *"(\w+)"/.exec(await stage.conflist(first))?.[1];
  await t.step("an upgrade keeps the values of the chart before, and pods start", async () => {
    const told = await churn(stage, "upgrade", async () => {
      const change = ["--reset-then-reuse-values", "--set", "cni.logFormat=json"];
      await stage.helm(helm, "upgrade", release, chart, ...change);
    });
    fact(`Kubernetes ${version}, Helm ${helm}: upgrade: ${told}`);
    const { labels, template } = await daemonSetOf(stage);
    equal(labels["helm.sh/chart"], `kuma-cni-${VERSION}`);
    match(JSON.stringify(template), /"name":"CNI_LOG_LEVEL","value":"debug"/);
    match(JSON.stringify(template), /"name":"CNI_LOG_FORMAT","value":"json"/);
    equal(await logLevel(), "debug");
  });
  await t.step("a rollback brings back what was there, and pods start", async () => {
    const told = await churn(stage, "rollback", async () => {
      await stage.helm(helm, "rollback", release, "1");
    });
    fact(`Kubernetes ${version}, Helm ${helm}: rollback: ${told}`);
    deepEqual(await daemonSetOf(stage), asInstalled);
    await stage.rolledOut("deployment/kuma-cni-controller");
    equal(await isTainted(stage, first), false);
  });

  let second: ClusterNode | undefined;
  let fresh: Record<string, string> = {};
  await t.step(`on a new node whose agent is ${lateness} s late a pinned pod waits`, async () => {
    await stage.helm(helm, "upgrade", release, chart, ...values(lateness));
    await stage.rolledOut("daemonset/kuma-cni-node", 120);
    await stage.create({ name: "pinned" }, { node: "node2", light: true });
    second = await cluster.addNode();
    fresh = await stage.hostFiles(second);
    const begin = performance.now();
    await cluster.until("the new node is tainted", () => isTainted(stage, second!));
    const tainted = performance.now() - begin;
    await cluster.untilNodeReady("node2");
    // All the while that the agent sleeps, nothing is started there.
    const end = performance.now() + (lateness - 10) * 1000;
    while (performance.now() < end) {
      const pod = await cluster.get<{ spec: { nodeName?: string } }>(
        `/api/v1/namespaces/${demo}/pods/pinned`,
      );
      equal(pod.spec.nodeName, undefined, "The pod was let onto a node without the plugin");
      await pause(1000);
    }
    fact(
      `Kubernetes ${version}: new node tainted ${seconds(tainted)} after its kubelet was started`,
    );
  });
  await t.step("the pinned pod ends captured, as soon as the agent is ready", async () => {
    await cluster.until(
      "the new node is free",
      async () => !await isTainted(stage, second!),
      90_000,
    );
    const begin = performance.now();
    await stage.ready("pinned");
    fact(
      `Kubernetes ${version}: pinned pod ready ${seconds(performance.now() - begin)} after that`,
    );
    equal(await stage.isCaptured("pinned"), true);
  });
  await t.step("events of the node say why it was tainted", async () => {
    const events = await cluster.kubectl(
      "get",
      "events",
      "--field-selector=involvedObject.name=node2",
    );
    match(events, /CniNotReady/);
  });

  await t.step("an attachment comes and goes with the label of its namespace", async () => {
    await cluster.apply(attachmentDefinition());
    await cluster.kubectl("label", "namespace", demo, "kuma.io/sidecar-injection=disabled");
    const path = `${attachments}/kuma-cni`;
    const isThere = async () => (await cluster.tryKubectl(["get", `--raw=${path}`])).code === 0;
    await cluster.until("there is an attachment", isThere);
    await cluster.kubectl("label", "namespace", demo, "kuma.io/sidecar-injection-");
    await cluster.until("the attachment is gone", async () => !await isThere());
  });

  await t.step("a deleted leader's work is taken over, and the node stays free", async () => {
    const leader = async () =>
      (await cluster.get<{ spec: { holderIdentity: string } }>(
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kuma-cni-controller",
      )).spec.holderIdentity;
    const old = await leader();
    const pods = (await cluster.kubectl(
      ...["-n=kube-system", "get", "pods", "-o=name", "-l=app=kuma-cni-controller"],
    )).trim().split("\n").map((name) => name.replace("pod/", ""));
    const pod = pods.find((name) => old.includes(name));
    ok(pod !== undefined, `The Lease must name one of ${pods}, names ${old}`);
    await cluster.kubectl("-n=kube-system", "delete", "pod", pod, "--grace-period=0", "--force");
    const begin = performance.now();
    await cluster.until("another replica leads", async () => await leader() !== old, 30_000);
    fact(
      `Kubernetes ${version}: taken over ${
        seconds(performance.now() - begin)
      } after the leader's pod was deleted`,
    );
    equal(await isTainted(stage, second!), false);
  });

  await t.step(
    "helm uninstall takes the taints away and leaves both hosts as they were",
    async () => {
      await stage.removePods();
      // A taint that nobody would take away later, as after a controller that died.
      const controller = "deployment/kuma-cni-controller";
      await cluster.kubectl("-n=kube-system", "scale", controller, "--replicas=0");
      await stage.rolledOut(controller);
      await cluster.kubectl("taint", "node", "node2", `${taintKey}=:NoSchedule`);
      await stage.helm(helm, "uninstall", release, "--timeout=120s");
      await stage.untilInstallerIsGone();
      for (const node of [first, second!]) equal(await isTainted(stage, node), false);
      deepEqual(await stage.hostFiles(first), before);
      deepEqual(await stage.hostFiles(second!), fresh);
    },
  );
}

/** A copy of the chart that has another version, as the one before. */
async function previousChart(): Promise<string> {
  const folder = await Deno.makeTempDir({ prefix: "chart-" });
  const { success } = await new Deno.Command("cp", { args: ["-r", `${chart}/.`, folder] }).output();
  ok(success, `Cannot copy ${chart}`);
  const path = `${folder}/Chart.yaml`;
  const text = await Deno.readTextFile(path);
  const changed = text.replace(/^version: .*$/m, "version: 0.0.1");
  notEqual(changed, text);
  await Deno.writeTextFile(path, changed);
  return folder;
}

/** What Helm has a say in: labels and template. */
async function daemonSetOf({ cluster }: Stage) {
  const path = "/apis/apps/v1/namespaces/kube-system/daemonsets/kuma-cni-node";
  const { metadata, spec } = await cluster.get<{
    metadata: { labels: Record<string, string> };
    spec: { template: unknown };
  }>(path);
  return { labels: metadata.labels, template: spec.template };
}

async function isTainted({ cluster }: Stage, { machine }: ClusterNode): Promise<boolean> {
  const args = ["get", "node", machine.name, "-o=jsonpath={.spec.taints[*].key}"];
  return (await cluster.tryKubectl(args)).stdout.split(" ").includes(taintKey);
}
