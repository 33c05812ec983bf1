/**
 * The whole of it with Debian's containerd: install-cni puts the plugin into a running runtime's
 * folders, sandboxes start with and without rules, and everything goes away without a trace.
 */
import assert from "node:assert/strict";
import { libc } from "../src/linux/libc.ts";
import { ApiServer } from "./support/api_server.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { Containerd, type Sandbox } from "./support/containerd.ts";
import { contentsOf, exists } from "./support/files.ts";
import { TestNode } from "./support/node.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import { probe, type ProbedPod, redirected, untouched } from "./support/sandbox_probe.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const conflistName = "10-bridge.conflist";
const hostAddress = { ipv4: "10.88.0.1", ipv6: "fd88::1" } as const;

/** A running containerd with a primary plugin, and install-cni, which is not started yet. */
class Stage implements AsyncDisposable {
  readonly #resources = new AsyncDisposableStack();
  api!: ApiServer;
  containerd!: Containerd;
  node!: TestNode;

  static async set(
    options: { readonly confName: string; readonly env?: Readonly<Record<string, string>> },
  ): Promise<Stage> {
    const plugin = await compiledPlugin();
    const installer = await compiledInstaller();
    const stage = new Stage();
    try {
      const containerd = stage.#resources.use(await Containerd.start());
      stage.containerd = containerd;
      Deno.writeTextFileSync(`${containerd.netDir}/${conflistName}`, stage.conflist());
      await containerd.untilLoaded("bridge");
      // The runtime starts the plugin in its own namespace, so the API must be reachable there.
      const networkNamespace = stage.hostNamespace;
      stage.api = stage.#resources.use(await ApiServer.start({ networkNamespace }));
      stage.node = stage.#resources.use(
        new TestNode({
          api: stage.api,
          command: [installer],
          sourceDir: plugin.slice(0, plugin.lastIndexOf("/")),
          netDir: containerd.netDir,
          binDir: containerd.binDir,
          confName: options.confName,
          networkNamespace,
          network: { lookup_timeout_seconds: 1.5 },
          ...(options.env === undefined ? {} : { env: options.env }),
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
    return `{
  "name":"k8s-pod-network",   "cniVersion" : "0.4.0",${change}
  "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true, "mtu": 1400.0,
      "ipam": { "type": "host-local", "dataDir": "${this.containerd.folder}/ipam",
        "ranges": [ [{ "subnet": "10.88.0.0/24" }], [{ "subnet": "fd88::/64" }] ],
        "routes": [ { "dst": "0.0.0.0/0" }, { "dst": "::/0" } ] } }
  ]
}
`;
  }

  /** Starts install-cni and waits until containerd calls the plugin. */
  async install(): Promise<void> {
    await this.node.start();
    await this.containerd.untilLoaded("bridge", "kuma-cni");
  }

  /** Creates the pod in the API and starts its sandbox, as a kubelet does. */
  async run(pod: PodObject, dnsServers?: readonly string[]): Promise<Sandbox> {
    this.api.store.put(pod);
    return await this.containerd.runPodSandbox(requestOf(pod, dnsServers));
  }

  /** What the probes need to know, for each family. */
  targets({ networkNamespace, ips }: Sandbox): ProbedPod[] {
    assert.equal(ips.length, 2, `The pod must have addresses of both families, has ${ips}`);
    return ips.map((podAddress) => ({
      pod: networkNamespace,
      host: this.hostNamespace,
      podAddress,
      hostAddress: podAddress.includes(":") ? hostAddress.ipv6 : hostAddress.ipv4,
    }));
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

Deno.test("sandboxes get their rules while the agent dies and others write, and all goes away", async () => {
  await using stage = await Stage.set({ confName: "" });
  const { containerd, node } = stage;
  const before = await stage.hostFiles();
  await stage.install();

  const meshed = await stage.run(injectedPod({ name: "meshed" }));
  stage.assertRedirected(meshed);
  const plain = await stage.run(plainPod({ name: "plain" }));
  stage.assertUntouched(plain);

  // Without the agent the plugin looks up its pod itself.
  await node.stop("SIGKILL");
  const orphan = await stage.run(injectedPod({ name: "orphan" }));
  stage.assertRedirected(orphan);
  const plainOrphan = await stage.run(plainPod({ name: "plain-orphan" }));
  stage.assertUntouched(plainOrphan);
  await stage.install();
  await node.until("the new agent serves", () => node.isServing());
  const adopted = await stage.run(injectedPod({ name: "adopted", form: "3" }));
  stage.assertRedirected(adopted);
  await node.until(
    "the new agent has the plugin's log",
    () => /kuma-cni\tPod's traffic is redirected.*"adopted"/.test(node.log),
  );

  // Another program writes its list anew, as primary plugins do when they restart.
  const rewritten = stage.conflist('\n  "disableCheck": true,');
  replaceFile(`${containerd.netDir}/${conflistName}`, rewritten);
  await node.until("the list is chained again", () => {
    const text = Deno.readTextFileSync(`${containerd.netDir}/${conflistName}`);
    return text.includes("disableCheck") && text.includes("kuma-cni");
  });
  await containerd.untilLoaded("bridge", "kuma-cni");
  const late = await stage.run(injectedPod({ name: "late" }));
  stage.assertRedirected(late);

  const { code, stderr } = await node.run("uninstall");
  assert.equal(code, 0, `${stderr}\n${node.log}`);
  await containerd.untilLoaded("bridge");
  const listPath = `${containerd.netDir}/${conflistName}`;
  assert.equal(Deno.readTextFileSync(listPath), rewritten);
  const listBefore = { [listPath]: before[listPath] };
  assert.deepEqual({ ...await stage.hostFiles(), ...listBefore }, before);
  stage.assertRedirected(meshed);
  await stage.removeAll([meshed, plain, orphan, plainOrphan, adopted, late]);
  assert.equal(await node.stop(), 0);
  assert.deepEqual({ ...await stage.hostFiles(), ...listBefore }, before);
});

Deno.test("an agent whose DaemonSet is gone leaves the host as it was, with sandboxes alive", async () => {
  const env = { POD_NAMESPACE: "kuma-system", POD_NAME: "kuma-cni-node-x" };
  await using stage = await Stage.set({ confName: conflistName, env });
  const { api, containerd, node } = stage;
  const owner = {
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { namespace: "kuma-system", name: "kuma-cni-node", uid: crypto.randomUUID() },
  };
  const own = plainPod({ namespace: "kuma-system", name: "kuma-cni-node-x" });
  own.metadata.ownerReferences = [{ ...owner, ...owner.metadata, controller: true }];
  api.store.put(owner);
  api.store.put(own);
  const before = await stage.hostFiles();
  await stage.install();
  const meshed = await stage.run(injectedPod({ name: "meshed" }));
  stage.assertRedirected(meshed);

  // Restarted by a rolling update: the DaemonSet is there, and so the plugin stays.
  assert.equal(await node.stop(), 0);
  assert.deepEqual(await containerd.loadedPlugins(), ["bridge", "kuma-cni"]);
  const between = await stage.run(injectedPod({ name: "between" }));
  stage.assertRedirected(between);
  await stage.install();

  api.store.delete("daemonsets", "kuma-system", "kuma-cni-node");
  assert.equal(await node.stop(), 0, node.log);
  await containerd.untilLoaded("bridge");
  assert.deepEqual(await stage.hostFiles(), before);
  const after = await stage.run(injectedPod({ name: "after" }));
  stage.assertUntouched(after);
  await stage.removeAll([meshed, between, after]);
  assert.deepEqual(await stage.hostFiles(), before);
});

Deno.test("the runtime tells the pod's resolvers and its UID, and shows why a pod was refused", async () => {
  await using stage = await Stage.set({ confName: "" });
  const { api, containerd } = stage;
  await stage.install();
  const config = "traffic.kuma.io/transparent-proxy-config";
  const selective = injectedPod({ name: "selective", form: "3" });
  const annotations = selective.metadata.annotations!;
  annotations[config] = annotations[config]!.replace("captureAll: true", "captureAll: false");
  const servers = [hostAddress.ipv4, hostAddress.ipv6];
  const toHost = await stage.run(selective, servers);
  stage.assertRedirected(toHost, "host");
  const elsewhere = structuredClone(selective);
  elsewhere.metadata.name = "elsewhere";
  elsewhere.metadata.uid = crypto.randomUUID();
  const toOthers = await stage.run(elsewhere, ["10.96.0.10", "fd96::10"]);
  stage.assertRedirected(toOthers, "none");

  // The API has a newer pod of that name than the one that is to be started.
  const pod = injectedPod({ name: "recreated" });
  api.store.put(pod);
  const stale = crypto.randomUUID();
  await assert.rejects(
    containerd.runPodSandbox({ ...requestOf(pod), uid: stale }),
    ({ message }: Error) => {
      assert.match(
        message,
        /plugin type="kuma-cni" .*failed \(add\): Could not find out whether pod/,
      );
      assert.ok(message.includes(`"demo/recreated" has the UID "${pod.metadata.uid}"`), message);
      assert.ok(message.includes(`the one with the UID "${stale}"`), message);
      return true;
    },
  );

  const wrong = injectedPod({ name: "wrong", form: "3", annotations: { [config]: "{ port: [" } });
  await assert.rejects(
    stage.run(wrong),
    /failed \(add\): Pod "?demo\/wrong"? cannot be redirected as its annotations ask: .*Correct the annotation/s,
  );
  const [first, second] = [toHost, toOthers];
  await stage.removeAll([first, second]);
});

function requestOf(pod: PodObject, dnsServers?: readonly string[]) {
  const { name, namespace, uid, annotations } = pod.metadata;
  return {
    name,
    namespace: namespace!,
    uid: uid!,
    annotations: annotations ?? {},
    ...(dnsServers === undefined ? {} : { dnsServers }),
  };
}

function replaceFile(path: string, text: string): void {
  Deno.writeTextFileSync(`${path}.new`, text);
  Deno.renameSync(`${path}.new`, path);
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
