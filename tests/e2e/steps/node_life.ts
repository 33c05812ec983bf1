/** What a node goes through while pods start on it: updates of its agent, restarts, a power cut. */
import { equal, match, notEqual } from "node:assert/strict";
import { injectedPod } from "../../support/pods.ts";
import { fact, seconds } from "../support/facts.ts";
import { hostToken } from "../support/host_token.ts";
import { churn } from "./churn.ts";
import { assertCarried, demo, isRefused, type Stage } from "../support/stage.ts";
import { workload } from "../support/workload.ts";

/** Adds the steps; web, client and others of the demo are there, and are gone afterwards. */
export async function lifeOfANode(t: Deno.TestContext, stage: Stage): Promise<void> {
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
    const told = await churn(stage, "churn", async () => {
      await cluster.kubectl("-n=kube-system", "rollout", "restart", "daemonset/kuma-cni-node");
    });
    fact(`rolling update: ${told}`);
  });

  await t.step("a new agent's token takes the place of the old, which is refused", async () => {
    const old = await hostToken(node.machine);
    await cluster.kubectl("-n=kube-system", "delete", "pod", "-l=app=kuma-cni");
    let now = old;
    await cluster.until("the host has the token of another pod", async () => {
      now = await hostToken(node.machine);
      return now.pod !== old.pod;
    });
    match((await stage.askWith(now.text)).stdout, /pod\/client/);
    // The API server believes a token that it has seen for ten seconds more.
    await cluster.until("the old token is refused", async () => {
      return isRefused(await stage.askWith(old.text));
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

/** A pod that kubelet makes of a file: what the API server has of it is a mirror with another UID. */
export async function staticPod(t: Deno.TestContext, stage: Stage): Promise<void> {
  const { cluster } = stage;
  const machine = cluster.first;
  await t.step("a static pod is known by its manifest's hash", async () => {
    const pod = workload(injectedPod({ name: "static", namespace: demo }), { light: true });
    const manifest = `${machine.folder}/static/static.json`;
    await Deno.writeTextFile(manifest, JSON.stringify(pod));
    const name = `static-${machine.name}`;
    const { metadata } = await stage.ready(name);
    notEqual(metadata.annotations?.["kubernetes.io/config.hash"], metadata.uid);
    equal(await stage.isCaptured(name), true);
    await Deno.remove(manifest);
    await cluster.until("it is gone", async () => {
      return (await cluster.tryKubectl(["-n", demo, "get", "pod", name])).code !== 0;
    });
  });
}
