/**
 * The whole of it in Kubernetes clusters of today: what the manifests and the chart make, pods as the
 * injector writes them with real Envoys as sidecars, and what nodes go through.
 */
import "../support/load_libc.ts";
import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { compiledInstaller, compiledPlugin } from "../support/compiled.ts";
import { parts } from "../../scripts/e2e/parts.ts";
import { type KubernetesVersion, kubernetesVersions } from "./support/cluster.ts";
import { fact, seconds } from "./support/facts.ts";
import { writeImages } from "./support/images.ts";
import { pause } from "./support/machine.ts";
import { Sandboxes } from "./support/sandboxes.ts";
import { meshName } from "./support/sidecar.ts";
import { assertCarried, demo, Stage } from "./support/stage.ts";
import { withProbe, workload } from "./support/workload.ts";
import { injectedPod } from "../support/pods.ts";

/** How long the API server is away: what the restart of a control plane takes. */
const outage = 60_000;

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
  const begin = performance.now();
  await using stage = await Stage.set(version, images, installer);
  fact(`Kubernetes ${version}: the node is ready after ${seconds(performance.now() - begin)}`);
  const { cluster } = stage;
  const node = cluster.nodes[0]!;
  const before = await stage.hostFiles(node);

  await t.step("what install-cni manifests prints is applied and gets ready", async () => {
    await cluster.applyText(await stage.manifests());
    await stage.rolledOut();
    match(await stage.agentLog(), /Pods of this node are followed/);
  });

  const areThere = await t.step(
    "pods of both annotations and both kinds of sidecar are ready",
    async () => {
      const settings = { form: "2.9" } as const;
      await stage.create({ name: "web", ...settings }, { labels: { serves: "web" } });
      await stage.create({ name: "native", form: "3", nativeSidecar: true });
      await stage.create({ name: "native-2-9", ...settings, nativeSidecar: true });
      await stage.create({ name: "client", form: "3" });
      await stage.create({ name: "gateway", gateway: true });
      for (const name of ["web", "native", "native-2-9", "client", "gateway"]) {
        await stage.ready(name);
      }
      await stage.startPlain("plain");
    },
  );
  if (!areThere) return;

  for (const client of ["client", "native", "native-2-9"]) {
    for (const [index, family] of ["IPv4", "IPv6"].entries()) {
      await t.step(
        `${client} asks web at its Service's ${family} address through both`,
        async () => {
          const address = (await stage.serviceAddresses("web"))[index]!;
          assertCarried(await stage.request(client, address), ["outbound", "inbound"]);
        },
      );
    }
  }
  await t.step("a pod outside the mesh reaches web through web's sidecar alone", async () => {
    for (const address of await stage.serviceAddresses("web")) {
      assertCarried(await stage.request("plain", address), ["inbound"]);
    }
  });
  await t.step("a gateway's requests go through its sidecar, and none to it", async () => {
    for (const address of await stage.serviceAddresses("web")) {
      assertCarried(await stage.request("gateway", address), ["outbound", "inbound"]);
    }
    const { status } = await stage.ready("gateway");
    const { podIPs } = status as { podIPs: { ip: string }[] };
    for (const { ip } of podIPs) assertCarried(await stage.request("plain", ip, 8080), []);
  });

  await t.step("DNS of a meshed pod is answered by its sidecar, of another one not", async () => {
    const ask = (pod: string) =>
      stage.exec(pod, ["timeout", "3", "nslookup", meshName.name, "10.96.0.10"]);
    const { stdout } = await ask("client");
    for (const address of [meshName.ipv4, meshName.ipv6]) ok(stdout.includes(address), stdout);
    notEqual((await ask("plain")).code, 0);
  });

  await t.step(
    "kubelet's probes reach the sidecar's port for them, and tell a failure",
    async () => {
      const pod = workload(injectedPod({ name: "probed", namespace: demo }));
      await cluster.apply(withProbe(pod));
      const { status } = await stage.ready("probed");
      const { podIPs } = status as { podIPs: { ip: string }[] };
      for (const { ip } of podIPs) {
        // The sidecar has no such path there; had it come by the inbound port, it would say so.
        const { status, head } = await stage.request("plain", ip, 9001);
        equal(status, "404");
        ok(!head.includes("x-carried-inbound"), head);
      }
      await stage.exec("probed", ["rm", "/www/index.html"]);
      await cluster.until("the pod is not ready", async () => {
        const args = ["-n", demo, "get", "pod", "probed"];
        const path = '-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}';
        return (await cluster.kubectl(...args, path)) === "False";
      });
    },
  );

  await t.step("a pod in a user namespace of its own is captured", async () => {
    await stage.start({ name: "own-users", form: "3", nativeSidecar: true }, {
      userNamespace: true,
      labels: { serves: "shop" },
    });
    const { stdout } = await stage.exec("own-users", ["cat", "/proc/self/uid_map"]);
    notEqual(stdout.trim().split(/\s+/)[1], "0", "The pod must have a user namespace");
    for (const address of await stage.serviceAddresses("web")) {
      assertCarried(await stage.request("own-users", address), ["outbound", "inbound"]);
    }
    for (const address of await stage.serviceAddresses("shop")) {
      assertCarried(await stage.request("client", address), ["outbound", "inbound"]);
    }
  });

  await t.step("kuma-validation passes in both families", async () => {
    const log = await cluster.kubectl("-n", demo, "logs", "client", "-c", "kuma-validation");
    deepEqual(log.trim().split("\n"), ["127.0.0.6 is redirected", "::6 is redirected"]);
  });
  await t.step("kuma-validation fails where the namespace is excluded", async () => {
    const name = "excluded";
    await stage.create({ name, namespace: "kube-system" }, { light: true });
    await cluster.until("the validation has failed", async () => {
      const args = ["-n=kube-system", "logs", name, "-c", "kuma-validation"];
      return (await cluster.tryKubectl(args)).stdout.includes("127.0.0.6 is not redirected");
    });
    await cluster.kubectl("-n=kube-system", "delete", "pod", name, "--grace-period=0", "--force");
  });

  await t.step("kubectl logs has the plugin's decision for each pod", async () => {
    const log = await stage.agentLog();
    for (const name of ["client", "native", "gateway", "own-users"]) {
      match(log, new RegExp(`\tkuma-cni\tPod's traffic is redirected .*"${name}"`));
    }
    match(log, /\tkuma-cni\tPod is skipped.*"plain"/);
  });

  if (isNewest) await lifeOfANode(t, stage);

  await t.step(
    "deleting the DaemonSet, then the rest, leaves the host byte for byte as it was",
    async () => {
      await stage.removePods();
      const manifest = await stage.manifests();
      await cluster.kubectl("-n=kube-system", "delete", "daemonset", "kuma-cni-node");
      await stage.untilInstallerIsGone();
      deepEqual(await stage.hostFiles(node), before);
      const args = ["delete", "--ignore-not-found", "--filename=-"];
      const { code, stderr } = await cluster.tryKubectl(args, manifest);
      equal(code, 0, stderr);
      await stage.create({ name: "after" }, { light: true });
      await cluster.until("a pod that starts now is not captured", async () => {
        const args = ["-n", demo, "logs", "after", "-c", "kuma-validation"];
        return (await cluster.tryKubectl(args)).stdout.includes("127.0.0.6 is not redirected");
      });
    },
  );
}

/** What a node goes through; the demo's pods are there. */
async function lifeOfANode(t: Deno.TestContext, stage: Stage): Promise<void> {
  const { cluster } = stage;
  const node = cluster.nodes[0]!;
  let count = 0;
  /** A pod that starts now. */
  const assertNewPodIsCaptured = async () => {
    const name = `new-${++count}`;
    await stage.start({ name, form: count % 2 === 0 ? "3" : "2.9" }, { light: true });
    equal(await stage.isCaptured(name), true);
  };

  await t.step("no pod fails or is missed while the DaemonSet rolls", async () => {
    await cluster.kubectl("-n=kube-system", "rollout", "restart", "daemonset/kuma-cni-node");
    let rolled = false;
    const rolling = stage.rolledOut().finally(() => rolled = true);
    const names: string[] = [];
    while (!rolled || names.length < 20) {
      const name = `churn-${names.length}`;
      names.push(name);
      await stage.create({ name, form: names.length % 2 === 0 ? "3" : "2.9" }, { light: true });
    }
    await rolling;
    for (const name of names) equal(await stage.isCaptured(name), true, name);
    deepEqual(await stage.failedSandboxes(), []);
    fact(`rolling update: ${names.length} pods started meanwhile, 0 failed, 0 unmeshed`);
    await cluster.kubectl("-n", demo, "delete", "pod", ...names);
  });

  await t.step("a new agent's token takes the place of the old, which is refused", async () => {
    const kubeconfig = node.machine.path("/etc/cni/net.d/ZZZ-kuma-cni-kubeconfig");
    const tokenOf = (text: string) => /"?token"?:\s*"?([\w.-]+)/.exec(text)?.[1];
    const old = tokenOf(await Deno.readTextFile(kubeconfig));
    ok(old !== undefined, "The kubeconfig must have a token");
    await cluster.kubectl("-n=kube-system", "delete", "pod", "-l=app=kuma-cni");
    let now: string | undefined = old;
    await cluster.until("the host has another token", async () => {
      now = tokenOf(await Deno.readTextFile(kubeconfig));
      return now !== old;
    });
    const answer = async (token: string | undefined) => {
      const args = [`--token=${token}`, "-n", demo, "get", "pod", "client", "-o=name"];
      return await cluster.tryKubectl(["--kubeconfig=/dev/null", ...serverFlags(stage), ...args]);
    };
    match((await answer(now)).stdout, /pod\/client/);
    // The API server believes a token that it has seen for ten seconds more.
    await cluster.until("the old token is refused", async () => {
      return /Unauthorized|must be logged in/.test((await answer(old)).stderr);
    });
    await stage.rolledOut();
    await assertNewPodIsCaptured();
  });

  await t.step("pods keep starting after kubelet was restarted", async () => {
    await node.machine.stop("kubelet");
    cluster.startKubelet(node);
    await assertNewPodIsCaptured();
  });
  await t.step("pods keep starting after containerd was restarted", async () => {
    await node.machine.stop("containerd");
    await cluster.startContainerd(node);
    await cluster.untilNodeReady(node.machine.name);
    await assertNewPodIsCaptured();
    const [address = ""] = await stage.serviceAddresses("web");
    assertCarried(await stage.request("client", address), ["outbound", "inbound"]);
  });

  await t.step("sandboxes are made anew while the API server is away", async () => {
    const names = ["patient-1", "patient-2"];
    for (const name of names) await stage.start({ name }, { light: true });
    await node.machine.stop("apiserver");
    const begin = performance.now();
    using sandboxes = new Sandboxes(node.machine);
    for (const [index, name] of names.entries()) {
      // The second one at the end of the outage, when every cache has had its time to go stale.
      await pause(Math.max(0, (index + 1) * outage / names.length - (performance.now() - begin)));
      const first = await sandboxes.idOf(demo, name);
      await sandboxes.stop(first!);
      await cluster.until(`${name} has another sandbox`, async () => {
        const id = await sandboxes.idOf(demo, name);
        return id !== undefined && id !== first;
      });
    }
    fact(`API server away for ${seconds(performance.now() - begin)}`);
    await cluster.startApiServer();
    // The node was taken for lost; the scheduler goes by its taint, for as long as that stands.
    await cluster.until("the node is believed in again", async () => {
      const args = ["get", "node", node.machine.name, "-o=jsonpath={.spec.taints}"];
      return (await cluster.kubectl(...args)).trim() === "";
    }, 180_000);
    for (const name of names) equal(await stage.isCaptured(name), true, name);
    await assertNewPodIsCaptured();
  });

  await t.step("a drained node takes captured pods again", async () => {
    const flags = ["--ignore-daemonsets", "--force", "--delete-emptydir-data", "--timeout=60s"];
    await cluster.kubectl("drain", node.machine.name, ...flags);
    const pods = await cluster.kubectl("-n", demo, "get", "pods", "-o=name");
    equal(pods.trim(), "");
    await cluster.kubectl("uncordon", node.machine.name);
    await assertNewPodIsCaptured();
  });

  await t.step("after a power cut and a reboot every pod comes back captured", async () => {
    await stage.start({ name: "web" }, { labels: { serves: "web" } });
    await stage.start({ name: "client", form: "3", nativeSidecar: true });
    await cluster.reboot(node);
    await cluster.untilNodeReady(node.machine.name);
    const begin = performance.now();
    await cluster.until("the client's requests go through both sidecars again", async () => {
      const replies = [];
      for (const address of await stage.serviceAddresses("web")) {
        replies.push(await stage.request("client", address));
      }
      for (const { status, head } of replies) {
        if (status !== "200") return false;
        // Whatever is answered must have come this way, from the first answer on.
        match(head, /x-carried-outbound/);
      }
      return replies.every(({ head }) => head.includes("x-carried-inbound"));
    }, 120_000);
    fact(
      `after a reboot requests go through both sidecars ${
        seconds(performance.now() - begin)
      } after the node is ready`,
    );
    await stage.rolledOut();
    await assertNewPodIsCaptured();
  });
}

function serverFlags({ cluster }: Stage): string[] {
  return ["--server=https://10.95.0.1:6443"].concat(
    `--certificate-authority=${cluster.first.folder}/authority.crt`,
  );
}
