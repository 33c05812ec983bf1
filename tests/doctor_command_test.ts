/** `install-cni doctor` as a program: on a node by hand, about one pod, its bundle, its memory. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { readChanges } from "../installer/host/changes.ts";
import { pathsOf } from "../installer/settings/paths.ts";
import { DoctorBed, nodeName } from "./support/doctor_bed.ts";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { putEntry } from "../src/ledger/folder.ts";
import { networkNamespaceIdentity } from "../src/linux/namespace_identity.ts";
import { withNetworkNamespace } from "../src/linux/network_namespace.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { primaryList } from "./support/installer_host.ts";
import { ledgerEntry } from "./support/ledger_entries.ts";
import "./support/load_libc.ts";
import { createNamespace } from "./support/topology.ts";
import { injectedPod, plainPod } from "./support/pods.ts";

const chained = "/etc/cni/net.d/10-calico.conflist";

Deno.test("doctor says in its first line what is wrong, with exit code 0, 1 or 2", async () => {
  await using bed = await DoctorBed.make();
  const run = (...args: string[]) => bed.host.run(["doctor", ...args], bed.environment);
  const good = await run();
  equal(good.code, 0, good.stdout);
  match(good.stdout, /^Healthy: meshed pods that start now are captured\n\n/);
  match(good.stdout, /^✓ chain +".*10-calico\.conflist" has the entry of kuma-cni$/m);
  match(good.stdout, /^✓ rights +The account may get, list and watch pods$/m);
  const wide = await run("-o", "wide");
  match(wide.stdout, /^· file +"10-calico\.conflist" \d+ bytes, mode 644, .*sha256 [0-9a-f]{64}$/m);
  bed.stopAgent();
  const odd = await run("-o", "json");
  equal(odd.code, 1);
  const data = JSON.parse(odd.stdout);
  equal(data.exitCode, 1);
  equal(data.findings[0].code, "agent-silent");
  deepEqual(Object.keys(data.facts), ["files", "runtime", "changes", "pods"]);
  bed.write(chained, primaryList);
  const bad = await run();
  equal(bad.code, 2);
  match(
    bad.stdout,
    /^Something is wrong: ".*" lacks the entry of kuma-cni, so pods .*\n\n✗ chain .*\n +→ /,
  );
  const yaml = await run("-o", "yaml");
  match(yaml.stdout, /^exitCode: 2$/m);
});

Deno.test("doctor finds the runtime's own folders when nobody tells it any", async () => {
  const netDir = "/var/lib/rancher/k3s/agent/etc/cni/net.d";
  const binDir = "/var/lib/rancher/k3s/data/cni";
  await using bed = await DoctorBed.make({
    netDir,
    binDir,
    files: {
      "/var/lib/rancher/k3s/agent/etc/containerd/config.toml":
        `[plugins."io.containerd.grpc.v1.cri".cni]\nbin_dir = "${binDir}"\nconf_dir = "${netDir}"\n`,
    },
  });
  // Only what a person at the node has: the host's root, here in a folder.
  const nothing = Object.fromEntries(Object.keys(bed.environment).map((name) => [name, ""]));
  const byHand = (extra = {}) =>
    bed.host.run(["doctor"], { ...nothing, MOUNTED_HOST_ROOT: bed.root, ...extra });
  const good = await byHand();
  equal(good.code, 0, good.stdout);
  match(good.stdout, new RegExp(`^✓ chain +"${netDir}/10-calico.conflist" has`, "m"));
  bed.write(`${netDir}/00-first.conflist`, primaryList);
  const bad = await byHand();
  equal(bad.code, 2);
  match(bad.stdout, /^Something is wrong: The runtime loads "00-first\.conflist" before/);
  Deno.removeSync(`${bed.path(binDir)}/kuma-cni`);
  match((await byHand()).stdout, /✗ plugin +".*\/data\/cni\/kuma-cni" is missing/);
});

Deno.test("doctor says less of a pod, and nothing wrong, without the right to namespaces and events", async () => {
  const pod = plainPod({ namespace: "shop", name: "forgotten", nodeName });
  await using bed = await DoctorBed.make({ objects: [pod] });
  for (const resource of ["namespaces", "events"]) {
    for (const verb of ["get", "list"]) bed.api.forbid(verb, resource);
  }
  const { stdout } = await bed.host.run(["doctor", "shop/forgotten"], bed.environment);
  match(stdout, /^shop\/forgotten is not meshed: no container/);
  match(stdout, /^\? pod +The label .* of its namespace cannot be seen here/m);
  match(
    (await bed.host.run(["doctor", "a/b/c"], bed.environment)).stderr,
    /expected namespace\/name/,
  );
});

Deno.test("doctor compares the rules of a running pod with the ledger", async () => {
  using namespace = createNamespace();
  const pod = injectedPod({ namespace: "demo", name: "app-0", uid: "uid-1", nodeName });
  await using bed = await DoctorBed.make({ objects: [pod] });
  // The namespace's file below another root would be another one.
  Deno.symlinkSync("/run/netns", (Deno.mkdirSync(bed.path("/run")), bed.path("/run/netns")));
  const identity = withNetworkNamespace(namespace.path, () => {
    new NftablesEngine().apply(compileRuleset(defaultRedirectConfig, readNamespaceFacts()));
    return networkNamespaceIdentity();
  });
  const entry = ledgerEntry({ netns: namespace.path, namespace: identity });
  putEntry(pathsOf(bed.settings).stateDir, entry);
  const ask = () => bed.host.run(["doctor", "demo/app-0"], bed.environment);
  const good = await ask();
  equal(good.stdout.split("\n")[0], "demo/app-0 is meshed and captured", good.stdout);
  match(good.stdout, /^✓ pod +It was captured: its rules were installed \(nftables\) at 20/m);
  equal((await bed.diagnose()).findings.find(({ subject }) => subject === "pods")?.grade, "ok");
  withNetworkNamespace(namespace.path, () => new NftablesEngine().remove());
  const drifted = await ask();
  equal(drifted.code, 2);
  match(drifted.stdout, /^demo\/app-0 was captured, but its rules have changed since\n/);
  putEntry(pathsOf(bed.settings).stateDir, { ...entry, netns: "/run/netns/kuma-no-such-doctor" });
  const gone = await ask();
  match(
    gone.stdout,
    /^\? pod +Whether its rules are still as installed .*namespace is not there$/m,
  );
  // What the ledger knows of an earlier pod of that name is nothing about this one.
  putEntry(pathsOf(bed.settings).stateDir, { ...entry, podUid: "uid-0" });
  match((await ask()).stdout, /whether it was captured cannot be seen here/);
});

Deno.test("the agent remembers who wrote the list last, and when, also after a restart", async () => {
  await using bed = await DoctorBed.make();
  const agent = bed.host.start(bed.environment);
  await agent.until("it is ready", () => bed.host.isReady);
  const folder = pathsOf(bed.settings).stateDir;
  const remembered = () => readChanges(bed.operations, folder);
  deepEqual(remembered(), []);
  for (let count = 1; count <= 2; count++) {
    bed.write(chained, primaryList);
    await agent.until("the change is remembered", () => remembered().length === count);
  }
  const [change] = remembered();
  equal(change!.file, "10-calico.conflist");
  equal(change!.cause, "entry-missing");
  deepEqual(change!.types, ["calico", "portmap"]);
  ok(Math.abs(change!.written! - Date.now()) < 60_000);
  await agent.terminate();
  const next = bed.host.start(bed.environment);
  await next.until("it is ready again", () => bed.host.isReady);
  bed.write(chained, primaryList);
  await next.until("it goes on remembering", () => remembered().length === 3);
  const { stdout } = await bed.host.run(["doctor"], bed.environment);
  match(
    stdout,
    /^· changes +"10-calico\.conflist" was written by Calico \(calico-node\) at \d{4}-.*; 3 times in/m,
  );
  await next.terminate();
  // It goes with the rest.
  equal((await bed.host.run(["uninstall"], bed.environment)).code, 0);
  deepEqual(remembered(), []);
});
