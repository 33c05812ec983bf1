/** Ready means captured, whichever runtime reads the net dir: install-cni on folders of its own. */
import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { Operations } from "../installer/host/operations.ts";
import { Grace, graceTime } from "../installer/loop/grace.ts";
import { Reconciler } from "../installer/loop/reconcile.ts";
import { writingTime } from "../installer/plan/runtime_target.ts";
import { InstallerHost, primaryList, primarySingle, quietLog } from "./support/installer_host.ts";
import "./support/installed_once.ts";
import { doWork } from "./support/installer_work.ts";

const list = "10-calico.conflist";

/** A host whose runtime's files are seen below `root`. */
class RuntimeHost extends InstallerHost {
  readonly hostRoot = `${this.root}/host`;

  /** Writes a file of the host. */
  writeHost(path: string, text: string): void {
    const full = `${this.hostRoot}${path}`;
    Deno.mkdirSync(full.slice(0, full.lastIndexOf("/")), { recursive: true });
    Deno.writeTextFileSync(full, text);
  }

  /** Puts programs of plugins on the host. */
  addPrograms(...types: string[]): void {
    for (const type of types) {
      Deno.writeTextFileSync(`${this.binDir}/${type}`, "#!/bin/sh\n", { mode: 0o755 });
    }
  }

  /** Installs once; returns what is wrong afterwards, `undefined` when it is ready. */
  install(extra: Record<string, string> = {}): Promise<string | undefined> {
    return doWork("install", this.#settings(extra), new Operations());
  }

  #settings(extra: Record<string, string>) {
    return this.settings({ MOUNTED_HOST_ROOT: this.hostRoot, ...extra });
  }
}

const crioConfig = "/etc/crio/crio.conf.d/00-default";
const containerdConfig = "/etc/containerd/config.toml";
const single = (type: string) => primarySingle.replace('"flannel"', `"${type}"`);
const listOf = (name: string, ...types: string[]) =>
  JSON.stringify({ cniVersion: "0.3.1", name, plugins: types.map((type) => ({ type })) });
/** Makes a file look as if nobody had written it for a while. */
const age = (path: string) => Deno.utimeSync(path, new Date(0), new Date(0));

Deno.test("CRI-O: chained to the file that it uses, past those that it passes over", async () => {
  await using host = new RuntimeHost();
  host.writeHost(crioConfig, "");
  host.addPrograms("calico", "portmap");
  host.writeConf("01-torn.conflist", "{");
  age(`${host.netDir}/01-torn.conflist`);
  host.writeConf("02-gone.conflist", listOf("gone", "gone"));
  host.writeConf(list, primaryList);
  equal(await host.install(), undefined);
  deepEqual(host.typesIn(list), ["calico", "portmap", "kuma-cni"]);
  equal(host.readConf("02-gone.conflist"), listOf("gone", "gone"));

  // The program comes: from now on that file is used.
  host.addPrograms("gone");
  equal(await host.install(), undefined);
  deepEqual(host.typesIn("02-gone.conflist"), ["gone", "kuma-cni"]);
});

Deno.test("CRI-O: a torn file is waited for while somebody may be writing it", async () => {
  await using host = new RuntimeHost();
  host.writeHost(crioConfig, "");
  host.addPrograms("calico", "portmap");
  host.writeConf("01-torn.conflist", "{");
  host.writeConf(list, primaryList);
  match(await host.install() ?? "", /Waiting for "01-torn.conflist" to be readable/);
  equal(host.readConf(list), primaryList);
  ok(writingTime <= 5000);
});

Deno.test("CRI-O: its default network is chained to, by its name", async () => {
  await using host = new RuntimeHost();
  host.writeHost(crioConfig, `[crio.network]\ncni_default_network = "second"\n`);
  host.addPrograms("a", "b");
  host.writeConf("10-a.conflist", listOf("first", "a"));
  host.writeConf("20-b.conflist", listOf("second", "b"));
  equal(await host.install(), undefined);
  deepEqual(host.typesIn("10-a.conflist"), ["a"]);
  deepEqual(host.typesIn("20-b.conflist"), ["b", "kuma-cni"]);
  match(
    await host.install({ CNI_CONF_NAME: "10-a.conflist" }) ?? "",
    /^CRI-O uses "20-b.conflist" \(cni_default_network is "second"\), so pods are not captured/,
  );
});

Deno.test("CRI-O: programs in folders that are not seen count as there", async () => {
  await using host = new RuntimeHost();
  host.writeHost(
    crioConfig,
    `[crio.network]\nplugin_dirs = ["/opt/cni/bin", "/usr/libexec/cni"]\n`,
  );
  host.writeConf("10-a.conflist", listOf("a", "a"));
  equal(await host.install(), undefined);
  Deno.mkdirSync(`${host.hostRoot}/usr/libexec/cni`, { recursive: true });
  match(await host.install() ?? "", /a network that CRI-O can use: .*program of its plugin "a" is/);
});

Deno.test("containerd that loads several files gets no list beside a single plugin's", async () => {
  await using host = new RuntimeHost();
  const config = (count: number) =>
    `version = 2\n[plugins."io.containerd.grpc.v1.cri".cni]\nmax_conf_num = ${count}\n`;
  host.writeConf("10-flannel.conf", single("flannel"));
  host.writeHost(containerdConfig, config(1));
  equal(await host.install(), undefined);
  const derived = "10-flannel-kuma.conflist";
  deepEqual(host.typesIn(derived), ["flannel", "kuma-cni"]);

  host.writeHost(containerdConfig, config(0));
  match(await host.install() ?? "", /max_conf_num is 0 in \/etc\/containerd\/config.toml/);
  equal(host.readConf(derived), undefined, "the primary must not run twice");

  // A list is one network, whatever else is loaded; an old entry elsewhere goes.
  Deno.removeSync(`${host.netDir}/10-flannel.conf`);
  host.writeConf("10-flannel.conflist", listOf("f", "flannel"));
  host.writeConf("20-other.conflist", listOf("o", "other", "kuma-cni"));
  equal(await host.install(), undefined);
  deepEqual(host.typesIn("10-flannel.conflist"), ["flannel", "kuma-cni"]);
  deepEqual(host.typesIn("20-other.conflist"), ["other"]);
});

Deno.test("a runtime that reads other folders is no reason to be ready", async () => {
  await using host = new RuntimeHost();
  host.writeConf(list, primaryList);
  const config = (settings: string) =>
    `version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\n${settings}\n`;
  host.writeHost(containerdConfig, config(`conf_dir = "/somewhere/net.d"`));
  match(await host.install() ?? "", /The runtime reads "\/somewhere\/net.d" \(\/etc\/containerd/);
  equal(await host.install({ CNI_RUNTIME: "multus" }), undefined);
  host.writeHost(containerdConfig, config(`bin_dirs = ["/usr/libexec/cni"]`));
  match(
    await host.install() ?? "",
    /looks for plugins in "\/usr\/libexec\/cni" .* "\/opt\/cni\/bin"/,
  );
  // A link gives one folder two names.
  Deno.mkdirSync(`${host.hostRoot}/usr/libexec`, { recursive: true });
  Deno.symlinkSync(host.binDir, `${host.hostRoot}/usr/libexec/cni`);
  equal(await host.install(), undefined);
});

Deno.test("Multus: chained to the file that it names, and not ready while it calls a copy", async () => {
  await using host = new RuntimeHost();
  const multus = (extra: Record<string, unknown>) =>
    JSON.stringify({ cniVersion: "0.3.1", name: "m", type: "multus", ...extra });
  host.writeConf("10-a.conflist", listOf("a", "a"));
  host.writeConf("20-b.conflist", listOf("b", "b"));
  host.writeConf(
    "00-multus.conf",
    multus({ clusterNetwork: "/host/etc/cni/net.d/20-b.conflist" }),
  );
  equal(await host.install(), undefined);
  deepEqual(host.typesIn("20-b.conflist"), ["b", "kuma-cni"]);
  deepEqual(host.typesIn("10-a.conflist"), ["a"]);

  host.writeConf("00-multus.conf", multus({ delegates: [JSON.parse(listOf("b", "b"))] }));
  match(await host.install() ?? "", /has a copy of another configuration in 'delegates', without/);
  host.writeConf(
    "00-multus.conf",
    multus({ delegates: [JSON.parse(host.readConf("10-a.conflist")!)] }),
  );
  equal(await host.install(), undefined, "Multus has copied the chained list");

  host.writeConf("00-multus.conf", multus({ clusterNetwork: "some-network" }));
  match(await host.install() ?? "", /is the name "some-network"/);
  const word = { CNI_CONF_NAME: "10-a.conflist", CNI_CONF_NAME_IS_LOADED: "true" };
  equal(await host.install(word), undefined);
});

Deno.test("Multus: a list beside a single plugin's file counts once Multus names it", async () => {
  await using host = new RuntimeHost();
  const multus = (name: string) =>
    JSON.stringify({ type: "multus", name: "m", clusterNetwork: `/etc/cni/net.d/${name}` });
  host.writeConf("10-flannel.conf", single("flannel"));
  host.writeConf("00-multus.conf", multus("10-flannel.conf"));
  match(
    await host.install() ?? "",
    /calls "10-flannel.conf" \(clusterNetwork\), not "10-flannel-kuma.conflist"/,
  );
  host.writeConf("00-multus.conf", multus("10-flannel-kuma.conflist"));
  equal(await host.install(), undefined);
  deepEqual(host.typesIn("10-flannel-kuma.conflist"), ["flannel", "kuma-cni"]);
});

Deno.test("a version that the plugin does not speak is not chained to", async () => {
  for (const file of ["10-a.conflist", "10-a.conf"]) {
    await using host = new RuntimeHost();
    const text = (version: string) =>
      (file.endsWith("list") ? listOf("a", "a") : single("a")).replace("0.3.1", version);
    host.writeConf(file, text("1.0.1"));
    const before = Object.keys(host.snapshot()).filter((path) => path.startsWith("/net.d/1"));
    match(
      await host.install() ?? "",
      /a version in "10-a.conf(list)?" that the plugin speaks .*"1.0.1"/,
    );
    equal(host.readConf(file), text("1.0.1"));
    host.writeConf(file, text("1.1.0"));
    equal(await host.install(), undefined);
    // The primary plugin changes the version in a file that is chained already.
    const chained = host.readConf(file)!;
    host.writeConf(file, chained.replace("1.1.0", "1.0.1"));
    match(await host.install() ?? "", /"1.0.1"/);
    const after = Object.keys(host.snapshot()).filter((path) => path.startsWith("/net.d/1"));
    deepEqual([host.readConf(file), after], [text("1.0.1"), before]);
  }
});

Deno.test("CRI-O: an entry that makes it pass over the file goes", async () => {
  await using host = new RuntimeHost();
  host.writeHost(crioConfig, "");
  host.addPrograms("a", "b");
  const first = listOf("first", "a");
  host.writeConf("10-a.conflist", first);
  host.writeConf("20-b.conflist", listOf("second", "b"));
  equal(await host.install(), undefined);
  host.writeConf("10-a.conflist", host.readConf("10-a.conflist")!.replace("0.3.1", "1.0.1"));
  match(
    await host.install() ?? "",
    /a version in "10-a.conflist" that the plugin speaks .*"1.0.1"/,
  );
  equal(host.readConf("10-a.conflist"), first.replace("0.3.1", "1.0.1"));
  equal(host.readConf("20-b.conflist"), listOf("second", "b"));
});

Deno.test("an entry whose key has another case is ours", async () => {
  await using host = new RuntimeHost();
  host.writeConf(
    list,
    '{"cniVersion":"0.3.1","name":"n","plugins":[{"Type":"calico"},{"TYPE":"kuma-cni"}]}',
  );
  equal(await host.install(), undefined);
  deepEqual(
    JSON.parse(host.readConf(list)!).plugins.map((p: Record<string, string>) => p.type ?? p.Type),
    ["calico", "kuma-cni"],
  );
  await doWork("uninstall", host.settings(), new Operations());
  equal(
    host.readConf(list),
    '{"cniVersion":"0.3.1","name":"n","plugins":[{"Type":"calico"}]}',
  );
});

Deno.test("a list whose plugins come from its folder is left alone, and ready once it has our entry", async () => {
  await using host = new RuntimeHost();
  const text = '{"cniVersion":"1.0.0","name":"net-a","loadOnlyInlinedPlugins":false}';
  host.writeConf("10-a.conflist", text);
  Deno.mkdirSync(`${host.netDir}/net-a`);
  Deno.writeTextFileSync(`${host.netDir}/net-a/10-a.conf`, '{"type":"a"}');
  match(await host.install() ?? "", /our entry among the plugins of "10-a.conflist"/);
  const writeEntry = (entry: string) =>
    Deno.writeTextFileSync(`${host.netDir}/net-a/20-kuma.conf`, entry);
  // With an entry that fails each pod nobody is captured.
  writeEntry('{"type":"kuma-cni"}');
  match(await host.install() ?? "", /the one in the folder "net-a" has no "kubernetes.kubeconfig"/);
  writeEntry('{"type":"kuma-cni","log_level":"loud","kubernetes":{"kubeconfig":"/k"}}');
  match(
    await host.install() ?? "",
    /the plugin refuses the one in the folder "net-a": .*log_level/,
  );
  writeEntry('{"type":"kuma-cni","kubernetes":{"kubeconfig":"/k"}}');
  equal(await host.install(), undefined);
  equal(host.readConf("10-a.conflist"), text);
});

Deno.test("a torn list ends readiness after a few seconds, also in the ready file", async () => {
  await using host = new RuntimeHost();
  host.writeConf(list, primaryList);
  // No tick comes within the test.
  const slow = { CFGCHECK_INTERVAL: "3600", REFRESH_SA_TOKEN_INTERVAL: "3600" };
  const agent = host.start(slow);
  await agent.until("ready", () => host.isReady);
  const chained = host.readConf(list)!;
  host.writeConf(list, chained.slice(0, -20));
  await new Promise((resolve) => setTimeout(resolve, graceTime / 3));
  ok(host.isReady, "a program may be writing it");
  await agent.until("not ready", () => !host.isReady, 3 * graceTime);
  host.writeConf(list, chained);
  await agent.until("ready", () => host.isReady);
  await agent.terminate();
});

Deno.test("readiness that cannot be told stays for the grace and no longer", () => {
  const grace = new Grace();
  deepEqual(grace.settle(undefined, false, 0), { ready: false }, "nothing to be lost");
  deepEqual(grace.settle(true, true, 0), { ready: true });
  deepEqual(grace.settle(undefined, true, 10), { ready: true, retryAfter: graceTime });
  deepEqual(grace.settle(undefined, true, 10 + graceTime - 1), { ready: true, retryAfter: 1 });
  deepEqual(grace.settle(undefined, true, 10 + graceTime), { ready: false });
  deepEqual(grace.settle(true, false, 10_000), { ready: true });
  deepEqual(grace.settle(undefined, true, 20_000), { ready: true, retryAfter: graceTime });
  ok(graceTime <= 5000);
});

Deno.test("a look tells the runtime, and what it would use instead", async () => {
  await using host = new RuntimeHost();
  host.writeHost(containerdConfig, "version = 2\n");
  host.writeConf(list, primaryList);
  host.writeConf("05-other.conflist", primaryList);
  const settings = host.settings({ MOUNTED_HOST_ROOT: host.hostRoot, CNI_CONF_NAME: list });
  const reconciler = new Reconciler(settings, new Operations(), host.sourceDir, quietLog());
  const { seen, plan } = await reconciler.look();
  match(plan.blocked ?? "", /^The runtime loads "05-other.conflist" before "10-calico.conflist"/);
  deepEqual(
    [seen.view.runtime.kind, seen.view.runtime.basis],
    ["containerd", containerdConfig],
  );
  throws(
    () => host.settings({ CNI_RUNTIME: "docker" }),
    /CNI_RUNTIME is "docker", \w+ auto, containerd, cri-o or multus/,
  );
  throws(
    () => host.settings({ CNI_CONF_NAME_IS_LOADED: "true" }),
    /CNI_CONF_NAME_IS_LOADED is true, and CNI_CONF_NAME names no file/,
  );
});
