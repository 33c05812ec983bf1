/**
 * The main job, end to end: the compiled plugin is called as containerd calls it, and real packets
 * of a pod are followed before and after, IPv4 and IPv6.
 */
import assert from "node:assert/strict";
import { listAddresses } from "../src/linux/addresses.ts";
import { withNetworkNamespace } from "../src/linux/network_namespace.ts";
import { Bed } from "./support/bed.ts";
import { Cluster } from "./support/cluster.ts";
import { pluginOfRuntime } from "./support/compiled.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import { attempt, type PodForm, type Probe, probesOf } from "./support/probes.ts";
import { bridgeResult, newContainerId, type PluginAnswer } from "./support/runtime.ts";
import { validateRedirection } from "./support/validator.ts";

await pluginOfRuntime();

const families = ["ipv4", "ipv6"] as const;

/** A pod of each form, as the injector writes it; `bare` has the rules' own defaults. */
function podOf(form: PodForm): PodObject {
  if (form !== "bare") return injectedPod({ form, name: `app-${form}` });
  return injectedPod({
    form: "3",
    name: "app-bare",
    annotations: { "traffic.kuma.io/transparent-proxy-config": "{cniMode: true}" },
  });
}

/** The attempts of both families, with where each must end. */
function expectations(form: PodForm, when: "before" | "after"): [Probe, string][] {
  return families.flatMap((family) => probesOf(family, form))
    .map((probe) => [probe, probe[when]]);
}

async function assertTraffic(bed: Bed, expected: readonly [Probe, string][]): Promise<void> {
  const name = (probe: Probe): string => `${probe.who} ${probe.kind} to ${probe.to}`;
  const actual: string[] = [];
  // One after the other: DNS after the sidecar's own DNS is one of the cases.
  for (const [probe] of expected) {
    actual.push(`${name(probe)}: ${await attempt(bed, probe)}`);
  }
  assert.deepEqual(actual, expected.map(([probe, end]) => `${name(probe)}: ${end}`));
}

function assertSuccess(answer: PluginAnswer): void {
  assert.equal(answer.code, 0, `exit code ${answer.code}: ${answer.stdout}${answer.stderr}`);
}

/** The ruleset of a namespace as the `nft` tool lists it. */
function nft(netns: string, ...args: string[]): string {
  const output = withNetworkNamespace(
    netns,
    () => new Deno.Command("nft", { args, stdout: "piped", stderr: "piped" }).outputSync(),
  );
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  assert.ok(output.success, `nft ${args.join(" ")}: ${text(output.stderr)}`);
  return text(output.stdout);
}

for (const form of ["2.9", "3", "bare"] as const) {
  Deno.test(`the traffic of a pod is captured by ADD and not before (form ${form})`, async () => {
    const pod = podOf(form);
    await using cluster = await Cluster.start(await pluginOfRuntime(), [pod]);
    await using bed = await Bed.create();
    await assertTraffic(bed, expectations(form, "before"));

    const prevResult = bridgeResult(bed.podNetns, { ipv4: "10.93.0.2", gateway4: "10.93.0.1" });
    const call = { containerId: newContainerId(), netns: bed.podNetns, prevResult };
    const added = await cluster.call("ADD", pod, call);
    assertSuccess(added);
    assert.deepEqual(JSON.parse(added.stdout), prevResult);
    await assertTraffic(bed, expectations(form, "after"));

    const checked = await cluster.call("CHECK", pod, call);
    assertSuccess(checked);
    assert.equal(checked.stdout, "");
  });
}

Deno.test("an IPv4-only mesh leaves IPv6 alone", async () => {
  const pod = injectedPod({ ipFamilyMode: "ipv4" });
  await using cluster = await Cluster.start(await pluginOfRuntime(), [pod]);
  await using bed = await Bed.create();
  const call = { containerId: newContainerId(), netns: bed.podNetns };
  assertSuccess(await cluster.call("ADD", pod, call));
  await assertTraffic(bed, [
    ...probesOf("ipv4", "2.9").map((p): [Probe, string] => [p, p.after]),
    ...probesOf("ipv6", "2.9").map((p): [Probe, string] => [p, p.before]),
  ]);
  assert.doesNotMatch(nft(bed.podNetns, "list", "ruleset"), /ip6|ipv6|inet/);
  const addresses = withNetworkNamespace(bed.podNetns, () => listAddresses("ipv6"));
  assert.ok(!addresses.some(({ address }) => address === "::6"), "::6 was added");
  assertSuccess(await cluster.call("CHECK", pod, call));
});

Deno.test("a pod without IPv6 is captured over IPv4", async () => {
  const pod = injectedPod();
  await using cluster = await Cluster.start(await pluginOfRuntime(), [pod]);
  await using bed = await Bed.create({ ipv6: false });
  const call = { containerId: newContainerId(), netns: bed.podNetns };
  assertSuccess(await cluster.call("ADD", pod, call));
  await assertTraffic(
    bed,
    probesOf("ipv4", "2.9").map((p): [Probe, string] => [p, p.after]),
  );
  assertSuccess(await cluster.call("CHECK", pod, call));
});

Deno.test("a pod outside the mesh keeps its traffic and its namespace untouched", async () => {
  const pod = plainPod();
  await using cluster = await Cluster.start(await pluginOfRuntime(), [pod]);
  await using bed = await Bed.create({ who: ["app", "peer", "root"] });
  const before = nft(bed.podNetns, "list", "ruleset");
  const prevResult = bridgeResult(bed.podNetns, { ipv4: "10.93.0.2", gateway4: "10.93.0.1" });
  const call = { containerId: newContainerId(), netns: bed.podNetns, prevResult };
  const added = await cluster.call("ADD", pod, call);
  assertSuccess(added);
  assert.deepEqual(JSON.parse(added.stdout), prevResult);
  assert.equal(nft(bed.podNetns, "list", "ruleset"), before);
  const probes = families.flatMap((family) => probesOf(family, "2.9"))
    .filter(({ who, before }) => who !== "sidecar" && !before.includes("sidecar"));
  await assertTraffic(bed, probes.map((p) => [p, p.before]));
});

Deno.test("ADD twice gives the same rules, CHECK notices when one is gone, ADD heals", async () => {
  const pod = injectedPod();
  await using cluster = await Cluster.start(await pluginOfRuntime(), [pod]);
  await using bed = await Bed.create({ who: [] });
  const call = { containerId: newContainerId(), netns: bed.podNetns };
  const list = (): string => nft(bed.podNetns, "-n", "list", "ruleset");

  assertSuccess(await cluster.call("ADD", pod, call));
  const once = list();
  assert.match(once, /KUMA_MESH_OUTBOUND/);
  assertSuccess(await cluster.call("ADD", pod, call));
  assert.equal(list(), once);
  assertSuccess(await cluster.call("CHECK", pod, call));

  const rules = JSON.parse(nft(bed.podNetns, "-j", "list", "ruleset")).nftables
    .filter((object: { rule?: unknown }) => object.rule !== undefined)
    .map((object: { rule: Record<string, unknown> }) => object.rule);
  assert.ok(rules.length > 10, `only ${rules.length} rules`);
  const victim = rules[Math.floor(Math.random() * rules.length)];
  const { family, table, chain, handle } = victim;
  nft(bed.podNetns, "delete", "rule", family, table, chain, "handle", String(handle));
  const broken = await cluster.call("CHECK", pod, call);
  assert.equal(broken.code, 1, `CHECK passed without ${JSON.stringify(victim)}`);
  const error = JSON.parse(broken.stdout);
  assert.equal(typeof error.code, "number");
  assert.match(`${error.msg} ${error.details}`, new RegExp(chain));

  assertSuccess(await cluster.call("ADD", pod, call));
  assert.equal(list(), once);
  assertSuccess(await cluster.call("CHECK", pod, call));
});

Deno.test("DEL succeeds five times, in every form that runtimes use", async () => {
  const pod = injectedPod();
  await using cluster = await Cluster.start(await pluginOfRuntime(), [pod]);
  const containerId = newContainerId();
  let netns: string;
  {
    await using bed = await Bed.create({ who: [] });
    netns = bed.podNetns;
    const prevResult = bridgeResult(netns, { ipv4: "10.93.0.2", gateway4: "10.93.0.1" });
    assertSuccess(await cluster.call("ADD", pod, { containerId, netns, prevResult }));
    const requests = cluster.api.requests.length;
    assertSuccess(await cluster.call("DEL", pod, { containerId, netns, prevResult }));
    assertSuccess(await cluster.call("DEL", pod, { containerId, netns }));
    assertSuccess(await cluster.call("DEL", pod, { containerId, netns: "", prevResult }));
    assert.equal(cluster.api.requests.length, requests, "DEL asked the API server");
  }
  assertSuccess(await cluster.call("DEL", pod, { containerId, netns })); // The namespace is gone.
  assertSuccess(await cluster.call("DEL", pod, { containerId, netns: "" }));
});

Deno.test("the check of the init container kuma-validation passes with rules only", async () => {
  const pod = injectedPod();
  await using cluster = await Cluster.start(await pluginOfRuntime(), [pod]);
  await using bed = await Bed.create({ who: [] });
  const validate = (): string[] =>
    withNetworkNamespace(bed.podNetns, () => validateRedirection({ families }));
  assert.deepEqual(validate().map((failure) => failure.slice(0, 4)), ["ipv4", "ipv6"]);
  const call = { containerId: newContainerId(), netns: bed.podNetns };
  assertSuccess(await cluster.call("ADD", pod, call));
  assert.deepEqual(validate(), []);
});
