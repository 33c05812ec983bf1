/** Pods keep starting, with their rules, while install-cni is restarted and upgraded under load. */
import assert from "node:assert/strict";
import { libc } from "../src/linux/libc.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import type { NamedNamespace } from "./support/topology.ts";
import { ApiServer } from "./support/api_server.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { pluginBehind } from "./support/shim.ts";
import { referenceOf } from "./support/cluster.ts";
import { createLonePod, LONE_POD_ADDRESS } from "./support/lone_pod.ts";
import { TestNode } from "./support/node.ts";
import { injectedPod, type PodObject } from "./support/pods.ts";
import { bridgeResult, callPlugin, newContainerId } from "./support/runtime.ts";
import { isCaptured } from "./support/sandbox_probe.ts";
import { versionOffset } from "./support/sleeping_program.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const conflist = `{
  "cniVersion": "0.4.0", "name": "k8s-pod-network",
  "plugins": [ {"type": "bridge", "bridge": "cni0"} ]
}
`;

/** Pods that start all the time, each call as the runtime would make it at that moment. */
class Load {
  /** Calls that were right. */
  good = 0;
  /** Calls that were right and fell in a time without agent, at least in part. */
  goodWithoutAgent = 0;
  readonly failures: string[] = [];
  #running = true;
  readonly #workers: Promise<void>[];

  constructor(
    private readonly host: { readonly netDir: string; readonly binDir: string },
    private readonly isAgentServing: () => Promise<boolean>,
    pods: readonly PodObject[],
  ) {
    this.#workers = pods.map((pod) => this.#work(pod));
  }

  /** Ends the load and waits for the last calls. */
  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#workers);
  }

  /** Waits for so many more right calls. */
  async more(count: number): Promise<void> {
    const wanted = this.good + count;
    const deadline = performance.now() + 10_000;
    while (this.good < wanted && this.failures.length === 0 && performance.now() < deadline) {
      await pause(5);
    }
  }

  async #work(pod: PodObject): Promise<void> {
    using netns = createLonePod();
    while (this.#running) {
      const hadAgent = await this.isAgentServing();
      const problem = await this.#add(pod, netns);
      if (problem !== undefined) this.failures.push(problem);
      else {
        this.good++;
        if (!hadAgent && !await this.isAgentServing()) this.goodWithoutAgent++;
      }
      // Without it, the calls take the processor time that the starts of the agent are waiting for.
      await pause(100);
    }
  }

  /** Starts one pod; returns what was wrong. */
  async #add(pod: PodObject, netns: NamedNamespace): Promise<string | undefined> {
    const { netDir, binDir } = this.host;
    const name = loadedConfiguration(netDir);
    if (name === undefined) return "There was no network configuration";
    const list = JSON.parse(Deno.readTextFileSync(`${netDir}/${name}`));
    const entry = list.plugins.at(-1);
    if (entry.type !== "kuma-cni") return `The last plugin was "${entry.type}"`;
    let code: number, stdout: string, stderr: string;
    try {
      ({ code, stdout, stderr } = await callPlugin(`${binDir}/${entry.type}`, {
        command: "ADD",
        containerId: newContainerId(),
        netns: netns.path,
        pod: referenceOf(pod),
        network: { ...entry, cniVersion: list.cniVersion, name: list.name },
        prevResult: bridgeResult(netns.path, { ipv4: LONE_POD_ADDRESS, gateway4: "10.90.0.1" }),
      }));
    } catch (error) {
      return `The plugin could not be started: ${error}`;
    }
    if (code !== 0) return `The plugin failed with ${code}: ${stdout}${stderr}`;
    if (!isCaptured(netns.path)) return "The pod had no rules";
    netns.run(() => new NftablesEngine().remove());
    return undefined;
  }
}

Deno.test("20 restarts and 5 upgrades while pods start: none fails, none is without rules", async () => {
  using cleanup = new DisposableStack();
  const host = makeHost(cleanup);
  const source = await compiledPlugin();
  const installer = await compiledInstaller();
  const pods = [1, 2, 3].map((number) => injectedPod({ name: `rolling-${number}` }));
  await using api = await ApiServer.start({ objects: pods });
  // What an upgrade brings: another program and another network configuration.
  const nodeOf = (version: number) =>
    new TestNode({
      api,
      command: [installer],
      sourceDir: makeImage(host.folder, source, version),
      netDir: host.netDir,
      binDir: host.binDir,
      network: { lookup_timeout_seconds: 20 + version },
    });
  let node = nodeOf(0);
  try {
    await node.start();
    const load = new Load(host, () => node.isServing(), pods);
    try {
      await load.more(3);
      const signals: Deno.Signal[] = [];
      for (let version = 0;;) {
        for (const signal of ["SIGTERM", "SIGKILL", "SIGTERM", "SIGKILL"] as const) {
          await node.stop(signal);
          signals.push(signal);
          await load.more(1);
          if (signals.length % 4 === 3) {
            // Killed once more in the middle of its start.
            node.spawn();
            await pause(20 + 15 * version);
            await node.stop("SIGKILL");
          }
          await node.start();
          await load.more(1);
        }
        if (version === 5) break;
        // The last ones as with `maxSurge`: the new agent comes before the old one goes.
        const old = node;
        const isSurge = version >= 3;
        if (!isSurge) await old.stop();
        node = nodeOf(++version);
        if (version === 2) {
          // Killed in the middle of the upgrade.
          node.spawn();
          await pause(250);
          await node.stop("SIGKILL");
        }
        const started = node.start();
        if (isSurge) {
          await pause(300);
          await old.stop();
        }
        await started;
        await old[Symbol.asyncDispose]();
        assert.equal(installedVersion(host.binDir), version);
        assert.equal(node.entry("10-bridge.conflist").lookup_timeout_seconds, 20 + version);
        Deno.removeSync(`${host.folder}/image-${version - 1}`, { recursive: true });
        await load.more(3);
      }
      assert.ok(signals.length >= 20);
    } finally {
      await load.stop();
    }
    assert.deepEqual(load.failures.slice(0, 10), [], node.log);
    assert.ok(load.good >= 100, `only ${load.good} pods were started`);
    assert.ok(load.goodWithoutAgent >= 20, `only ${load.goodWithoutAgent} without agent`);
    await node.run("uninstall");
    assert.equal(Deno.readTextFileSync(`${host.netDir}/10-bridge.conflist`), conflist);
    assert.deepEqual([...Deno.readDirSync(host.binDir)], []);
  } finally {
    await node[Symbol.asyncDispose]();
  }
});

function makeHost(cleanup: DisposableStack): { folder: string; netDir: string; binDir: string } {
  const folder = Deno.makeTempDirSync({ prefix: "kuma-test-rolling-" });
  cleanup.defer(() => Deno.removeSync(folder, { recursive: true }));
  const [netDir, binDir] = [`${folder}/net.d`, `${folder}/bin`];
  for (const path of [netDir, binDir]) Deno.mkdirSync(path);
  Deno.writeTextFileSync(`${netDir}/10-bridge.conflist`, conflist);
  return { folder, netDir, binDir };
}

/** The image of a version: the same plugin with another hash. */
function makeImage(folder: string, plugin: string, version: number): string {
  const image = `${folder}/image-${version}`;
  Deno.mkdirSync(`${image}/kuma-cni.lib`, { recursive: true });
  Deno.copyFileSync(plugin, `${image}/kuma-cni`);
  using file = Deno.openSync(`${image}/kuma-cni`, { write: true });
  file.seekSync(versionOffset, Deno.SeekMode.Start);
  file.writeSync(Uint8Array.of(version));
  const copyFolder = (from: string, to: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(from)) {
      if (isDirectory) {
        Deno.mkdirSync(`${to}/${name}`);
        copyFolder(`${from}/${name}`, `${to}/${name}`);
      } else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
    }
  };
  copyFolder(`${plugin}.lib`, `${image}/kuma-cni.lib`);
  // Upgrades go from one layout of the bin dir to the other and back, one from shim to shim.
  if ([1, 3, 4].includes(version)) Deno.copyFileSync(`${plugin}.shim`, `${image}/kuma-cni.shim`);
  return image;
}

function installedVersion(binDir: string): number {
  using file = Deno.openSync(pluginBehind(`${binDir}/kuma-cni`, binDir)!, { read: true });
  const header = new Uint8Array(16);
  file.readSync(header);
  return header[versionOffset]!;
}

/** The file that a runtime loads: the first by name that has one of the extensions. */
function loadedConfiguration(netDir: string): string | undefined {
  return [...Deno.readDirSync(netDir)].map(({ name }) => name)
    .filter((name) => /\.(conf|conflist|json)$/.test(name)).sort()[0];
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
