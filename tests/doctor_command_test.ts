/** `install-cni doctor` as a program: on a node by hand, about one pod, its bundle, its memory. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { readChanges } from "../installer/host/changes.ts";
import { pathsOf } from "../installer/settings/paths.ts";
import { withoutSecretMembers, withoutSecrets } from "../installer/doctor/redact.ts";
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

const mainModule = new URL("../installer/main.ts", import.meta.url).pathname;
const chained = "/etc/cni/net.d/10-calico.conflist";

Deno.test("doctor says in its first line what is wrong, with exit code 0, 1 or 2", async () => {
  await using bed = await DoctorBed.make();
  const run = (...args: string[]) => bed.host.run(["doctor", ...args], bed.environment);
  const good = await run();
  equal(good.code, 0, good.stdout);
  match(good.stdout, /^Healthy: meshed pods that start now are captured, as far as .*\n\n/);
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
  match(bad.stdout, /^Something is wrong: ".*" lacks the entry of kuma-cni\n\n✗ chain .*\n +→ /);
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
  match(good.stdout, new RegExp(`✓ chain +"${bed.root}${netDir}/10-calico.conflist" has`));
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

/** Texts of a gzipped tar archive, whole. */
async function unpacked(path: string): Promise<string> {
  const stream = (await Deno.open(path)).readable.pipeThrough(new DecompressionStream("gzip"));
  return await new Response(stream).text();
}

Deno.test("a bundle has no secret, wherever one is planted", async () => {
  const secrets = {
    etcd: "etcd-password-planted",
    calico: "Y2FsaWNvLXRva2VuLXBsYW50ZWQtYnktYS10ZXN0",
    url: "user:pass-planted",
    annotation: "annotation-planted",
    applied: "applied-planted",
    key: "-----BEGIN RSA PRIVATE KEY-----\nplanted-in-pem\n-----END RSA PRIVATE KEY-----",
    bearer: "Bearer planted.bearer.value",
    registry: "registry-planted",
    label: "label-planted",
    nested: "nested-planted",
    broken: "broken-planted",
    environment: "value-planted",
  };
  const list = JSON.stringify({
    cniVersion: "1.0.0",
    name: "net",
    plugins: [{
      type: "calico",
      etcd_password: secrets.etcd,
      policy: { k8s_auth: { user: "x", value: secrets.calico } },
      endpoint: `https://${secrets.url}@etcd:2379`,
      note: `${secrets.key} ${secrets.bearer}`,
      opaque: secrets.calico,
      inner: JSON.stringify({ deep: [{ clientSecret: secrets.nested }] }),
    }],
  });
  const pod = injectedPod({
    namespace: "shop",
    name: "web-0",
    nodeName,
    labels: { owner: secrets.label },
    annotations: {
      "vault.example.com/secret": secrets.annotation,
      "kubectl.kubernetes.io/last-applied-configuration": secrets.applied,
    },
  });
  Object.assign(pod.spec.containers[0]!, { env: [{ name: "A", value: secrets.environment }] });
  await using bed = await DoctorBed.make({
    list: ["10-calico.conflist", list],
    kubernetes: { k8s_service_account_token: "__SERVICEACCOUNT_TOKEN__" },
    files: {
      "/etc/cni/net.d/99-broken.conflist": `{"password": "${secrets.broken}`,
      "/etc/containerd/config.toml":
        `version = 2\n[plugins."io.containerd.grpc.v1.cri".registry.configs.x.auth]\n` +
        `password = "${secrets.registry}"\n`,
    },
    objects: [pod],
  });
  bed.cache("shop", "web-0", true);
  const bundle = `${bed.host.root}/bundle.tar.gz`;
  const { code, stderr } = await bed.host.run(
    ["doctor", "shop/web-0", "--bundle", bundle],
    bed.environment,
  );
  equal(code, 0, stderr);
  match(stderr, /^Bundle: /m);
  equal((Deno.statSync(bundle).mode ?? 0) & 0o777, 0o600);
  const text = await unpacked(bundle);
  for (const name of ["doctor.txt", "net.d/10-calico.conflist", "pod.json", "settings.json"]) {
    ok(text.includes(`kuma-cni-doctor/${name}`), name);
  }
  // What helps is there.
  ok(text.includes('"type": "calico"') && text.includes("kuma.io/sidecar-injected"));
  const token = bed.api.token;
  const planted = { ...secrets, token, key: "planted-in-pem", bearer: "planted.bearer.value" };
  for (const [name, secret] of Object.entries({ ...planted, base64: btoa(token) })) {
    ok(!text.includes(secret), `${name} is in the bundle`);
  }
  // Through a pipe, for kubectl exec.
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--quiet", "--no-check", mainModule, "doctor", "--bundle", "-"],
    env: bed.environment,
    stderr: "null",
  }).output();
  ok(stdout.length > 1000);
  Deno.writeFileSync(`${bundle}.piped`, stdout);
  match(await unpacked(`${bundle}.piped`), /kuma-cni-doctor\/doctor\.json/);
  // Nothing that is there is written over, nor through a link.
  const again = await bed.host.run(["doctor", "--bundle", bundle], bed.environment);
  match(again.stderr, /Cannot write the bundle/);
});

Deno.test("texts lose what looks like a secret, and nothing else", () => {
  equal(withoutSecrets("token abcdefgh1 is", ["abcdefgh1"]), "token (removed) is");
  equal(withoutSecrets("eyJhbGciOi.eyJzdWIi.c2ln", []), "(removed)");
  equal(
    withoutSecrets("http://a:b@proxy:1 and http://proxy", []),
    "http://(removed)@proxy:1 and http://proxy",
  );
  deepEqual(withoutSecretMembers({ a: { apiKey: 1, name: "x", list: [{ token: "t" }] } }, []), {
    a: { apiKey: "(removed)", name: "x", list: [{ token: "(removed)" }] },
  });
  let deep: unknown = "secret-value";
  for (let i = 0; i < 100; i++) deep = [deep];
  ok(!JSON.stringify(withoutSecretMembers(deep, [])).includes("secret-value"));
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
