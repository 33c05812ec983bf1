/**
 * A primary plugin that rewrites its own file: the part of Cilium's agent that keeps the CNI
 * configuration (`tests/e2e/drivers/cilium`), with install-cni in the same folder.
 */
import { deepEqual, match, ok } from "node:assert/strict";
import { program } from "../../scripts/e2e/parts.ts";
import { InstallerHost } from "../support/installer_host.ts";
import { driverVersion, fact } from "./support/facts.ts";

fact(
  `Cilium ${driverVersion("cilium", "github.com/cilium/cilium")}'s own keeper of its CNI ` +
    "configuration file",
);
const keeper = await program("driver-cilium");
const own = "05-cilium.conflist";

/** Cilium's keeper at work; dispose of it to end it. */
class Keeper implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;

  constructor(host: InstallerHost, ...args: string[]) {
    this.#child = new Deno.Command(keeper, {
      args: [`--write-cni-conf-when-ready=${host.netDir}/${own}`, ...args],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!holds()) {
    ok(performance.now() < deadline, `Waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Whether a file stays as it is for a while. */
async function staysFor(milliseconds: number, host: InstallerHost, name: string): Promise<boolean> {
  const { ino, mtime } = Deno.statSync(`${host.netDir}/${name}`);
  await new Promise((resolve) => setTimeout(resolve, milliseconds));
  const later = Deno.statSync(`${host.netDir}/${name}`);
  return later.ino === ino && later.mtime?.getTime() === mtime?.getTime();
}

Deno.test("Cilium, not exclusive: chained behind cilium-cni, in peace, and gone again", async () => {
  await using host = new InstallerHost();
  await using _keeper = new Keeper(host, "--cni-exclusive=false");
  await until("Cilium has written its list", () => host.readConf(own) !== undefined);
  const before = host.readConf(own);
  const agent = host.start();
  await agent.until("it is ready", () => host.isReady, 30_000);
  deepEqual(host.typesIn(own), ["cilium-cni", "kuma-cni"]);
  ok(await staysFor(3000, host, own), "nobody writes any more");
  ok(host.isReady);
  await agent.terminate();
  const { code, stderr } = await host.run(["uninstall"]);
  ok(code === 0, stderr);
  deepEqual(host.readConf(own), before);
});

Deno.test("Cilium, exclusive: never ready for long, the setting is named, and the fight is paused", async () => {
  await using host = new InstallerHost();
  await using _keeper = new Keeper(host, "--cni-exclusive=true");
  await until("Cilium has written its list", () => host.readConf(own) !== undefined);
  const agent = host.start();
  await agent.until(
    "it names the setting",
    () => /cni\.exclusive/.test(agent.stderr),
    45_000,
  );
  match(agent.stderr, /WARN.*cni\.exclusive/);
  await agent.until("it is not ready", () => !host.isReady, 10_000);
  await agent.terminate();
});

Deno.test("Cilium, exclusive, over a list of others: it takes their files away, ours is not lost with them", async () => {
  await using host = new InstallerHost();
  host.writeConf("10-other.conflist", '{"cniVersion":"1.0.0","name":"o","plugins":[{"type":"a"}]}');
  await using _keeper = new Keeper(host, "--cni-exclusive=true");
  await until(
    "Cilium has put the other file aside",
    () => host.readConf("10-other.conflist.cilium_bak") !== undefined,
  );
  const agent = host.start();
  await agent.until("it names the setting", () => /cni\.exclusive/.test(agent.stderr), 45_000);
  await agent.terminate();
  const { code, stderr } = await host.run(["uninstall"]);
  ok(code === 0, stderr);
  deepEqual(host.typesIn(own), ["cilium-cni"]);
  deepEqual(host.typesIn("10-other.conflist.cilium_bak"), ["a"]);
});

Deno.test("Cilium, chained to another network: ours comes last in Cilium's copy", async () => {
  await using host = new InstallerHost();
  const source = JSON.stringify({
    cniVersion: "0.3.1",
    name: "bed",
    plugins: [{ type: "bridge" }, { type: "portmap", capabilities: { portMappings: true } }],
  });
  host.writeConf("10-bridge.conflist", source);
  await using _keeper = new Keeper(
    host,
    "--cni-chaining-mode=generic-veth",
    "--cni-chaining-target=bed",
    "--cni-exclusive=false",
  );
  await until("Cilium has written its list", () => host.readConf(own) !== undefined);
  const agent = host.start();
  await agent.until("it is ready", () => host.isReady, 30_000);
  deepEqual(host.typesIn(own), ["bridge", "portmap", "cilium-cni", "kuma-cni"]);
  deepEqual(host.readConf("10-bridge.conflist"), source);
  ok(await staysFor(3000, host, own), "nobody writes any more");
  await agent.terminate();
});
