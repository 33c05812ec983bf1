/** A running containerd with a primary plugin, and install-cni on its folders. */
import assert from "node:assert/strict";
import { ApiServer } from "./api_server.ts";
import { bridgeConflist, conflistName, probedPods } from "./bridge_network.ts";
import { compiledInstaller, compiledPlugin } from "./compiled.ts";
import {
  Containerd,
  type RuntimePrograms,
  type Sandbox,
  type SandboxRequest,
} from "./containerd.ts";
import { contentsOf, exists } from "./files.ts";
import { TestNode } from "./node.ts";
import type { PodObject } from "./pods.ts";
import { probe, type ProbedPod, redirected, untouched } from "./sandbox_probe.ts";

/** Choices of a stage. */
export interface StageOptions {
  readonly confName: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Added to the plugin's configuration. */
  readonly network?: Readonly<Record<string, unknown>>;
  /** Folder with the plugin's files; the build's unless told. */
  readonly sourceDir?: string;
  /** Other programs than Debian's. */
  readonly programs?: RuntimePrograms;
}

/** Whether install-cni puts a shim where the runtime looks for the plugin. */
let usesShim = true;

/** From here on the stages of this test file install the full plugin where the runtime looks. */
export function installWithoutShim(): void {
  usesShim = false;
}

/** A running containerd with a primary plugin, and install-cni, which is not started yet. */
export class Stage implements AsyncDisposable {
  readonly #resources = new AsyncDisposableStack();
  api!: ApiServer;
  containerd!: Containerd;
  node!: TestNode;
  #expectsShim = false;

  static async set(options: StageOptions): Promise<Stage> {
    const plugin = await compiledPlugin();
    const installer = await compiledInstaller();
    const stage = new Stage();
    try {
      const containerd = stage.#resources.use(await Containerd.start(options));
      stage.containerd = containerd;
      Deno.writeTextFileSync(`${containerd.netDir}/${conflistName}`, stage.conflist());
      await containerd.untilLoaded("bridge");
      // The runtime starts the plugin in its own namespace, so the API must be reachable there.
      const networkNamespace = stage.hostNamespace;
      stage.api = stage.#resources.use(await ApiServer.start({ networkNamespace }));
      const sourceDir = options.sourceDir ?? plugin.slice(0, plugin.lastIndexOf("/"));
      const env = { ...options.env, ...(usesShim ? {} : { SHIM: "false" }) };
      stage.#expectsShim = env.SHIM !== "false" && exists(`${sourceDir}/kuma-cni.shim`);
      stage.node = stage.#resources.use(
        new TestNode({
          api: stage.api,
          command: [installer],
          sourceDir,
          netDir: containerd.netDir,
          binDir: containerd.binDir,
          confName: options.confName,
          networkNamespace,
          network: { lookup_timeout_seconds: 1.5, ...options.network },
          env,
        }),
      );
    } catch (error) {
      await stage[Symbol.asyncDispose]();
      throw error;
    }
    return stage;
  }

  /** Path of the namespace that containerd and the bridge are in. */
  get hostNamespace(): string {
    return `/run/netns/${this.containerd.networkNamespace}`;
  }

  /** A primary plugin's list with odd formatting, which nobody else may change. */
  conflist(change = ""): string {
    return bridgeConflist(`${this.containerd.folder}/ipam`, change);
  }

  /** Starts install-cni and waits until containerd calls the plugin. */
  async install(): Promise<void> {
    await this.node.start();
    await this.containerd.untilLoaded("bridge", "kuma-cni");
    // Else a test of one of the two ways could go the other.
    const { size } = Deno.statSync(`${this.containerd.binDir}/kuma-cni`);
    assert.equal(
      size < 1 << 16,
      this.#expectsShim,
      `the runtime starts a program of ${size} bytes`,
    );
  }

  /** Creates the pod in the API and starts its sandbox, as a kubelet does. */
  async run(
    pod: PodObject,
    dnsServers?: readonly string[],
    more: Partial<SandboxRequest> = {},
  ): Promise<Sandbox> {
    this.api.store.put(pod);
    return await this.containerd.runPodSandbox({ ...requestOf(pod, dnsServers), ...more });
  }

  /** What the probes need to know, for each family. */
  targets(sandbox: Sandbox): ProbedPod[] {
    return probedPods(sandbox, this.hostNamespace);
  }

  assertRedirected(sandbox: Sandbox, dns: "all" | "host" | "none" = "all"): void {
    for (const target of this.targets(sandbox)) {
      assert.deepEqual(probe(target), redirected(target, dns));
    }
  }

  assertUntouched(sandbox: Sandbox): void {
    for (const target of this.targets(sandbox)) assert.deepEqual(probe(target), untouched(target));
  }

  /** Stops and removes sandboxes and checks that nothing of them is left. */
  async removeAll(sandboxes: readonly Sandbox[]): Promise<void> {
    const { containerd } = this;
    for (const { id } of sandboxes) await containerd.stopPodSandbox(id);
    for (const { id } of sandboxes) await containerd.removePodSandbox(id);
    assert.deepEqual(await containerd.listPodSandboxes(), []);
    await this.node.until(
      "processes of the sandboxes have ended",
      () => containerd.leftProcesses().length === 0,
    );
    assert.deepEqual(sandboxes.filter(({ networkNamespace }) => exists(networkNamespace)), []);
    const mounts = Deno.readTextFileSync("/proc/self/mounts").split("\n");
    const left = sandboxes.flatMap(({ id, networkNamespace }) =>
      mounts.filter((line) => line.includes(id) || line.includes(networkNamespace.slice(4)))
    );
    assert.deepEqual(left, []);
    assert.deepEqual(sandboxes.flatMap(({ id }) => cgroupsNamed(id)), []);
    const addresses = [...Deno.readDirSync(`${containerd.folder}/ipam/k8s-pod-network`)]
      .map(({ name }) => name).filter((name) => /^[0-9a-f]+[.:]/.test(name));
    assert.deepEqual(addresses, [], "All addresses must be free again");
  }

  /** Names, modes and contents of the host folders. */
  async hostFiles(): Promise<Record<string, string>> {
    return await contentsOf([this.containerd.netDir, this.containerd.binDir]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** What a kubelet tells the runtime about a pod. */
export function requestOf(pod: PodObject, dnsServers?: readonly string[]): SandboxRequest {
  const { name, namespace, uid, annotations } = pod.metadata;
  return {
    name,
    namespace: namespace!,
    uid: uid!,
    annotations: annotations ?? {},
    ...(dnsServers === undefined ? {} : { dnsServers }),
  };
}

function cgroupsNamed(id: string): string[] {
  const found: string[] = [];
  const visit = (folder: string) => {
    for (const { name, isDirectory } of Deno.readDirSync(folder)) {
      if (!isDirectory) continue;
      if (name.includes(id)) found.push(`${folder}/${name}`);
      visit(`${folder}/${name}`);
    }
  };
  for (const { name } of Deno.readDirSync("/sys/fs/cgroup")) {
    if (exists(`/sys/fs/cgroup/${name}/kubepods`)) visit(`/sys/fs/cgroup/${name}/kubepods`);
  }
  return found;
}
