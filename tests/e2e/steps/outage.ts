/**
 * The API server is away for five minutes: with its agent's memory a node goes on, what nobody on the
 * node knows waits and starts nowhere without its rules, and everything comes back by itself.
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { Agent } from "../support/agent.ts";
import { fact, seconds } from "../support/facts.ts";
import { pause } from "../support/machine.ts";
import { Sandboxes } from "../support/sandboxes.ts";
import { demo, type Stage } from "../support/stage.ts";

/** How long the API server is away, and how much of it the agent that saw it go is there for. */
const whole = 300_000;
const remembering = 210_000;
/** Between two sandboxes that are made anew. */
const interval = 12_000;

const unreachable = 'kuma_cni_degraded{reason="api-unreachable"}';
const known = ["known-1", "known-2", "known-3"];
const plain = "known-plain";
/** In a namespace whose pods are nobody's business. */
const excluded = { namespace: "kube-system", name: "known-excluded" };

/** Adds the steps; each pod of them is gone afterwards. */
export async function apiServerAway(t: Deno.TestContext, stage: Stage): Promise<void> {
  const { cluster } = stage;
  const { machine } = cluster.nodes[0]!;
  using sandboxes = new Sandboxes(machine);
  const agent = new Agent(machine, sandboxes);
  const ledger = machine.path("/etc/cni/net.d/kuma-cni.d/ledger");
  let begin = 0;
  const elapsed = () => performance.now() - begin;

  /** Has a pod's sandbox taken away. @returns The old one's id. */
  const stopSandbox = async (namespace: string, name: string): Promise<string> => {
    const id = await sandboxes.idOf(namespace, name);
    ok(id !== undefined, `Pod "${name}" must have a sandbox`);
    await sandboxes.stop(id);
    const left = [...Deno.readDirSync(ledger)].filter((file) => file.name.startsWith(id));
    deepEqual(left, [], "DEL forgets the sandbox");
    return id;
  };
  const untilAnother = async (namespace: string, name: string, than: string, patience = 60_000) => {
    await cluster.until(`${name} has another sandbox`, async () => {
      const id = await sandboxes.idOf(namespace, name);
      return id !== undefined && id !== than;
    }, patience);
  };
  const assertNodeIsInService = async () => equal(await sandboxes.networkTrouble(), "");

  const isAway = await t.step("without the API server the agent says so everywhere", async () => {
    for (const [index, name] of known.entries()) {
      await stage.start({ name, form: index % 2 === 0 ? "2.9" : "3" }, { light: true });
    }
    await stage.startPlain(plain);
    await stage.start({ ...excluded, gateway: true }, { light: true });
    deepEqual((await agent.doctor()).codes.filter((code) => code === "api-down"), []);
    equal(await agent.metric("kuma_cni_degraded"), 0);
    await machine.stop("apiserver");
    begin = performance.now();
    await cluster.until("the agent has noticed", async () => {
      return await agent.metric(unreachable) === 1;
    }, 20_000);
    fact(`API server away: the agent says so after ${seconds(elapsed())}`);
    await assertAgentTells(agent);
    ok((await agent.metric("kuma_cni_agent_cache_age_seconds") ?? 0) > 0);
    await assertNodeIsInService();
  });
  if (!isAway) return;

  await t.step("pods that the agent knows get new sandboxes, captured, all the while", async () => {
    let made = 0;
    let longest = 0;
    const pods = [...known, plain];
    while (elapsed() < remembering) {
      const next = performance.now() + interval;
      const name = pods[made++ % pods.length]!;
      const started = performance.now();
      await untilAnother(demo, name, await stopSandbox(demo, name));
      longest = Math.max(longest, performance.now() - started);
      equal(await sandboxes.isCaptured(demo, name), name !== plain, name);
      await assertNodeIsInService();
      await pause(Math.max(0, Math.min(next - performance.now(), remembering - elapsed())));
    }
    ok(made >= pods.length, `Only ${made} sandboxes were made`);
    await assertAgentTells(agent);
    fact(
      `API server away: ${made} sandboxes of known pods made anew, the slowest after ` +
        `${seconds(longest)}, 0 unmeshed`,
    );
  });

  let waiting = "";
  let cameBack = false;
  await t.step(
    "of an agent that dies meanwhile pods wait, and none starts without its rules",
    async () => {
      const old = await agent.find();
      await agent.signal("KILL");
      const end = performance.now() + 30_000;
      while (!cameBack && performance.now() < end) {
        const now = await agent.find();
        cameBack = now !== undefined && now.id !== old?.id;
        await pause(200);
      }
      if (cameBack) {
        await cluster.until("it serves", async () => (await agent.readiness()).status === "200");
        await cluster.until("it has noticed", async () => {
          return await agent.metric(unreachable) === 1;
        }, 20_000);
        await assertAgentTells(agent);
        equal(await agent.metric("kuma_cni_agent_cached_pods"), 0);
      } else {
        // Kubelet lets go of a ConfigMap that only a container's environment is made of.
        match(machine.log("kubelet", 400), /failed to sync configmap cache/);
      }
      const told = cameBack
        ? "it is started again"
        : "kubelet, without its ConfigMap, waits with it";
      fact(`API server away: when the agent dies, ${told}`);
      // Nobody needs to be asked about this one.
      await untilAnother(
        excluded.namespace,
        excluded.name,
        await stopSandbox(excluded.namespace, excluded.name),
      );
      equal(await sandboxes.isCaptured(excluded.namespace, excluded.name), false);
      waiting = await stopSandbox(demo, known[0]!);
      // Longer than the plugin asks, so that kubelet has had its refusal and tries again.
      while (elapsed() < whole) {
        const id = await sandboxes.idOf(demo, known[0]!);
        equal(id, undefined, "No sandbox may start while nobody can say what the pod is");
        await assertNodeIsInService();
        await pause(500);
      }
    },
  );

  await t.step("when it is back all catches up by itself", async () => {
    const away = elapsed();
    const back = performance.now();
    await cluster.startApiServer();
    fact(`API server away for ${seconds(away)}`);
    ok(away >= whole);
    const since = () => seconds(performance.now() - back);
    await untilAnother(demo, known[0]!, waiting, 90_000);
    equal(await sandboxes.isCaptured(demo, known[0]!), true);
    fact(`the pod that had to wait has another sandbox ${since()} after the API server's start`);
    await cluster.until("the agent is at ease", async () => {
      return await agent.find() !== undefined && await agent.metric(unreachable) === undefined &&
        await agent.metric("kuma_cni_agent_cache_age_seconds") === 0;
    }, 180_000);
    fact(`the agent follows its pods again ${since()} after it`);
    const { status, reason } = await agent.readiness();
    equal(status, "200");
    ok(!reason.includes("API server"), reason);
    const { degraded } = JSON.parse((await agent.run("check", "-o", "json")).stdout);
    ok(!degraded.join().includes("API server"), degraded.join());
    ok(!(await agent.doctor()).codes.includes("api-down"));
    ok((await agent.metric("kuma_cni_agent_cached_pods") ?? 0) > 0);
    if (cameBack) {
      match(await stage.agentLog(), /Over after \d+ s: The API server cannot be reached/);
    }
    // The node was taken for lost; the scheduler goes by its taint, for as long as that stands.
    await cluster.until("the node is believed in again", async () => {
      const args = ["get", "node", machine.name, "-o=jsonpath={.spec.taints}"];
      return (await cluster.kubectl(...args)).trim() === "";
    }, 180_000);
    for (const name of known) equal(await stage.isCaptured(name), true, name);
    await stage.start({ name: "fresh" }, { light: true });
    equal(await stage.isCaptured("fresh"), true);
    fact(`a new pod is ready ${since()} after it; kubelet and scheduler come back by and by, too`);
    const args = ["-n", demo, "delete", "pod", "--grace-period=1", ...known, plain, "fresh"];
    await cluster.kubectl(...args);
    await cluster.kubectl("-n", excluded.namespace, "delete", "pod", excluded.name);
  });
}

/** Fails unless everybody who asks the agent hears that the API server is away, and it is ready. */
async function assertAgentTells(agent: Agent): Promise<void> {
  const { status, reason } = await agent.readiness();
  equal(status, "200", "A restart would not help, so the agent is not made unready");
  match(reason, /but: The API server cannot be reached/);
  const { degraded } = JSON.parse((await agent.run("check", "-o", "json")).stdout);
  match(degraded.join(), /API server cannot be reached/);
  const { codes, exitCode } = await agent.doctor();
  ok(codes.includes("api-down"), `The doctor finds ${codes}`);
  equal(exitCode, 2);
}
