/**
 * The image of `deno task image` under Debian's containerd, started as the reference's DaemonSet
 * starts its own: command, environment, mounts, rights and probe are those of the reference's chart,
 * and only the image is ours.
 */
import { deepEqual, equal, match, notEqual } from "node:assert/strict";
import { setInterpreter } from "../installer/host/interpreter.ts";
import { digestOf } from "../scripts/package/oci.ts";
import { libc } from "../src/linux/libc.ts";
import { VERSION } from "../src/version.ts";
import { ApiServer } from "./support/api_server.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { pluginBehind } from "./support/shim.ts";
import { Containerd, type Sandbox } from "./support/containerd.ts";
import { InstallerContainer } from "./support/installer_container.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import { must } from "./support/programs.ts";
import { installerImage, type ManifestValues } from "./support/reference_manifest.ts";
import { installReference, uninstallReference } from "./support/reference_installer.ts";
import { callPlugin, newContainerId } from "./support/runtime.ts";
import { probe, redirected, untouched } from "./support/sandbox_probe.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const confName = "10-bridge.conflist";
const serviceAddress = "10.96.0.1";
const hostAddress = "10.88.0.1";

/** A node with a primary plugin and the image, on which nothing of ours is installed yet. */
class Node implements AsyncDisposable {
  readonly #resources = new AsyncDisposableStack();
  containerd!: Containerd;
  api!: ApiServer;

  static async set(): Promise<Node> {
    const node = new Node();
    const dist = (await compiledPlugin()).replace(/\/[^/]*$/, "");
    await compiledInstaller();
    try {
      const containerd = node.#resources.use(await Containerd.start());
      node.containerd = containerd;
      // Where the cluster's service for its API server would be; the node forwards nothing else.
      must("ip", "-n", containerd.networkNamespace, "address", "add", serviceAddress, "dev", "lo");
      node.api = node.#resources.use(
        await ApiServer.start({
          hostname: serviceAddress,
          networkNamespace: node.hostNamespace,
        }),
      );
      await containerd.importImage(await installerImage(dist));
      Deno.writeTextFileSync(`${containerd.netDir}/${confName}`, node.conflist());
      await containerd.untilLoaded("bridge");
    } catch (error) {
      await node[Symbol.asyncDispose]();
      throw error;
    }
    return node;
  }

  get hostNamespace(): string {
    return `/run/netns/${this.containerd.networkNamespace}`;
  }

  get values(): ManifestValues {
    const { netDir, binDir } = this.containerd;
    return { netDir, binDir, confName };
  }

  conflist(): string {
    return `{
  "name":"k8s-pod-network",   "cniVersion" : "0.4.0",
  "plugins": [
    { "type": "bridge", "bridge": "cni0", "isGateway": true,
      "ipam": { "type": "host-local", "dataDir": "${this.containerd.folder}/ipam",
        "ranges": [ [{ "subnet": "10.88.0.0/24" }] ], "routes": [ { "dst": "0.0.0.0/0" } ] } }
  ]
}
`;
  }

  install(
    values: Partial<ManifestValues> = {},
    env: Readonly<Record<string, string>> = {},
  ): Promise<InstallerContainer> {
    const { containerd, api } = this;
    return InstallerContainer.start({
      containerd,
      api,
      values: { ...this.values, ...values },
      env,
    });
  }

  async run(pod: PodObject): Promise<Sandbox> {
    this.api.store.put(pod);
    const { name, namespace, uid, annotations } = pod.metadata;
    return await this.containerd.runPodSandbox({
      name,
      namespace: namespace!,
      uid: uid!,
      annotations: annotations ?? {},
    });
  }

  assertRedirected(sandbox: Sandbox): void {
    const target = this.#target(sandbox);
    deepEqual(probe(target), redirected(target, "all"));
  }

  assertUntouched(sandbox: Sandbox): void {
    const target = this.#target(sandbox);
    deepEqual(probe(target), untouched(target));
  }

  #target({ networkNamespace, ip }: Sandbox) {
    return { pod: networkNamespace, host: this.hostNamespace, podAddress: ip, hostAddress };
  }

  /** Names, modes and texts of the host folders. */
  hostFiles(): Record<string, string> {
    const files: Record<string, string> = {};
    const visit = (folder: string) => {
      for (const { name } of Deno.readDirSync(folder)) {
        const path = `${folder}/${name}`;
        const { isDirectory, mode, size } = Deno.lstatSync(path);
        const text = path.startsWith(this.containerd.netDir) && !isDirectory
          ? Deno.readTextFileSync(path)
          : size;
        files[path] = `${((mode ?? 0) & 0o7777).toString(8)} ${isDirectory ? "" : text}`;
        if (isDirectory) visit(path);
      }
    };
    visit(this.containerd.netDir);
    visit(this.containerd.binDir);
    return files;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

const lockedDown = {
  allowPrivilegeEscalation: false,
  capabilities: { drop: ["ALL"] },
  seccompProfile: { type: "RuntimeDefault" },
} as const;

for (
  const { name, values } of [
    { name: "as the chart renders it", values: {} },
    {
      name: "without capabilities, privileges and unusual system calls",
      values: { containerSecurityContext: lockedDown },
    },
  ]
) {
  Deno.test(`the reference's DaemonSet with our image chains the plugin: ${name}`, async () => {
    await using node = await Node.set();
    const { containerd } = node;
    const before = node.hostFiles();
    const installer = await node.install(values, { KUMA_CNI_UNINSTALL: "true" });
    await installer.untilReady();
    await containerd.untilLoaded("bridge", "kuma-cni");

    const status = Deno.readTextFileSync(`/proc/${await installer.pid()}/status`);
    const locked = "containerSecurityContext" in values;
    equal(/^CapEff:\s*0+$/m.test(status), locked, status);
    equal(/^NoNewPrivs:\s*1$/m.test(status), locked, status);
    equal(/^Seccomp:\s*2$/m.test(status), locked, status);

    // Under its own name the image's only program is the plugin, as in the reference's image.
    const inside = await containerd.execSync(installer.id, ["/opt/cni/bin/kuma-cni", "--version"]);
    equal(inside.code, 0);
    match(inside.output, new RegExp(`^kuma-cni ${VERSION} \\((commit|unknown) [^)]+\\)\n$`));

    // The host gets the plugin of its own, though the image has the runtime only once.
    const { binDir } = containerd;
    const behind = pluginBehind(`${binDir}/kuma-cni`, binDir)!;
    notEqual(behind, `${binDir}/kuma-cni`, "the image has a shim");
    const program = await Deno.readFile(behind);
    const [loader] = Array.from(Deno.readDirSync(`${binDir}/kuma-cni.d`), ({ name }) => name)
      .flatMap((folder) =>
        Array.from(
          Deno.readDirSync(`${binDir}/kuma-cni.d/${folder}`),
          ({ name }) => `${folder}/${name}`,
        )
      ).filter((path) => path.includes("/ld-"));
    const built = setInterpreter(
      await Deno.readFile(await compiledPlugin()),
      `${binDir}/kuma-cni.d/${loader}`,
    );
    equal(digestOf(program), digestOf(built));

    node.assertRedirected(await node.run(injectedPod({ name: "meshed" })));
    node.assertUntouched(await node.run(plainPod({ name: "plain" })));
    match(installer.log, /kuma-cni\tPod's traffic is redirected.*"meshed"/);

    equal(await installer.stop(), 0);
    await containerd.untilLoaded("bridge");
    deepEqual(node.hostFiles(), before);
  });
}

Deno.test("the reference's DaemonSet with our image installs for Multus, which calls the plugin alone", async () => {
  await using node = await Node.set();
  const { containerd } = node;
  const netDir = `${containerd.folder}/multus-net.d`;
  Deno.mkdirSync(netDir);
  const before = node.hostFiles();
  const installer = await node.install(
    { netDir, confName: "kuma-cni.conf", chained: false },
    { KUMA_CNI_UNINSTALL: "true" },
  );
  await installer.untilReady();
  deepEqual(await containerd.loadedPlugins(), ["bridge"]);
  const network = JSON.parse(Deno.readTextFileSync(`${netDir}/kuma-cni.conf`));

  const pod = injectedPod({ name: "meshed" });
  const sandbox = await node.run(pod);
  node.assertUntouched(sandbox);
  // Multus runs where the container runtime does.
  const program = `${containerd.folder}/multus-delegate`;
  const enter = `exec nsenter --net=${node.hostNamespace} ${containerd.binDir}/kuma-cni`;
  Deno.writeTextFileSync(program, `#!/bin/sh\n${enter}\n`, { mode: 0o755 });
  const answer = await callPlugin(program, {
    command: "ADD",
    containerId: newContainerId(),
    netns: sandbox.networkNamespace,
    pod: { namespace: pod.metadata.namespace!, name: "meshed", uid: pod.metadata.uid! },
    network,
  });
  equal(answer.code, 0, answer.stdout + answer.stderr);
  node.assertRedirected(sandbox);
  equal(await installer.stop(), 0);
  deepEqual(node.hostFiles(), before);
  deepEqual(Array.from(Deno.readDirSync(netDir)), []);
});

Deno.test("our image takes the reference's place and gives it back, and pods start all the time", async () => {
  await using node = await Node.set();
  const { containerd } = node;
  const host = { netDir: containerd.netDir, binDir: containerd.binDir, confName };
  const before = node.hostFiles();
  installReference(host);
  const withReference = node.hostFiles();
  await containerd.untilLoaded("bridge", "kuma-cni");
  node.assertUntouched(await node.run(plainPod({ name: "before" })));

  let stopped = false;
  const started: string[] = [];
  const startPods = async (phase: string): Promise<void> => {
    for (let i = 0; !stopped; i++) {
      const name = `${phase}-${i}`;
      const { id } = await node.run(plainPod({ name }));
      started.push(name);
      await containerd.stopPodSandbox(id);
      await containerd.removePodSandbox(id);
    }
  };
  // The reference was killed, so that nothing of it was cleaned up.
  const whileUpgraded = startPods("upgrade");
  const ours = await node.install({}, { KUMA_CNI_UNINSTALL: "true" });
  await ours.untilReady();
  node.assertRedirected(await node.run(injectedPod({ name: "meshed" })));
  equal(await ours.stop(), 0);
  stopped = true;
  await whileUpgraded;
  // Everything of the reference is gone, too, but for the form that it gave the list.
  const list = `${containerd.netDir}/${confName}`;
  const left = node.hostFiles();
  deepEqual(Object.keys(left).sort(), Object.keys(before).sort());
  deepEqual(
    JSON.parse(Deno.readTextFileSync(list)).plugins.map(({ type }: { type: string }) => type),
    ["bridge"],
  );

  stopped = false;
  const whileGoingBack = startPods("back");
  installReference(host);
  await containerd.untilLoaded("bridge", "kuma-cni");
  const after = await node.run(plainPod({ name: "after" }));
  stopped = true;
  await whileGoingBack;
  deepEqual(node.hostFiles(), withReference);
  uninstallReference(host);
  await containerd.stopPodSandbox(after.id);
  deepEqual(Object.keys(node.hostFiles()).sort(), Object.keys(before).sort());
  for (const phase of ["upgrade", "back"]) {
    notEqual(started.filter((name) => name.startsWith(phase)).length, 0, phase);
  }
});
