/** install-cni on file systems that are full or read-only: what works stays, and heals later. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { exists } from "./support/files.ts";
import { InstallerHost, primaryList } from "./support/installer_host.ts";
import { must } from "./support/programs.ts";

const list = "10-calico.conflist";
const kubeconfig = "ZZZ-kuma-cni-kubeconfig";

/** A small file system of its own on a folder, until disposed of. */
class SmallDisk implements Disposable {
  constructor(readonly path: string, size: string) {
    must("mount", "-t", "tmpfs", "-o", `size=${size},mode=755`, "kuma-test", path);
  }

  remount(option: "ro" | "rw"): void {
    must("mount", "-o", `remount,${option}`, this.path);
  }

  /** Fills the disk until nothing more fits. */
  fill(): void {
    using file = Deno.openSync(`${this.path}/.filler`, { create: true, append: true });
    try {
      for (;;) file.writeSync(new Uint8Array(4096));
    } catch (error) {
      match(String(error), /os error 28/);
    }
  }

  free(): void {
    Deno.removeSync(`${this.path}/.filler`);
  }

  [Symbol.dispose](): void {
    must("umount", "--lazy", this.path);
  }
}

/** CPU time of a process in seconds. */
function cpuSeconds(pid: number): number {
  const fields = Deno.readTextFileSync(`/proc/${pid}/stat`).split(") ")[1]!.split(" ");
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

Deno.test("a full net dir: no torn file, nothing taken away, healed when there is room", async () => {
  await using host = new InstallerHost();
  using disk = new SmallDisk(host.netDir, "64k");
  host.writeConf(list, primaryList);
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  const chained = host.readConf(list);

  disk.fill();
  // In place, as a rename would need room.
  Deno.writeTextFileSync(`${host.netDir}/${list}`, primaryList);
  await agent.until("not ready", () => !host.isReady);
  await agent.until(
    "said why",
    () => /Cannot put "10-calico.conflist" in place.*os error 28/.test(agent.stderr),
  );
  equal(host.readConf(list), primaryList);
  ok(exists(`${host.binDir}/kuma-cni`) && exists(`${host.netDir}/${kubeconfig}`));
  const before = cpuSeconds(agent.process.pid);
  await new Promise((resolve) => setTimeout(resolve, 1500));
  const used = cpuSeconds(agent.process.pid) - before;
  ok(used < 0.3, `${used} s of CPU while waiting for room`);
  const names = Array.from(Deno.readDirSync(host.netDir), (e) => e.name).sort();
  deepEqual(names, [".filler", list, kubeconfig, "kuma-cni.d"], "no temporary files are left");

  disk.free();
  await agent.until("ready", () => host.isReady, 30_000);
  equal(host.readConf(list), chained);
  equal(await agent.terminate(), 0);
});

Deno.test("a full bin dir: no half program, no entry that names it", async () => {
  await using host = new InstallerHost();
  using disk = new SmallDisk(host.binDir, "128k");
  host.writeConf(list, primaryList);
  Deno.writeFileSync(`${host.sourceDir}/kuma-cni`, new Uint8Array(40_000), { mode: 0o755 });
  disk.fill();
  const agent = host.start();
  await agent.until(
    "said why",
    () => /Cannot put "kuma-cni" in place.*os error 28/.test(agent.stderr),
  );
  ok(!host.isReady);
  deepEqual(Array.from(Deno.readDirSync(host.binDir), (e) => e.name), [".filler"]);
  equal(host.readConf(list), primaryList);
  disk.free();
  await agent.until("ready", () => host.isReady, 30_000);
  equal(Deno.statSync(`${host.binDir}/kuma-cni`).size, 40_000);
  // A corrupted program on a disk that has no room for a second one stays until there is.
  disk.fill();
  using program = Deno.openSync(`${host.binDir}/kuma-cni`, { write: true });
  program.writeSync(new Uint8Array([1]));
  await agent.until("not ready", () => !host.isReady);
  ok(exists(`${host.binDir}/kuma-cni`));
  disk.free();
  await agent.until("ready", () => host.isReady, 30_000);
  equal(Deno.readFileSync(`${host.binDir}/kuma-cni`)[0], 0);
  await agent.terminate();
});

Deno.test("a read-only net dir: stays ready on what is there, follows when it is writable", async () => {
  await using host = new InstallerHost();
  using disk = new SmallDisk(host.netDir, "256k");
  host.writeConf(list, primaryList);
  const agent = host.start();
  await agent.until("ready", () => host.isReady);
  disk.remount("ro");
  host.writeSecret("token", "token-2");
  await agent.until(
    "said why",
    () => /Cannot put "ZZZ-kuma-cni-kubeconfig" in place/.test(agent.stderr),
  );
  ok(host.isReady, "the old token still works");
  ok(host.readConf(kubeconfig)!.includes('"token": "token-1"'));

  await agent.kill();
  const { code, stderr } = await host.run(["uninstall"]);
  equal(code, 1);
  match(stderr, /so its program stays/);
  ok(exists(`${host.binDir}/kuma-cni`));

  // A new process finds everything in place that can be there.
  const next = host.start();
  await next.until("said why", () => /Cannot put "ZZZ-kuma-cni-kubeconfig"/.test(next.stderr));
  disk.remount("rw");
  await next.until(
    "refreshed",
    () => host.readConf(kubeconfig)!.includes('"token": "token-2"'),
    30_000,
  );
  await next.until("ready", () => host.isReady);
  equal(await next.terminate(), 0);
  equal((await host.run(["uninstall"])).code, 0);
  equal(host.readConf(list), primaryList);
});
