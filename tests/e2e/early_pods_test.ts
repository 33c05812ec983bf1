/**
 * Pods that a real kubelet starts before the plugin is there, without anything that keeps them away:
 * they wait in their validation until the node agent has given them their rules.
 */
import "../support/load_libc.ts";
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { compiledInstaller, compiledPlugin } from "../support/compiled.ts";
import { injectedPod, type PodObject } from "../support/pods.ts";
import { parts } from "../../scripts/e2e/parts.ts";
import { kubernetesVersions } from "./support/cluster.ts";
import { fact, seconds } from "./support/facts.ts";
import { writeImages } from "./support/images.ts";
import { assertCarried, demo, Stage } from "./support/stage.ts";
import { workload } from "./support/workload.ts";

const plugin = await compiledPlugin();
const installer = await compiledInstaller();
const images = await writeImages(
  await Deno.makeTempDir({ prefix: "images-" }),
  plugin.slice(0, plugin.lastIndexOf("/")),
);
const [version] = kubernetesVersions;
const { containerd, runc, envoy } = parts;
fact(`containerd ${containerd.version}, runc ${runc.version}, Envoy ${envoy.version}`);

/** A pod whose sidecar becomes ready without its rules, as nothing asks for them. */
function serving(name: string): PodObject {
  const { metadata, spec } = injectedPod({ name, namespace: demo });
  return workload({ metadata, spec: { ...spec, initContainers: [] } });
}

/** Messages of the Events about a pod with a reason, as kubectl shows them. */
async function eventsOf({ cluster }: Stage, name: string, reason: string): Promise<string[]> {
  const selector = `involvedObject.name=${name},reason=${reason}`;
  const path = '-o=jsonpath={range .items[*]}{.message}{"\\n"}{end}';
  const text = await cluster.kubectl(
    "-n",
    demo,
    "get",
    "events",
    "--field-selector",
    selector,
    path,
  );
  return text.split("\n").filter((line) => line !== "");
}

Deno.test(`Kubernetes ${version}: pods are there before the plugin`, async (t) => {
  await using stage = await Stage.set(version!, images, installer);
  const { cluster } = stage;
  const early = ["web", "client", "native"];

  const wait = await t.step(
    "their validation waits for rules, and one serves without",
    async () => {
      await stage.create({ name: "web" }, { labels: { serves: "web" } });
      await stage.create({ name: "client", form: "3" });
      await stage.create({ name: "native", form: "3", nativeSidecar: true });
      await cluster.apply(serving("serving"));
      for (const name of early) {
        await cluster.until(`the validation of "${name}" has begun`, async () => {
          const args = ["-n", demo, "logs", name, "-c", "kuma-validation"];
          return (await cluster.tryKubectl(args)).stdout.includes("127.0.0.6 is not redirected");
        }, 120_000);
      }
      await stage.ready("serving");
    },
  );
  if (!wait) return;

  const isRepaired = await t.step(
    "the agent gives those that wait their rules, and kubectl shows that",
    async () => {
      const begin = performance.now();
      await cluster.applyText(await stage.manifests({ "cni.repair.earlyPods": "waiting" }));
      await stage.rolledOut();
      for (const name of early) {
        await cluster.until(
          `"${name}" has its Event`,
          async () => (await eventsOf(stage, name, "Repaired")).length === 1,
        );
        const [message] = await eventsOf(stage, name, "Repaired");
        match(message!, /^Pod started without its rules and was repaired in \d+ ms$/);
        fact(`${name}: ${message}`);
      }
      for (const name of early) await stage.ready(name);
      fact(`ready ${seconds(performance.now() - begin)} after the manifests`);
    },
  );
  if (!isRepaired) return;

  await t.step("no application has started before", async () => {
    const log = await stage.agentLog();
    for (const name of early) {
      const repaired = log.split("\n").find((line) =>
        line.includes("was repaired in") && line.includes(`"${name}"`)
      );
      const { status } = await stage.ready(name);
      const { containerStatuses } = status as {
        containerStatuses: { name: string; state: { running: { startedAt: string } } }[];
      };
      const app = containerStatuses.find((container) => container.name === "app")!;
      // The API tells whole seconds.
      const second = repaired!.slice(0, "2026-01-01T00:00:00".length);
      ok(app.state.running.startedAt >= `${second}Z`, `${app.state.running.startedAt} ${repaired}`);
    }
  });

  await t.step("requests go through both sidecars, in both families", async () => {
    for (const address of await stage.serviceAddresses("web")) {
      for (const name of ["client", "native"]) {
        assertCarried(await stage.request(name, address), ["outbound", "inbound"]);
      }
    }
  });

  await t.step("the pod whose sidecar serves already is only told of", async () => {
    await cluster.until(
      "it has its Event",
      async () => (await eventsOf(stage, "serving", "NotCaptured")).length > 0,
    );
    deepEqual(await eventsOf(stage, "serving", "Repaired"), []);
    const [message] = await eventsOf(stage, "serving", "NotCaptured");
    match(message!, /its sidecar serves already, so it is left as it is/);
    for (const address of await stage.serviceAddresses("web")) {
      // Nothing sends what it asks to its sidecar; web's own takes it.
      assertCarried(await stage.request("serving", address), ["inbound"]);
    }
  });

  await t.step("install-cni pods knows each of them", async () => {
    const args = ["-n=kube-system", "exec", "daemonset/kuma-cni-node", "--"];
    const { stdout } = await cluster.tryKubectl([...args, "/install-cni", "pods", "-o", "json"]);
    const { pods } = JSON.parse(stdout) as { pods: { name: string; meshed: string }[] };
    const meshed = (name: string) => pods.find((row) => row.name === name)?.meshed;
    deepEqual(early.map(meshed), early.map(() => "yes"));
    equal(meshed("serving"), "unknown");
  });
});
