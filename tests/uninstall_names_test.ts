/** Nobody may name what is gone: what uninstalling leaves for those who still call the plugin. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { isDelStub } from "../installer/host/del_stub.ts";
import { cachedChains } from "../installer/host/namers.ts";
import { Operations } from "../installer/host/operations.ts";
import { uninstall, UninstallError } from "../installer/loop/uninstall.ts";
import { headOf, type UninstallReport } from "../installer/loop/uninstall_report.ts";
import { mentionOf, referenceTo } from "../installer/runtime/mentions.ts";
import { exists } from "./support/files.ts";
import { InstallerHost, primaryList, primarySingle, quietLog } from "./support/installer_host.ts";
import "./support/installed_once.ts";
import { doWork } from "./support/installer_work.ts";

const list = "10-calico.conflist";
const entry = { type: "kuma-cni", name: "kuma-cni" };
const chainedList = { name: "n", cniVersion: "1.0.0", plugins: [{ type: "a" }, entry] };

class NamedHost extends InstallerHost {
  readonly hostRoot = `${this.root}/host`;
  readonly cache = `${this.hostRoot}/var/lib/cni`;

  writeHost(path: string, text: string): void {
    const full = `${this.hostRoot}${path}`;
    Deno.mkdirSync(full.slice(0, full.lastIndexOf("/")), { recursive: true });
    Deno.writeTextFileSync(full, text);
  }

  /** Writes what libcni keeps of a pod, and returns the path. */
  cachePod(id: string, chain: unknown, folder = "results"): string {
    const path = `/var/lib/cni/${folder}/n-${id}-eth0`;
    this.writeHost(
      path,
      JSON.stringify({
        kind: "cniCacheV1",
        containerId: id,
        config: btoa(JSON.stringify(chain)),
        ifName: "eth0",
        networkName: "n",
      }),
    );
    return `${this.hostRoot}${path}`;
  }

  async installed(): Promise<void> {
    equal(await doWork("install", this.#settings({}), new Operations()), undefined);
  }

  uninstall(extra: Record<string, string> = {}): Promise<UninstallReport> {
    const options = { settle: 0, patience: 50 };
    return uninstall(this.#settings(extra), new Operations(), quietLog(), options);
  }

  /** Uninstalls in vain; returns the reason, after which program and kubeconfig must be there. */
  async refused(extra: Record<string, string> = {}): Promise<string> {
    try {
      await this.uninstall(extra);
    } catch (error) {
      ok(error instanceof UninstallError, String(error));
      ok(exists(`${this.binDir}/kuma-cni`), "the program stays");
      ok(exists(`${this.netDir}/ZZZ-kuma-cni-kubeconfig`), "the kubeconfig stays");
      return error.message;
    }
    throw new Error("It was uninstalled although the plugin is still named");
  }

  /** Number of stored chains that name the plugin. */
  get storedChains(): number {
    const settings = this.#settings({});
    return cachedChains(new Operations(), settings).results.length;
  }

  get hasStub(): boolean {
    const path = `${this.binDir}/kuma-cni`;
    return exists(path) && isDelStub(Deno.readFileSync(path));
  }

  #settings(extra: Record<string, string>) {
    return this.settings({ MOUNTED_HOST_ROOT: this.hostRoot, ...extra });
  }
}

/** Where a name can stand besides the top level of a list. */
const places: readonly [name: string, text: string, place: RegExp][] = [
  [
    "a copy of our entry in Multus' delegates",
    JSON.stringify({ type: "multus", name: "m", delegates: [{ type: "a" }, entry] }),
    /at delegates\[1\]/,
  ],
  [
    "a copy of the chained list in Multus' delegates, keys in another case",
    JSON.stringify({ type: "multus", name: "m", Delegates: [chainedList] })
      .replace('"type":"kuma-cni"', '"Type":"kuma-cni"'),
    /at Delegates\[0\]\.plugins\[1\]/,
  ],
  [
    "a list nested in a plugin of a list",
    JSON.stringify({
      cniVersion: "1.0.0",
      name: "outer",
      plugins: [{ type: "b", args: { chain: chainedList } }],
    }),
    /at plugins\[0\]\.args\.chain\.plugins\[1\]/,
  ],
  [
    "a list in a text of a plugin",
    JSON.stringify({ type: "b", name: "b", config: JSON.stringify(chainedList) }),
    /at config/,
  ],
];

for (const [what, text, place] of places) {
  for (const file of ["00-multus.conf", "00-multus.json", "00-list.conflist", "sub/10-x.conf"]) {
    if (file.endsWith("list") !== what.includes("of a list")) continue;
    Deno.test(`the program stays while it is named by ${what}, in ${file}`, async () => {
      await using host = new NamedHost();
      host.writeConf(list, primaryList);
      await host.installed();
      if (file.includes("/")) Deno.mkdirSync(`${host.netDir}/sub`);
      Deno.writeTextFileSync(`${host.netDir}/${file}`, text);
      const reason = await host.refused();
      match(reason, place);
      match(reason, /so its program stays: ".*net\.d\/.*" names it at/);
      equal(host.readConf(list), primaryList, "the entry itself went");
      Deno.removeSync(`${host.netDir}/${file}`);
      equal(headOf(await host.uninstall()), "Uninstalled");
      ok(!exists(`${host.binDir}/kuma-cni`));
    });
  }
}

Deno.test("the program stays while a file in a folder of Multus names it", async () => {
  for (
    const folder of ["/etc/cni/multus/net.d", "/run/multus/cni/net.d", "/etc/kubernetes/cni/net.d"]
  ) {
    await using host = new NamedHost();
    host.writeConf(list, primaryList);
    await host.installed();
    host.writeHost(`${folder}/kuma-cni.conf`, JSON.stringify(entry));
    match(await host.refused(), /kuma-cni\.conf" names it at the top level/);
    Deno.removeSync(`${host.hostRoot}${folder}/kuma-cni.conf`);
    equal(headOf(await host.uninstall()), "Uninstalled");
  }
});

Deno.test("a list of ours stays while clusterNetwork names it, and is not tidied away either", async () => {
  await using host = new NamedHost();
  const derived = "10-flannel-kuma.conflist";
  host.writeConf("10-flannel.conf", primarySingle);
  host.writeConf(
    "00-multus.conf",
    JSON.stringify({ type: "multus", name: "m", clusterNetwork: `/etc/cni/net.d/${derived}` }),
  );
  // It is written although Multus names a file that is not there yet.
  await host.installed();
  const content = host.readConf(derived)!;
  match(await host.refused(), /00-multus\.conf" names this file at clusterNetwork/);
  equal(host.readConf(derived), content);

  // The primary plugin gets a list, to which the entry goes; Multus still calls the other file.
  Deno.removeSync(`${host.netDir}/10-flannel.conf`);
  host.writeConf("10-flannel.conflist", primaryList);
  await doWork("install", host.settings({ MOUNTED_HOST_ROOT: host.hostRoot }), new Operations());
  equal(host.readConf(derived), content);

  host.writeConf(
    "00-multus.conf",
    JSON.stringify({
      type: "multus",
      name: "m",
      clusterNetwork: "/etc/cni/net.d/10-flannel.conflist",
    }),
  );
  equal(headOf(await host.uninstall()), "Uninstalled");
  ok(!exists(`${host.netDir}/${derived}`));
});

Deno.test("pods of CRI-O can be deleted after uninstalling: a stub stays while chains name us", async () => {
  await using host = new NamedHost();
  host.writeHost("/etc/crio/crio.conf", "");
  for (const type of ["calico", "portmap"]) {
    Deno.writeTextFileSync(`${host.binDir}/${type}`, "#!/bin/sh\n", { mode: 0o755 });
  }
  host.writeConf(list, primaryList);
  host.cachePod("other", { ...chainedList, plugins: [{ type: "a" }] });
  const before = host.snapshot();
  await host.installed();
  const pod = host.cachePod("pod-1", JSON.parse(host.readConf(list)!));

  const first = await host.uninstall();
  match(
    first.stub ?? "",
    /1 chain\(s\) of running pods name the plugin, for example ".*pod-1-eth0"/,
  );
  ok(host.hasStub);
  equal(host.readConf(list), primaryList);
  deepEqual(
    Object.keys(host.snapshot()).filter((path) => !(path in before)).sort(),
    ["/bin/kuma-cni", "/net.d/kuma-cni.d", "/net.d/kuma-cni.d/installed.json"],
    "nothing but the stub and its record",
  );
  const del = await new Deno.Command(`${host.binDir}/kuma-cni`, {
    env: { CNI_COMMAND: "DEL" },
    stdin: "null",
  }).output();
  equal(del.code, 0, "the chain of the pod's birth can be called");

  // Again: it stays, and what check tells is known.
  const second = await host.uninstall();
  ok(second.stub !== undefined && host.hasStub);
  equal(host.storedChains, 1);

  // The last pod goes, and the stub with the next run.
  Deno.removeSync(pod);
  const third = await host.uninstall();
  equal(third.stub, undefined);
  ok(
    third.removed.some((what) => what.startsWith("the stub of the plugin in")),
    `${third.removed}`,
  );
  deepEqual(host.snapshot(), before);
});

Deno.test("ended at any operation, uninstalling leaves a program that answers, and can be continued", async () => {
  const ended = new Error("The process has ended here");
  for (let endAt = 1;; endAt++) {
    await using host = new NamedHost();
    host.shipLibraries("1");
    host.writeConf(list, primaryList);
    const before = host.snapshot();
    await host.installed();
    const pod = host.cachePod("pod-1", chainedList);
    let count = 0;
    // A process that has ended does nothing more, so nothing after that operation is done either.
    const operations = new Operations(({ changes }) => {
      if (changes && ++count >= endAt) throw ended;
    });
    const settings = host.settings({ MOUNTED_HOST_ROOT: host.hostRoot });
    const options = { settle: 0, patience: 0 };
    const isDone = await uninstall(settings, operations, quietLog(), options)
      .then(() => true, () => false);
    const program = Deno.readFileSync(`${host.binDir}/kuma-cni`);
    const isWhole = exists(`${host.binDir}/kuma-cni.d/1/libc.so.6`) &&
      new TextDecoder().decode(program).endsWith("program of version 1");
    ok(isWhole || isDelStub(program), `ended at ${endAt}`);
    ok((await host.uninstall()).stub !== undefined && host.hasStub, `ended at ${endAt}`);
    Deno.removeSync(pod);
    await host.uninstall();
    deepEqual(host.snapshot(), before, `ended at ${endAt}`);
    if (isDone) {
      ok(endAt > 10, `${endAt}`);
      return;
    }
  }
});

Deno.test("pods that cannot be deleted any more get the stub where the plugin is gone already", async () => {
  await using host = new NamedHost();
  host.writeConf(list, primaryList);
  const before = host.snapshot();
  const pod = host.cachePod("pod-1", chainedList);
  ok((await host.uninstall()).stub !== undefined && host.hasStub);
  Deno.removeSync(pod);
  equal((await host.uninstall()).stub, undefined);
  deepEqual(host.snapshot(), before);
});

Deno.test("a stub becomes the plugin again with the next installation", async () => {
  await using host = new NamedHost();
  host.writeConf(list, primaryList);
  await host.installed();
  host.cachePod("pod-1", chainedList);
  ok((await host.uninstall()).stub !== undefined && host.hasStub);
  await host.installed();
  const program = (folder: string) => Deno.readTextFileSync(`${folder}/kuma-cni`);
  equal(program(host.binDir), program(host.sourceDir));
});

Deno.test("chains of cri-dockerd and Multus count, those of a certain containerd do not", async () => {
  for (
    const [folder, config, stays] of [
      ["cache/results", "", true],
      ["results", "", true],
      ["results", "version = 2", false],
      ["multus", "version = 2", true],
    ] as const
  ) {
    await using host = new NamedHost();
    host.writeConf(list, primaryList);
    if (config !== "") host.writeHost("/etc/containerd/config.toml", config);
    await host.installed();
    host.cachePod("pod-1", chainedList, folder);
    const { stub } = await host.uninstall();
    deepEqual([stub !== undefined, host.hasStub], [stays, stays], `${folder}, "${config}"`);
  }
});

Deno.test("a cache that is not mounted: CRI-O gets the stub, else it is said what is not known", async () => {
  for (const [runtime, stays] of [["cri-o", true], ["auto", false]] as const) {
    await using host = new NamedHost();
    equal(headOf(await host.uninstall({ CNI_RUNTIME: runtime })), "Nothing was installed");
    ok(!host.hasStub, "where nothing was, nothing is left");
    for (const type of ["calico", "portmap"]) {
      Deno.writeTextFileSync(`${host.binDir}/${type}`, "", { mode: 0o755 });
    }
    host.writeConf(list, primaryList);
    await host.installed();
    const report = await host.uninstall({ CNI_RUNTIME: runtime });
    deepEqual([report.stub !== undefined, host.hasStub], [stays, stays]);
    const said = report.stub ?? report.unknown ?? "";
    match(said, /"[^"]*\/host\/var\/lib\/cni"( of MOUNTED_CNI_CACHE_DIR)? is not there/);
    // Another mount can be named.
    host.cachePod("other", { name: "n", plugins: [{ type: "a" }] });
    const again = await host.uninstall({
      CNI_RUNTIME: runtime,
      MOUNTED_CNI_CACHE_DIR: host.cache,
    });
    deepEqual([again.stub, host.hasStub], [undefined, false]);
  }
});

Deno.test("uninstalling with another bin dir than installing is noticed", async () => {
  await using host = new NamedHost();
  host.writeConf(list, primaryList);
  const before = host.snapshot();
  await host.installed();
  const installed = host.snapshot();
  const wrong = `${host.root}/wrong`;
  Deno.mkdirSync(wrong);
  const { code, stdout, stderr } = await host.run(["uninstall"], { MOUNTED_CNI_BIN_DIR: wrong });
  equal(code, 1);
  equal(stdout, "");
  match(
    stderr,
    /The plugin was installed into "\/opt\/cni\/bin" of the host \(seen there as ".*\/bin"\), and there is none in ".*\/wrong" of MOUNTED_CNI_BIN_DIR; nothing was changed/,
  );
  delete installed["/net.d/kuma-cni.d/lock"];
  const now = host.snapshot();
  delete now["/net.d/kuma-cni.d/lock"];
  deepEqual(now, installed);

  const right = await host.run(["uninstall"]);
  equal(right.code, 0, right.stderr);
  match(right.stdout, /^Uninstalled\n/);
  match(right.stdout, /removed: the entry of "\/etc\/cni\/net\.d\/10-calico\.conflist"/);
  match(right.stdout, new RegExp(`removed: the plugin in "${host.binDir}"`));
  match(right.stdout, /removed: the kubeconfig "ZZZ-kuma-cni-kubeconfig" in/);
  deepEqual(host.snapshot(), before);
});

Deno.test("where nothing was installed, uninstalling says so, and where it has looked", async () => {
  await using host = new NamedHost();
  host.writeConf(list, primaryList);
  const before = host.snapshot();
  const { code, stdout, stderr } = await host.run(["uninstall"]);
  equal(code, 0, stderr);
  match(stdout, /^Nothing was installed\n/);
  match(stdout, new RegExp(`not found: the plugin in "${host.binDir}" of MOUNTED_CNI_BIN_DIR`));
  match(stdout, new RegExp(`not found: an entry in the files of "${host.netDir}" of MOUNTED_CNI`));
  ok(!stdout.includes("removed:"), stdout);
  ok(!stderr.includes("Uninstalled"), stderr);
  deepEqual(host.snapshot(), before);
});

Deno.test("a program that is gone from the right folder keeps nobody from uninstalling", async () => {
  await using host = new NamedHost();
  host.writeConf(list, primaryList);
  await host.installed();
  Deno.removeSync(`${host.binDir}/kuma-cni`);
  const report = await host.uninstall();
  ok(report.notFound.some((what) => what.startsWith("the plugin in")), `${report.notFound}`);
  equal(host.readConf(list), primaryList);
});

Deno.test("a name is found wherever it stands, and is not seen where there is none", () => {
  const text = (value: unknown) => JSON.stringify(value);
  const cases: readonly [text: string, place: string | undefined][] = [
    [text(entry), "the top level"],
    [text({ plugins: [{ TYPE: "kuma-cni" }] }), "plugins[0]"],
    ['{"type":"kuma-cni","type":"other"}', "the top level"],
    [text({ config: btoa(text(chainedList)) }), "config"],
    [text({ a: text({ b: text(entry) }) }), "a"],
    ['{"plugins":[{"type":"kuma-cni"', "its text, which is not JSON"],
    [text({ name: "kuma-cni", ipam: { types: "kuma-cni" } }), undefined],
    [text({ type: "kuma-cni-2" }), undefined],
    [text({ data: "kuma-cni", more: btoa("kuma-cni and more") }), undefined],
    ["", undefined],
  ];
  for (const [value, place] of cases) equal(mentionOf(value), place, value);
  const name = "10-a-kuma.conflist";
  equal(
    referenceTo(text({ clusterNetwork: `/host/etc/cni/net.d/${name}` }), name),
    "clusterNetwork",
  );
  equal(referenceTo(text({ a: [{ b: name }] }), name), "a[0].b");
  equal(referenceTo(text({ a: `x${name}` }), name), undefined);
});

Deno.test("check tells programs what stands in the plugin's place, the runtime and the stored chains", async () => {
  await using host = new NamedHost();
  host.writeHost("/etc/crio/crio.conf", "");
  host.writeConf(list, primaryList);
  Deno.writeTextFileSync(`${host.binDir}/calico`, "#!/bin/sh\n", { mode: 0o755 });
  Deno.writeTextFileSync(`${host.binDir}/portmap`, "#!/bin/sh\n", { mode: 0o755 });
  const check = async (extra: Record<string, string> = {}) => {
    const environment = { MOUNTED_HOST_ROOT: host.hostRoot, ...extra };
    const { code, stdout } = await host.run(["check", "-o", "json"], environment);
    const { plugin, runtime, cachedChains, installed } = JSON.parse(stdout);
    equal(code, installed ? 0 : 1);
    return { plugin, runtime: runtime.kind, cachedChains, installed };
  };
  const without = { runtime: "cri-o", installed: false };
  deepEqual(await check(), { ...without, plugin: "missing", cachedChains: null });
  await host.installed();
  const pod = host.cachePod("pod-1", chainedList);
  host.cachePod("other", { name: "n", plugins: [{ type: "a" }] });
  deepEqual(await check(), {
    runtime: "cri-o",
    installed: true,
    plugin: "current",
    cachedChains: 1,
  });
  ok((await host.uninstall()).stub !== undefined);
  deepEqual(await check(), { ...without, plugin: "stub", cachedChains: 1 });
  Deno.removeSync(pod);
  deepEqual(await check(), { ...without, plugin: "stub", cachedChains: 0 });
  const elsewhere = { CNI_RUNTIME: "containerd", MOUNTED_CNI_CACHE_DIR: `${host.root}/nowhere` };
  const { runtime, cachedChains } = await check(elsewhere);
  deepEqual([runtime, cachedChains], ["containerd", null]);
});
