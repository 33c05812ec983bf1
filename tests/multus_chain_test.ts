/**
 * Multus' auxiliary chain, OpenShift's way in without attachment and annotation, as the platform
 * `openshift --auxiliary-chain` uses it: what the manifests say, what install-cni then writes, and what
 * Multus sends of that (multus-cni 4.2.1, `pkg/multus/multus.go`, `cmd/passthru-cni`).
 */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { manifestObjects } from "../installer/manifests/objects.ts";
import { platformRow, treeOfRow } from "../installer/manifests/platforms.ts";
import { memberAt, resolveValues } from "../installer/manifests/values.ts";
import { withNetworkNamespace } from "../src/linux/network_namespace.ts";
import { Bed } from "./support/bed.ts";
import { Cluster, referenceOf } from "./support/cluster.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { InstallerHost } from "./support/installer_host.ts";
import { tool } from "./support/iptables.ts";
import { injectedPod } from "./support/pods.ts";
import { attempt, probesOf } from "./support/probes.ts";
import { callPlugin, multusArgs, newContainerId, type PluginAnswer } from "./support/runtime.ts";

/** The objects of the platform. */
function objects() {
  const row = platformRow("openshift", { auxiliaryChain: true });
  return manifestObjects(resolveValues(treeOfRow(row)));
}

/** The environment of install-cni's container, with the plugin's configuration of the ConfigMap. */
function environment(): Record<string, string> {
  const configMap = objects().find(({ kind }) => kind === "ConfigMap")!;
  const daemonSet = objects().find(({ kind }) => kind === "DaemonSet")!;
  const [container] = memberAt(daemonSet, "spec.template.spec.containers") as {
    env: { name: string; value?: string }[];
  }[];
  const entries = container!.env.filter(({ value }) => value !== undefined)
    .map(({ name, value }) => [name, value!]);
  return {
    ...Object.fromEntries(entries),
    CNI_NETWORK_CONFIG: memberAt(configMap, "data.cni_network_config") as string,
  };
}

/** What passthru, which Multus puts before the chain, gives: no interface and no address. */
const emptyResult = { cniVersion: "1.1.0", dns: {} };

Deno.test("the auxiliary chain's folder gets one file that Multus loads, and is made when it is missing", async () => {
  const daemonSet = objects().find(({ kind }) => kind === "DaemonSet")!;
  const volumes = memberAt(daemonSet, "spec.template.spec.volumes") as { name: string }[];
  deepEqual(volumes.find(({ name }) => name === "cni-net-dir"), {
    name: "cni-net-dir",
    hostPath: {
      path: "/var/run/multus/cni/net.d/vendor-cni-chain",
      type: "DirectoryOrCreate",
    },
  });
  await using host = new InstallerHost();
  const installer = host.start(environment());
  await installer.until("it is ready", () => host.isReady);
  const loaded = [...Deno.readDirSync(host.netDir)].map(({ name }) => name)
    .filter((name) => name.endsWith(".conf"));
  deepEqual(loaded, ["kuma-cni.conf"]);
  const config = JSON.parse(host.readConf("kuma-cni.conf")!);
  equal(config.type, "kuma-cni");
  deepEqual(config.kubernetes.exclude_namespaces, ["kube-system", "openshift-*"]);
  equal(await installer.terminate(), 0);
});

Deno.test("Multus calls the chain as net1 without any address, and once more for an attachment", async () => {
  const pod = injectedPod();
  await using cluster = await Cluster.start(await compiledPlugin(), [pod]);
  await using bed = await Bed.create();
  const containerId = newContainerId();
  const call = (
    command: "ADD" | "CHECK" | "DEL",
    interfaceName: string,
    prevResult: unknown,
    reference = referenceOf(pod),
  ): Promise<PluginAnswer> => {
    const config = environment().CNI_NETWORK_CONFIG!
      .replace("__KUBECONFIG_FILEPATH__", cluster.kubeconfig);
    return callPlugin(cluster.plugin, {
      command,
      containerId,
      netns: bed.podNetns,
      pod: reference,
      network: { ...JSON.parse(config), cniVersion: "1.1.0", name: "vendor-cni-chain" },
      args: multusArgs(containerId, reference),
      interfaceName,
      ...(prevResult === undefined ? {} : { prevResult }),
    });
  };
  const rules = () =>
    withNetworkNamespace(bed.podNetns, () => tool("nft", ["-s", "list", "ruleset"]));

  const added = await call("ADD", "net1", emptyResult);
  equal(added.code, 0, added.stdout);
  equal(added.stdout.trimEnd(), JSON.stringify(emptyResult), "the result goes on as it came");
  const first = rules();
  match(first, /table inet kuma_mesh/);
  for (const family of ["ipv4", "ipv6"] as const) {
    for (const probe of probesOf(family, "2.9")) {
      equal(await attempt(bed, probe), probe.after, `${family} ${probe.kind} to ${probe.to}`);
    }
  }

  // The same pod also names our attachment: a network of its own, without a result before it.
  const again = await call("ADD", "net2", undefined);
  equal(again.code, 0, again.stdout);
  equal(rules(), first, "twice is once");
  for (const name of ["net1", "net2"]) {
    equal((await call("CHECK", name, emptyResult)).code, 0, name);
  }

  // The platform's own pods come this way, too, and must not depend on anybody's answer.
  const { requests } = cluster.api;
  const before = requests.length;
  const own = { namespace: "openshift-dns", name: "dns-default-x", uid: crypto.randomUUID() };
  const passed = await call("ADD", "net1", emptyResult, own);
  equal(passed.code, 0, passed.stdout);
  equal(requests.length, before, "nobody was asked");

  for (const name of ["net2", "net1"]) {
    const removed = await call("DEL", name, emptyResult);
    equal(removed.code, 0, removed.stdout);
  }
  ok(rules().includes("kuma_mesh"), "rules go with the namespace");
});
