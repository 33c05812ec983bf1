/**
 * The plugin, put there by the real install-cni, starts pods on a host that has nothing but the
 * runtime's two folders and /proc: no C library, no shell, no iptables, no /dev.
 */
import assert from "node:assert/strict";
import { libc } from "../src/linux/libc.ts";
import type { NamedNamespace } from "./support/topology.ts";
import { ApiServer } from "./support/api_server.ts";
import { compiledInstaller, compiledPlugin } from "./support/compiled.ts";
import { referenceOf } from "./support/cluster.ts";
import { createLonePod, LONE_POD_ADDRESS } from "./support/lone_pod.ts";
import { TestNode } from "./support/node.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import { bridgeResult, callPlugin, newContainerId } from "./support/runtime.ts";
import { isCaptured } from "./support/sandbox_probe.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const netDir = "/etc/cni/net.d";
const conflistName = "10-bridge.conflist";
const conflist = `{
  "cniVersion": "0.4.0", "name": "k8s-pod-network",
  "plugins": [ {"type": "bridge", "bridge": "cni0"} ]
}
`;

for (const binDir of ["/opt/cni/bin", "/home/kubernetes/bin", "/bin"]) {
  Deno.test(`pods start on a host that has only ${binDir}, ${netDir} and /proc`, async () => {
    const source = await compiledPlugin();
    const installer = await compiledInstaller();
    const folder = Deno.makeTempDirSync({ prefix: "kuma-test-scratch-" });
    try {
      const root = `${folder}/root`;
      for (const path of ["/proc", netDir, binDir]) {
        Deno.mkdirSync(`${root}${path}`, { recursive: true });
      }
      Deno.writeTextFileSync(`${root}${netDir}/${conflistName}`, conflist);
      const meshed = injectedPod({ name: "meshed" });
      const plain = plainPod({ name: "plain" });
      await using api = await ApiServer.start({ objects: [meshed, plain] });
      await using node = new TestNode({
        api,
        command: [installer],
        sourceDir: source.slice(0, source.lastIndexOf("/")),
        netDir: `${root}${netDir}`,
        binDir: `${root}${binDir}`,
        // The paths on the host, where they are not those that install-cni sees.
        env: { CNI_NET_DIR: netDir },
        network: {
          kubernetes: { kubeconfig: "__KUBECONFIG_FILEPATH__", cni_bin_dir: binDir },
        },
      });
      await node.start();
      using pod = createLonePod();
      // As docker and podman name it; /run/netns is not there either.
      await using resident = new Resident(pod);
      const program = enteringProgram(folder, root, `${binDir}/kuma-cni`);
      const call = (command: "ADD" | "CHECK" | "DEL", { metadata, ...rest }: PodObject) =>
        callPlugin(program, {
          command,
          containerId: newContainerId(),
          netns: `/proc/${resident.pid}/ns/net`,
          pod: referenceOf({ metadata, ...rest }),
          network: node.entry(conflistName),
          prevResult: bridgeResult(pod.path, { ipv4: LONE_POD_ADDRESS, gateway4: "10.90.0.1" }),
        });

      const skipped = await call("ADD", plain);
      assert.equal(skipped.code, 0, skipped.stdout + skipped.stderr);
      assert.equal(isCaptured(pod.path), false);
      const added = await call("ADD", meshed);
      assert.equal(added.code, 0, added.stdout + added.stderr);
      assert.ok(isCaptured(pod.path), "The meshed pod must be captured");
      await node.until(
        "the agent has the plugin's log",
        () => /kuma-cni\tPod's traffic is redirected.*"meshed"/.test(node.log),
      );

      await node.stop();
      // Without the agent the plugin asks the API server over TLS, with the kubeconfig.
      const alone = await call("ADD", meshed);
      assert.equal(alone.code, 0, alone.stdout + alone.stderr);
      assert.ok(isCaptured(pod.path));
      const log = Deno.readTextFileSync(`${root}${netDir}/kuma-cni.d/kuma-cni.log`);
      assert.match(log, /Pod's traffic is redirected.*"meshed"/);
      const checked = await call("CHECK", meshed);
      assert.equal(checked.code, 0, checked.stdout + checked.stderr);
      assert.equal((await call("DEL", meshed)).code, 0);

      const uninstalled = await node.run("uninstall");
      assert.equal(uninstalled.code, 0, uninstalled.stderr);
      assert.deepEqual(filesBelow(root), [`${netDir}/${conflistName}`]);
      assert.equal(Deno.readTextFileSync(`${root}${netDir}/${conflistName}`), conflist);
    } finally {
      Deno.removeSync(folder, { recursive: true });
    }
  });
}

/** A process in a pod's namespace, by which a runtime names that. */
class Resident implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;

  constructor(pod: NamedNamespace) {
    this.#process = pod.run(() =>
      new Deno.Command("sleep", { args: ["600"], stdin: "null" }).spawn()
    );
  }

  get pid(): number {
    return this.#process.pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGKILL");
    await this.#process.status;
  }
}

/** Writes a script that runs a program with another root, in a mount namespace that ends with it. */
function enteringProgram(folder: string, root: string, program: string): string {
  const path = `${folder}/enter`;
  const inside = `mount -t proc proc "${root}/proc" && exec chroot "${root}" "${program}"`;
  Deno.writeTextFileSync(
    path,
    `#!/bin/sh\nexec unshare --mount --propagation private sh -c '${inside}'\n`,
    { mode: 0o755 },
  );
  return path;
}

function filesBelow(root: string, folder = ""): string[] {
  return [...Deno.readDirSync(`${root}${folder}`)].flatMap(({ name, isDirectory }) => {
    const path = `${folder}/${name}`;
    return isDirectory ? filesBelow(root, path) : [path];
  });
}
