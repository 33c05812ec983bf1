/** install-cni among files that nobody would expect: nothing of others is lost, nothing is stuck. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { Operations } from "../installer/host/operations.ts";
import { tryLock } from "../src/linux/file_exchange.ts";
import { exists } from "./support/files.ts";
import { InstallerHost, primaryList, primarySingle } from "./support/installer_host.ts";
import { doWork } from "./support/installer_work.ts";
import "./support/load_libc.ts";

// The C library is loaded once for the process and never unloaded, which no test must be blamed for.
const lockFile = Deno.makeTempFileSync({ prefix: "kuma-test-" });
using _lock = tryLock(lockFile);
Deno.removeSync(lockFile);

const list = "10-calico.conflist";

/** Installs once, and returns what is wrong afterwards and the number of changes of files. */
async function install(
  host: InstallerHost,
  extra: Record<string, string> = {},
): Promise<{ problem: string | undefined; changes: number }> {
  let changes = 0;
  const operations = new Operations((operation) => {
    if (operation.changes) changes++;
  });
  return { problem: await doWork("install", host.settings(extra), operations), changes };
}

async function uninstall(host: InstallerHost, extra: Record<string, string> = {}): Promise<void> {
  await doWork("uninstall", host.settings(extra), new Operations());
}

function makeFifo(path: string): void {
  ok(new Deno.Command("mkfifo", { args: [path] }).outputSync().success);
}

for (const confName of ["", "10-my-kuma.conflist"]) {
  Deno.test(`a foreign list is chained whatever its name ends in ("${confName}")`, async () => {
    await using host = new InstallerHost();
    host.writeConf("10-my-kuma.conflist", primaryList);
    const before = host.snapshot();
    const extra = { CNI_CONF_NAME: confName };
    equal((await install(host, extra)).problem, undefined);
    deepEqual(host.typesIn("10-my-kuma.conflist"), ["calico", "portmap", "kuma-cni"]);
    deepEqual(await install(host, extra), { problem: undefined, changes: 0 });
    await uninstall(host, extra);
    deepEqual(host.snapshot(), before);
  });
}

Deno.test("a foreign list at the place of our list for a single plugin comes back", async () => {
  await using host = new InstallerHost();
  host.writeConf("10-my.conf", primarySingle);
  host.writeConf("10-my-kuma.conflist", primaryList);
  const before = host.snapshot();
  const extra = { CNI_CONF_NAME: "10-my.conf" };
  equal((await install(host, extra)).problem, undefined);
  deepEqual(host.typesIn("10-my-kuma.conflist"), ["flannel", "kuma-cni"]);
  await uninstall(host, extra);
  deepEqual(host.snapshot(), before);
});

Deno.test("our list for a single plugin without a name is known as ours", async () => {
  await using host = new InstallerHost();
  const text = '{"type": "flannel", "delegate": {"isDefaultGateway": true}}';
  host.writeConf("10-flannel.conf", text);
  const before = host.snapshot();
  equal((await install(host)).problem, undefined);
  deepEqual(host.typesIn("10-flannel-kuma.conflist"), ["flannel", "kuma-cni"]);
  deepEqual(await install(host), { problem: undefined, changes: 0 });
  await uninstall(host);
  deepEqual(host.snapshot(), before);
});

const notFiles: Record<string, (path: string) => void> = {
  "a folder": (path) => Deno.mkdirSync(path),
  "a FIFO": makeFifo,
  "a link to nothing": (path) => Deno.symlinkSync("/nowhere/at/all", path),
  "a link in a circle": (path) => Deno.symlinkSync(path, path),
};

for (const [what, make] of Object.entries(notFiles)) {
  Deno.test(`${what} where the kubeconfig belongs is named, not fought`, async () => {
    await using host = new InstallerHost();
    host.writeConf(list, primaryList);
    make(`${host.netDir}/ZZZ-kuma-cni-kubeconfig`);
    const { problem, changes } = await install(host);
    match(
      problem ?? "",
      /ZZZ-kuma-cni-kubeconfig": it is (a folder|no file|a dead link); remove it/,
    );
    ok(changes < 30, `${changes} changes of files`);
    equal(host.readConf(list), primaryList, "no entry that names a kubeconfig that is not there");
  });

  Deno.test(`${what} among the configurations keeps nobody from uninstalling`, async () => {
    await using host = new InstallerHost();
    host.writeConf(list, primaryList);
    equal((await install(host)).problem, undefined);
    make(`${host.netDir}/90-odd.conflist`);
    equal((await install(host)).problem, undefined);
    await uninstall(host);
    equal(host.readConf(list), primaryList);
    ok(!exists(`${host.binDir}/kuma-cni`));
    Deno.removeSync(`${host.netDir}/90-odd.conflist`);
  });
}

Deno.test("files where our folders belong do not stop an uninstallation", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const before = host.snapshot();
  Deno.writeTextFileSync(`${host.netDir}/kuma-cni.d`, "");
  Deno.writeTextFileSync(`${host.binDir}/kuma-cni.d`, "");
  match((await install(host)).problem ?? "", /net\.d\/kuma-cni\.d" is not a folder; remove it/);
  await uninstall(host);
  deepEqual(host.snapshot(), before);
});

Deno.test("a right program that belongs to somebody else is replaced by root's own", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  Deno.copyFileSync(`${host.sourceDir}/kuma-cni`, `${host.binDir}/kuma-cni`);
  Deno.chmodSync(`${host.binDir}/kuma-cni`, 0o755);
  Deno.chownSync(`${host.binDir}/kuma-cni`, 1000, 1000);
  equal((await install(host)).problem, undefined);
  equal(Deno.statSync(`${host.binDir}/kuma-cni`).uid, Deno.uid());
});

Deno.test("a request to uninstall that nobody waits for any more is put away", async () => {
  await using host = new InstallerHost();
  host.writeConf(list, primaryList);
  const request = `${host.netDir}/kuma-cni.d/uninstall-requested`;
  Deno.mkdirSync(`${host.netDir}/kuma-cni.d`, { mode: 0o700 });
  Deno.writeTextFileSync(request, "");
  const longAgo = new Date(Date.now() - 3_600_000);
  Deno.utimeSync(request, longAgo, longAgo);
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  ok(!exists(request));
  equal((await host.run(["uninstall"])).code, 0);
  ok(!exists(`${host.netDir}/kuma-cni.d`));
});
