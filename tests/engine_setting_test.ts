/** The setting `engine` of the network configuration, with the compiled plugin and real packets. */
import assert from "node:assert/strict";
import { withNetworkNamespace } from "../src/linux/network_namespace.ts";
import { Bed } from "./support/bed.ts";
import { Cluster } from "./support/cluster.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { BACKENDS, saved, tool, toolName } from "./support/iptables.ts";
import { injectedPod } from "./support/pods.ts";
import { attempt, probesOf } from "./support/probes.ts";
import { newContainerId } from "./support/runtime.ts";

const families = ["ipv4", "ipv6"] as const;

async function assertCaptured(bed: Bed): Promise<void> {
  const probes = families.flatMap((family) => probesOf(family, "2.9"));
  const name = ({ who, kind, to }: typeof probes[number]) => `${who} ${kind} to ${to}: `;
  const actual: string[] = [];
  for (const probe of probes) actual.push(name(probe) + await attempt(bed, probe));
  assert.deepEqual(actual, probes.map((probe) => name(probe) + probe.after));
}

for (const backend of BACKENDS) {
  Deno.test(`engine iptables, ${backend} tools: ADD captures, CHECK agrees, another engine replaces`, async () => {
    const pod = injectedPod();
    await using cluster = await Cluster.start(await compiledPlugin(), [pod]);
    await using bed = await Bed.create();
    const call = (command: "ADD" | "CHECK", engine: string) =>
      cluster.call(command, pod, {
        containerId: "e1",
        netns: bed.podNetns,
        network: { engine },
      });
    const ours = () =>
      withNetworkNamespace(
        bed.podNetns,
        () => /KUMA_MESH/.test(saved("ipv4", backend)) && /KUMA_MESH/.test(saved("ipv6", backend)),
      );
    const native = () =>
      withNetworkNamespace(
        bed.podNetns,
        () => tool("nft", ["list", "tables"]).includes("kuma_mesh"),
      );
    // A rule in the backend's tables is what makes the engine use that backend.
    withNetworkNamespace(bed.podNetns, () => {
      tool(toolName("ipv4", backend), ["-A", "INPUT", "-p", "tcp", "--dport", "4", "-j", "DROP"]);
    });

    for (
      const [engine, iptables] of [["iptables", true], ["nftables", false], ["iptables", true]]
    ) {
      const added = await call("ADD", String(engine));
      assert.equal(added.code, 0, added.stdout + added.stderr);
      assert.deepEqual([ours(), native()], [iptables, !iptables]);
      const checked = await call("CHECK", String(engine));
      assert.equal(checked.code, 0, checked.stdout);
      if (iptables) await assertCaptured(bed);
    }

    withNetworkNamespace(bed.podNetns, () => {
      tool(toolName("ipv6", backend), ["-t", "nat", "-F", "KUMA_MESH_OUTBOUND"]);
    });
    const broken = await call("CHECK", "iptables");
    assert.equal(broken.code, 1);
    assert.match(broken.stdout, /ip6 nat KUMA_MESH_OUTBOUND rule 1/);
  });
}

Deno.test("engine iptables without tools: ADD fails and names the fix, nothing is left", async () => {
  const pod = injectedPod();
  await using cluster = await Cluster.start(await compiledPlugin(), [pod]);
  await using bed = await Bed.create({ who: [] });
  // A root folder of its own in which the system's folders are empty.
  const script = "for d in /usr/sbin /usr/bin; do mount -t tmpfs none $d; done; exec $0";
  const child = new Deno.Command("unshare", {
    args: ["--mount", "--propagation", "private", "/bin/bash", "-c", script, cluster.plugin],
    clearEnv: true,
    env: {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      CNI_COMMAND: "ADD",
      CNI_CONTAINERID: newContainerId(),
      CNI_NETNS: bed.podNetns,
      CNI_IFNAME: "eth0",
      CNI_PATH: "/opt/cni/bin",
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=${pod.metadata.namespace};` +
        `K8S_POD_NAME=${pod.metadata.name};K8S_POD_UID=${pod.metadata.uid}`,
    },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const stdin = child.stdin.getWriter();
  await stdin.write(
    new TextEncoder().encode(JSON.stringify({ ...cluster.network, engine: "iptables" })),
  );
  await stdin.close();
  const { code, stdout } = await child.output();
  const text = new TextDecoder().decode(stdout);
  assert.equal(code, 1, text);
  assert.match(
    text,
    /No usable .*iptables-restore.*; install the package .*iptables.*, or set the/,
  );
  withNetworkNamespace(bed.podNetns, () => {
    assert.equal(tool("nft", ["list", "tables"]), "");
  });
});
