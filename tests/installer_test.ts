/** install-cni as a process, on folders of its own: install, heal, stop, uninstall. */
import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { formatKubeconfig } from "../src/kubernetes/kubeconfig_format.ts";
import { exists } from "./support/files.ts";
import {
  InstallerHost,
  networkConfig,
  primaryList,
  primarySingle,
  type RunningInstaller,
} from "./support/installer_host.ts";
import { scriptPlugin } from "./support/stand_in_program.ts";

const kubeconfig = "ZZZ-kuma-cni-kubeconfig";
const list = "10-calico.conflist";

/** A host with a primary plugin and install-cni running and ready. */
async function installed(
  extra: Record<string, string> = {},
): Promise<{ host: InstallerHost; agent: RunningInstaller; before: Record<string, string> }> {
  const host = new InstallerHost();
  host.writeConf(list, primaryList);
  Deno.chmodSync(`${host.netDir}/${list}`, 0o640);
  Deno.chownSync(`${host.netDir}/${list}`, 12, 34);
  const before = host.snapshot();
  const agent = host.start(extra);
  await agent.until("ready", () => host.isReady);
  return { host, agent, before };
}

Deno.test("installs plugin, kubeconfig and entry, and restores every byte", async () => {
  const { host, agent, before } = await installed();
  await using _ = host;
  deepEqual(host.typesIn(list), ["calico", "portmap", "kuma-cni"]);
  ok(host.readConf(list)!.includes("12345678901234567890"));
  const status = Deno.statSync(`${host.netDir}/${list}`);
  deepEqual([status.mode! & 0o7777, status.uid, status.gid], [0o640, 12, 34]);
  equal(Deno.readTextFileSync(`${host.binDir}/kuma-cni`), scriptPlugin);
  equal(Deno.statSync(`${host.binDir}/kuma-cni`).mode! & 0o7777, 0o755);
  equal(
    host.readConf(kubeconfig),
    formatKubeconfig({
      server: "https://127.0.0.1:1",
      certificateAuthority: Deno.readTextFileSync(`${host.secrets}/ca.crt`),
      token: "token-1",
    }),
  );
  equal(Deno.statSync(`${host.netDir}/${kubeconfig}`).mode! & 0o7777, 0o600);
  equal(Deno.statSync(`${host.netDir}/kuma-cni.d`).mode! & 0o7777, 0o700);
  const entry = JSON.parse(host.readConf(list)!).plugins.at(-1);
  equal(entry.kubernetes.kubeconfig, `/etc/cni/net.d/${kubeconfig}`);
  deepEqual(entry.agent, { socket: "/etc/cni/net.d/kuma-cni.d/agent.sock" });

  equal(await agent.terminate(), 0);
  ok(!host.isReady, "not ready without an agent");
  deepEqual(host.typesIn(list), ["calico", "portmap", "kuma-cni"], "a stop is no uninstall");
  ok(exists(`${host.binDir}/kuma-cni`));

  const { code, stderr } = await host.run(["uninstall"]);
  equal(code, 0, stderr);
  deepEqual(host.snapshot(), before);
  equal((await host.run(["uninstall"])).code, 0, "uninstalling twice is fine");
});

Deno.test("heals what other software does, without a restart", async (t) => {
  const { host, agent } = await installed();
  await using _ = host;
  const chained = host.readConf(list)!;
  const pid = agent.process.pid;

  await t.step("the list is rewritten in one step", async () => {
    host.writeConf(list, primaryList.replace('"calico"', '"calico2"'));
    await agent.until("chained", () => host.typesIn(list).includes("kuma-cni"));
    deepEqual(host.typesIn(list), ["calico2", "portmap", "kuma-cni"]);
  });
  await t.step("the list is rewritten in place, slowly", async () => {
    using file = Deno.openSync(`${host.netDir}/${list}`, { write: true, truncate: true });
    const bytes = new TextEncoder().encode(primaryList);
    for (let at = 0; at < bytes.length; at += 40) {
      file.writeSync(bytes.subarray(at, at + 40));
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    await agent.until("chained", () => host.readConf(list) === chained);
    ok(host.isReady);
  });
  await t.step("another plugin is appended behind ours", async () => {
    const value = JSON.parse(chained);
    value.plugins.push({ type: "bandwidth" });
    host.writeConf(list, JSON.stringify(value));
    await agent.until("last again", () => host.typesIn(list).at(-1) === "kuma-cni");
    deepEqual(host.typesIn(list), ["calico", "portmap", "bandwidth", "kuma-cni"]);
  });
  await t.step("our entry is edited", async () => {
    host.writeConf(list, chained.replace('"info"', '"off"'));
    await agent.until("as configured", () => host.readConf(list)!.includes('"log_level": "info"'));
  });
  await t.step("the list is torn for a while", async () => {
    host.writeConf(list, primaryList.slice(0, 60));
    await new Promise((resolve) => setTimeout(resolve, 300));
    equal(host.readConf(list), primaryList.slice(0, 60));
    ok(exists(`${host.binDir}/kuma-cni`) && exists(`${host.netDir}/${kubeconfig}`));
    host.writeConf(list, primaryList);
    await agent.until("chained", () => host.readConf(list) === chained);
  });
  await t.step("the list is deleted and comes back", async () => {
    Deno.removeSync(`${host.netDir}/${list}`);
    await agent.until("not ready", () => !host.isReady);
    host.writeConf(list, primaryList);
    await agent.until("ready", () => host.isReady);
    equal(host.readConf(list), chained);
  });
  await t.step("the plugin is deleted", async () => {
    Deno.removeSync(`${host.binDir}/kuma-cni`);
    await agent.until("there", () => exists(`${host.binDir}/kuma-cni`));
  });
  await t.step("the plugin is corrupted without a change of size", async () => {
    Deno.writeTextFileSync(`${host.binDir}/kuma-cni`, scriptPlugin.replace("echo", "exit"));
    await agent.until(
      "whole",
      () => Deno.readTextFileSync(`${host.binDir}/kuma-cni`) === scriptPlugin,
    );
  });
  await t.step("the plugin loses its mode", async () => {
    Deno.chmodSync(`${host.binDir}/kuma-cni`, 0o600);
    await agent.until(
      "executable",
      () => (Deno.statSync(`${host.binDir}/kuma-cni`).mode! & 0o7777) === 0o755,
    );
  });
  await t.step("the kubeconfig is deleted", async () => {
    Deno.removeSync(`${host.netDir}/${kubeconfig}`);
    await agent.until("there", () => exists(`${host.netDir}/${kubeconfig}`));
  });
  await t.step("the kubeconfig is opened to everybody", async () => {
    Deno.chmodSync(`${host.netDir}/${kubeconfig}`, 0o644);
    await agent.until(
      "private",
      () => (Deno.statSync(`${host.netDir}/${kubeconfig}`).mode! & 0o7777) === 0o600,
    );
  });
  await t.step("the token is rotated", async () => {
    host.writeSecret("token", "token-2");
    await agent.until("fresh", () => host.readConf(kubeconfig)!.includes('"token": "token-2"'));
  });
  await t.step("the token is missing for a while", async () => {
    Deno.removeSync(`${host.secrets}/token`);
    await agent.until("said so", () => agent.stderr.includes("is missing"));
    ok(host.readConf(kubeconfig)!.includes('"token": "token-2"'));
    ok(host.isReady, "the old kubeconfig still works");
    host.writeSecret("token", "token-3");
    await agent.until("fresh", () => host.readConf(kubeconfig)!.includes('"token": "token-3"'));
  });
  await t.step("the net dir is replaced by another", async () => {
    Deno.renameSync(host.netDir, `${host.netDir}.old`);
    Deno.mkdirSync(host.netDir);
    await agent.until("not ready", () => !host.isReady);
    host.writeConf(list, primaryList);
    await agent.until("ready", () => host.isReady);
    equal(host.readConf(list), chained);
    // Changes in the new folder are noticed by its own watch.
    host.writeConf(list, primaryList);
    await agent.until("chained", () => host.readConf(list) === chained);
  });
  await t.step("the bin dir is replaced by another", async () => {
    Deno.renameSync(host.binDir, `${host.binDir}.old`);
    Deno.mkdirSync(host.binDir);
    await agent.until("there", () => exists(`${host.binDir}/kuma-cni`));
  });
  equal(agent.process.pid, pid);
  equal(await agent.terminate(), 0);
});

Deno.test("a single .conf gets a list that the runtime takes first, and gets rid of it", async () => {
  await using host = new InstallerHost();
  host.writeConf("10-flannel.conf", primarySingle);
  const before = host.snapshot();
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  equal(host.readConf("10-flannel.conf"), primarySingle, "the file itself stays as it is");
  const derived = "10-flannel-kuma.conflist";
  equal([derived, "10-flannel.conf"].sort()[0], derived);
  const value = JSON.parse(host.readConf(derived)!);
  deepEqual([value.name, value.cniVersion], ["cbr0", "0.3.1"]);
  deepEqual(host.typesIn(derived), ["flannel", "kuma-cni"]);

  host.writeConf("10-flannel.conf", primarySingle.replace('"flannel"', '"flannel", "mtu": 1400'));
  await agent.until("followed", () => host.readConf(derived)!.includes("1400"));
  Deno.removeSync(`${host.netDir}/10-flannel.conf`);
  await agent.until("gone", () => !exists(`${host.netDir}/${derived}`));
  await agent.until("not ready", () => !host.isReady);
  host.writeConf("10-flannel.conf", primarySingle);
  await agent.until("ready", () => host.isReady);
  await agent.terminate();
  equal((await host.run(["uninstall"])).code, 0);
  deepEqual(host.snapshot(), before);
});

Deno.test("a .conf in the setting finds its .conflist twin and stays up", async () => {
  await using host = new InstallerHost();
  host.writeConf("05-cilium.conflist", primaryList);
  const before = host.snapshot();
  const agent = host.start({ CNI_CONF_NAME: "05-cilium.conf" });
  await agent.until("ready", () => host.isReady);
  deepEqual(host.typesIn("05-cilium.conflist"), ["calico", "portmap", "kuma-cni"]);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  ok(host.isReady);
  equal(await agent.terminate(), 0);
  await host.run(["uninstall"], { CNI_CONF_NAME: "05-cilium.conf" });
  deepEqual(host.snapshot(), before);
});

Deno.test("waits for a primary plugin, says so, and follows when it changes", async () => {
  await using host = new InstallerHost();
  const agent = host.start();
  await agent.until("said so", () => agent.stderr.includes("Waiting for another CNI plugin"));
  ok(!host.isReady);
  ok(exists(`${host.binDir}/kuma-cni`), "what can be prepared is prepared");
  host.writeConf("20-late.conflist", primaryList);
  await agent.until("ready", () => host.isReady);
  deepEqual(host.typesIn("20-late.conflist").at(-1), "kuma-cni");
  // Another primary plugin takes over with a file that the runtime prefers.
  host.writeConf("05-cilium.conflist", primaryList);
  await agent.until("followed", () => host.typesIn("05-cilium.conflist").includes("kuma-cni"));
  ok(host.isReady);
  Deno.renameSync(`${host.netDir}/05-cilium.conflist`, `${host.netDir}/07-cilium.conflist`);
  Deno.removeSync(`${host.netDir}/20-late.conflist`);
  host.writeConf("07-cilium.conflist", primaryList);
  await agent.until("followed", () => host.typesIn("07-cilium.conflist").includes("kuma-cni"));
  await agent.terminate();
  await host.run(["uninstall"]);
  equal(host.readConf("07-cilium.conflist"), primaryList);
});

Deno.test("warns when its own pod could not start with an expired token", async () => {
  for (const [namespace, warns] of [["kube-system", false], ["cni", true]] as const) {
    await using host = new InstallerHost();
    host.writeConf(list, primaryList);
    const agent = host.start({ POD_NAMESPACE: namespace });
    await agent.until("ready", () => host.isReady);
    equal(await agent.terminate(), 0);
    equal(agent.stderr.includes(`own namespace "${namespace}" is not in`), warns);
  }
});

Deno.test("waits for folders that are not mounted and names their settings", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  Deno.removeSync(host.binDir);
  const agent = host.start();
  const message = `Waiting for the folder "${host.binDir}" of MOUNTED_CNI_BIN_DIR`;
  await agent.until("says what is missing", () => agent.stderr.includes(message));
  equal(host.isReady, false);
  equal(host.readConf(list), primaryList);
  Deno.mkdirSync(host.binDir);
  await agent.until("ready", () => host.isReady);
  equal(await agent.terminate(), 0);
});

Deno.test("is not ready while the runtime loads another file than the configured one", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const agent = host.start({ CNI_CONF_NAME: list });
  await agent.until("ready", () => host.isReady);
  host.writeConf("05-other.conflist", primaryList);
  await agent.until("not ready", () => !host.isReady);
  match(agent.stderr, /The runtime loads "05-other.conflist" before "10-calico.conflist"/);
  deepEqual(host.typesIn("05-other.conflist"), ["calico", "portmap"]);
  Deno.removeSync(`${host.netDir}/05-other.conflist`);
  await agent.until("ready", () => host.isReady);
  await agent.terminate();
});

Deno.test("another configured name takes the entry out of the old file", async () => {
  const { host, agent } = await installed({ CNI_CONF_NAME: list });
  await using _ = host;
  await agent.terminate();
  host.writeConf("05-new.conflist", primaryList);
  const next = host.start({ CNI_CONF_NAME: "05-new.conflist" });
  await next.until("ready", () => host.isReady);
  equal(host.readConf(list), primaryList);
  deepEqual(host.typesIn("05-new.conflist").at(-1), "kuma-cni");
  await next.terminate();
});

Deno.test("standalone: the text as given with our two additions, removed at the end", async () => {
  await using host = new InstallerHost();
  const before = host.snapshot();
  const setting = { CHAINED_CNI_PLUGIN: "false", CNI_CONF_NAME: "kuma-cni.conf" };
  const agent = host.start(setting);
  await agent.until("ready", () => host.isReady);
  equal(
    host.readConf("kuma-cni.conf"),
    networkConfig.replace("__KUBECONFIG_FILEPATH__", `/etc/cni/net.d/${kubeconfig}`).replace(
      '"kube-system" ]\n  }\n',
      `"kube-system" ]\n  },\n  "agent": {"socket": "/etc/cni/net.d/kuma-cni.d/agent.sock"},\n` +
        '  "capabilities": {"dns": true}\n',
    ),
  );
  equal(Deno.statSync(`${host.netDir}/kuma-cni.conf`).mode! & 0o7777, 0o600);
  Deno.removeSync(`${host.netDir}/kuma-cni.conf`);
  await agent.until("there", () => exists(`${host.netDir}/kuma-cni.conf`));
  await agent.terminate();
  equal((await host.run(["uninstall"], setting)).code, 0);
  deepEqual(host.snapshot(), before);
});

Deno.test("SLEEP=false installs, leaves it installed and ends", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const { code, stderr } = await host.run([], { SLEEP: "false" });
  equal(code, 0, stderr);
  deepEqual(host.typesIn(list).at(-1), "kuma-cni");
  ok(exists(`${host.binDir}/kuma-cni`));
  equal((await host.run(["check"])).code, 0);
});

Deno.test("check tells what is missing and changes nothing", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const before = host.snapshot();
  const { code, stdout } = await host.run(["check", "-o", "json"]);
  equal(code, 1);
  const result = JSON.parse(stdout);
  equal(result.installed, false);
  deepEqual(
    result.missing.map((m: { cause: string }) => m.cause),
    ["binary-missing", "kubeconfig-missing", "entry-missing"],
  );
  deepEqual(host.snapshot(), before);
});

Deno.test("KUMA_CNI_UNINSTALL uninstalls at the end", async () => {
  const { host, agent, before } = await installed({ KUMA_CNI_UNINSTALL: "true" });
  await using _ = host;
  equal(await agent.terminate(), 0);
  deepEqual(host.snapshot(), before);
  ok(!host.isReady);
});

Deno.test("uninstall beside a running agent is done by the agent, which stays quiet after", async () => {
  const { host, agent, before } = await installed();
  await using _ = host;
  const { code, stderr } = await host.run(["uninstall"]);
  equal(code, 0, stderr);
  deepEqual(host.snapshot(), before);
  await new Promise((resolve) => setTimeout(resolve, 1200));
  deepEqual(host.snapshot(), before, "the agent does not install again");
  ok(!host.isReady);
  equal(await agent.terminate(), 0);
});

Deno.test("a second agent waits for the first", async () => {
  const { host, agent } = await installed();
  await using _ = host;
  const second = host.start();
  await second.until("said so", () => second.stderr.includes("Waiting for another install-cni"));
  await agent.kill();
  await second.until("ready", () => host.isReady);
  await second.terminate();
});

Deno.test("an upgrade replaces plugin and entry although both are there", async () => {
  const { host, agent } = await installed();
  await using _ = host;
  await agent.kill();
  ok(host.isReady, "a killed process cannot tidy up");
  Deno.writeTextFileSync(`${host.sourceDir}/kuma-cni`, "#!/bin/sh\nexit 2\n");
  const next = host.start({
    CNI_NETWORK_CONFIG: networkConfig.replace('"info"', '"debug"'),
  });
  await next.until(
    "replaced",
    () => Deno.readTextFileSync(`${host.binDir}/kuma-cni`) === "#!/bin/sh\nexit 2\n",
  );
  await next.until("entry", () => host.readConf(list)!.includes('"log_level": "debug"'));
  await next.until("ready", () => host.isReady);
  await next.terminate();
  await host.run(["uninstall"]);
  equal(host.readConf(list), primaryList);
});

Deno.test("the ready file of a crashed process goes before anything else", async () => {
  await using host = new InstallerHost();
  Deno.writeTextFileSync(host.readyFile, "");
  const agent = host.start();
  await agent.until("reset", () => !host.isReady);
  await agent.until("waiting", () => agent.stderr.includes("Waiting for"));
  ok(!host.isReady);
  await agent.terminate();
});

Deno.test("a list held by another program's link becomes a file and then a link again", async () => {
  await using host = new InstallerHost();
  Deno.writeTextFileSync(`${host.root}/calico-real`, primaryList);
  Deno.symlinkSync("../calico-real", `${host.netDir}/${list}`);
  const before = host.snapshot();
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  deepEqual(host.typesIn(list).at(-1), "kuma-cni");
  equal(Deno.readTextFileSync(`${host.root}/calico-real`), primaryList);
  await agent.terminate();
  equal((await host.run(["uninstall"])).code, 0);
  deepEqual(host.snapshot(), before);
});

Deno.test("what the reference installer left is taken over and removed", async () => {
  await using host = new InstallerHost();
  const reserialised = (plugins: unknown[]) =>
    JSON.stringify({ cniVersion: "0.3.1", name: "k8s-pod-network", plugins }, null, 2);
  const old = { log_level: "info", name: "kuma-cni", type: "kuma-cni" };
  host.writeConf(list, reserialised([{ type: "calico" }, old, { type: "portmap" }, old]));
  host.writeConf("20-flannel.conf", reserialised([{ name: "cbr0", type: "flannel" }, old]));
  host.writeConf(kubeconfig, "old");
  host.writeConf(`${kubeconfig}123456789`, "left by a crash, with a token");
  Deno.writeTextFileSync(`${host.binDir}/kuma-cni`, "old");
  Deno.writeTextFileSync(`${host.binDir}/kuma-cni987654321`, "left by a crash");
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  deepEqual(host.typesIn(list), ["calico", "portmap", "kuma-cni"]);
  equal(Deno.statSync(`${host.netDir}/${kubeconfig}`).mode! & 0o7777, 0o600);
  await agent.terminate();
  equal((await host.run(["uninstall"])).code, 0);
  deepEqual(Object.keys(host.snapshot()).sort(), [`/net.d/${list}`, "/net.d/20-flannel.conf"]);
  deepEqual(host.typesIn(list), ["calico", "portmap"]);
  deepEqual(JSON.parse(host.readConf("20-flannel.conf")!), { name: "cbr0", type: "flannel" });
});

Deno.test("the reference's list in a .conf is put right and chained", async () => {
  await using host = new InstallerHost();
  const left = { cniVersion: "0.3.0", name: "k8s-pod-network", plugins: [{ type: "flannel" }] };
  host.writeConf("10-flannel.conf", JSON.stringify(left));
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  deepEqual(JSON.parse(host.readConf("10-flannel.conf")!), { type: "flannel" });
  deepEqual(host.typesIn("10-flannel-kuma.conflist"), ["flannel", "kuma-cni"]);
  await agent.terminate();
  await host.run(["uninstall"]);
  deepEqual(Object.keys(host.snapshot()), ["/net.d/10-flannel.conf"]);
});

Deno.test("uninstalling keeps the program while a file that names it cannot be edited", async () => {
  const { host, agent } = await installed();
  await using _ = host;
  await agent.terminate();
  const torn = host.readConf(list)!.slice(0, -10);
  host.writeConf(list, torn);
  const { code, stderr } = await host.run(["uninstall"]);
  equal(code, 1);
  match(stderr, /Cannot take the plugin out of the network configuration, so its program stays/);
  ok(exists(`${host.binDir}/kuma-cni`) && exists(`${host.netDir}/${kubeconfig}`));
  equal(host.readConf(list), torn);
});

Deno.test("files of ours that Cilium moved aside go, others stay", async () => {
  await using host = new InstallerHost();
  host.writeConf("05-cilium.conflist", primaryList);
  host.writeConf("10-aws.conflist.cilium_bak", primaryList);
  const before = host.snapshot();
  const setting = { CHAINED_CNI_PLUGIN: "false", CNI_CONF_NAME: "kuma-cni.conf" };
  const agent = host.start(setting);
  await agent.until("ready", () => host.isReady);
  Deno.renameSync(`${host.netDir}/kuma-cni.conf`, `${host.netDir}/kuma-cni.conf.cilium_bak`);
  await agent.until("there", () => exists(`${host.netDir}/kuma-cni.conf`));
  await agent.terminate();
  equal((await host.run(["uninstall"], setting)).code, 0);
  deepEqual(host.snapshot(), before);
});

Deno.test("a token that kubelet rotates by its links is followed at once", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const ca = Deno.readTextFileSync(`${host.secrets}/ca.crt`);
  const project = (version: string) => {
    Deno.mkdirSync(`${host.secrets}/..${version}`);
    Deno.writeTextFileSync(`${host.secrets}/..${version}/token`, `token-${version}`);
    Deno.writeTextFileSync(`${host.secrets}/..${version}/ca.crt`, ca);
    Deno.symlinkSync(`..${version}`, `${host.secrets}/..data_tmp`);
    Deno.renameSync(`${host.secrets}/..data_tmp`, `${host.secrets}/..data`);
  };
  project("1");
  for (const name of ["token", "ca.crt"]) {
    Deno.removeSync(`${host.secrets}/${name}`);
    Deno.symlinkSync(`..data/${name}`, `${host.secrets}/${name}`);
  }
  // No tick comes within the test.
  const agent = host.start({ CFGCHECK_INTERVAL: "3600", REFRESH_SA_TOKEN_INTERVAL: "3600" });
  await agent.until("ready", () => host.isReady);
  project("2");
  await agent.until("fresh", () => host.readConf(kubeconfig)!.includes('"token": "token-2"'), 2000);
  await agent.terminate();
});

Deno.test("uninstalling keeps what others changed since", async () => {
  const { host, agent } = await installed();
  await using _ = host;
  await agent.terminate();
  const edited = host.readConf(list)!.replace('"calico"', '"calico-2"');
  notEqual(edited, host.readConf(list));
  host.writeConf(list, edited);
  equal((await host.run(["uninstall"])).code, 0);
  equal(host.readConf(list), primaryList.replace('"calico"', '"calico-2"'));
});

Deno.test("a lost journal costs nothing", async () => {
  const { host, agent, before } = await installed();
  await using _ = host;
  await agent.terminate();
  Deno.writeTextFileSync(`${host.netDir}/kuma-cni.d/journal.json`, '{"version":1,"fi');
  equal((await host.run(["uninstall"])).code, 0);
  deepEqual(host.snapshot(), before);
});

Deno.test("wrong settings end with one line and the reference's exit code", async () => {
  await using host = new InstallerHost();
  const cases: [extra: Record<string, string>, code: number, message: RegExp][] = [
    [{ CFGCHECK_INTERVAL: "0" }, 1, /^install-cni: CFGCHECK_INTERVAL is "0", expected a number/],
    [
      { REFRESH_SA_TOKEN_INTERVAL: "-5" },
      1,
      /REFRESH_SA_TOKEN_INTERVAL is "-5", expected a number/,
    ],
    [{ SLEEP: "yes" }, 1, /SLEEP is "yes", expected true or false/],
    [{ CNI_LOG_LEVEL: "trace" }, 2, /CNI_LOG_LEVEL is "trace", expected off, info or debug/],
    [{ CNI_CONF_NAME: "../x.conf" }, 1, /CNI_CONF_NAME is "..\/x.conf", expected a file name/],
    [{ CNI_NET_DIR: "etc" }, 1, /CNI_NET_DIR is "etc", expected an absolute path/],
    [{ CNI_NETWORK_CONFIG: "{" }, 1, /CNI_NETWORK_CONFIG is "\{" \(Expected a key at line 1/],
    [{ CNI_NETWORK_CONFIG: '{"type":"x"}' }, 1, /Expected "kuma-cni" at 'type', found "x"/],
    [{ KUBERNETES_SERVICE_HOST: "" }, 3, /KUBERNETES_SERVICE_HOST is empty/],
    [{ CNI_SOURCE_DIR: "/nowhere" }, 3, /Cannot find the plugin "\/nowhere\/kuma-cni"/],
    [{ READY_FILE: "/nowhere/ready" }, 4, /Cannot use READY_FILE "\/nowhere\/ready"/],
  ];
  const before = host.snapshot();
  for (const [extra, code, message] of cases) {
    const result = await host.run([], extra);
    equal(result.code, code, JSON.stringify(extra) + result.stderr);
    match(result.stderr, message);
    equal(result.stderr.trimEnd().split("\n").length, 1);
  }
  deepEqual(host.snapshot(), before);
  const unknown = await host.run(["--cni-net-dri", "/x"]);
  equal(unknown.code, 1);
  match(unknown.stderr, /unknown option '--cni-net-dri'/);
});

Deno.test("flags win over the environment, and help names every setting", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const { code } = await host.run(["--sleep", "false"], { SLEEP: "true" });
  equal(code, 0);
  const { stdout } = await host.run(["install", "--help"]);
  for (const variable of Object.keys(host.environment())) {
    ok(new RegExp(`env:\\s+${variable}\\)`).test(stdout), variable);
  }
});
