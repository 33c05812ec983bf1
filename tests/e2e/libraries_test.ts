/**
 * Ready means captured, judged by the libraries of containerd and CRI-O themselves: on each net dir
 * install-cni does its work, then the real library starts a pod.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import { ApiServer } from "../support/api_server.ts";
import { compiledInstaller, compiledPlugin } from "../support/compiled.ts";
import { contentsOf } from "../support/files.ts";
import { TestNode } from "../support/node.ts";
import { listRuleset } from "../support/nft.ts";
import { injectedPod } from "../support/pods.ts";
import { newContainerId } from "../support/runtime.ts";
import { presentPrograms, type RuntimeCase, runtimeCases } from "../support/runtime_cases.ts";
import { createNamespace, uniqueName } from "../support/topology.ts";
import { parts, program } from "../../scripts/e2e/parts.ts";
import { type MatrixCase, multusCases } from "./support/multus_cases.ts";
import { driverVersion, fact } from "./support/facts.ts";
import { writeMultus } from "./support/multus_stand_in.ts";
import { type LibraryPod, RuntimeLibrary } from "./support/runtime_library.ts";
import { SpyPlugins } from "./support/spy_plugins.ts";
import "./support/cnitool_checks.ts";

const installer = await compiledInstaller();
const plugin = await compiledPlugin();

const programs = {
  cnitool: await program("cnitool"),
  containerd: await program("driver-containerd"),
  "cri-o": await program("driver-crio"),
};

const libcni = "github.com/containernetworking/cni";
fact(
  `containerd's go-cni ${driverVersion("containerd", "github.com/containerd/go-cni")} on libcni ` +
    `${driverVersion("containerd", libcni)}, CRI-O's ocicni ` +
    `${driverVersion("crio", "github.com/cri-o/ocicni")} on libcni ${
      driverVersion("crio", libcni)
    }; ` +
    `cnitool ${parts.cnitool.version}`,
);

type Kind = "containerd" | "cri-o";

/** Pods come under load, too: how long install-cni may need, and how long a "not ready" is watched. */
const patience = { ready: 45_000, notReady: 1000 };

/** A node whose folders the real library reads. */
class LibraryNode implements AsyncDisposable {
  readonly #resources = new AsyncDisposableStack();
  readonly node: TestNode;
  readonly spies: SpyPlugins;
  readonly cache: string;
  library!: RuntimeLibrary;

  constructor(readonly api: ApiServer, readonly kind: Kind, readonly wanted: RuntimeCase) {
    const folder = Deno.makeTempDirSync({ prefix: "kuma-e2e-" });
    this.#resources.defer(() => Deno.removeSync(folder, { recursive: true }));
    const hostRoot = `${folder}/host`;
    const [netDir, binDir] = [`${folder}/net.d`, `${folder}/bin`];
    this.node = this.#resources.use(
      new TestNode({
        api,
        command: [installer],
        sourceDir: plugin.slice(0, plugin.lastIndexOf("/")),
        netDir,
        binDir,
        env: { MOUNTED_HOST_ROOT: hostRoot },
      }),
    );
    this.cache = `${hostRoot}/var/lib/cni`;
    writeRuntimeConfig(hostRoot, kind, wanted, netDir, binDir);
    for (const [name, text] of Object.entries(wanted.files)) {
      const path = `${netDir}/${name}`;
      Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
      Deno.writeTextFileSync(path, text.replaceAll("/etc/cni/net.d", netDir));
      // As if nobody had been writing it just now.
      Deno.utimeSync(path, new Date(0), new Date(0));
    }
    const types = presentPrograms.filter((type) => type !== "kuma-cni" && type !== "multus");
    this.spies = new SpyPlugins(binDir, `${folder}/calls`, types);
    writeMultus(`${binDir}/multus`, programs.cnitool, `${folder}/multus`);
  }

  /** Starts the runtime: its library reads the folders as they are. */
  async startLibrary(): Promise<void> {
    const { netDir, binDir } = this.node;
    const third = this.kind === "containerd"
      ? String(this.wanted.maxConfNum ?? 1)
      : this.wanted.defaultNetwork ?? "";
    this.library = this.#resources.use(
      new RuntimeLibrary(programs[this.kind], [netDir, binDir, third], this.cache),
    );
    await this.library.load();
  }

  /** A new pod of the mesh, that the API server knows. */
  newPod(name: string): LibraryPod {
    const pod = injectedPod({ name });
    this.api.store.put(pod);
    const netns = this.#resources.use(createNamespace(uniqueName("kuma-e2e-")));
    const { namespace, uid } = pod.metadata;
    return { id: newContainerId(), namespace: namespace!, name, uid: uid!, netns };
  }

  /** How often our plugin has said that it redirected a pod, once its lines have arrived. */
  async redirections(name: string): Promise<number> {
    const count = () =>
      this.node.log.split("\n").filter((line) =>
        line.includes("Pod's traffic is redirected") && line.includes(`"${name}"`)
      ).length;
    await this.node.until("the plugin's line has arrived", () => count() > 0);
    return count();
  }

  /** Starts install-cni and tells whether it says Ready. */
  async install(): Promise<boolean> {
    const { node } = this;
    const isThere = () => Deno.stat(node.readyFile).then(() => true, () => false);
    node.spawn();
    await node.until(
      "install-cni has judged",
      async () =>
        await isThere() ||
        /\t(WARN|INFO|ERROR)\t.*(Waiting for|not captured|calls the plugin|Multus)/.test(node.log),
      patience.ready,
    );
    const until = performance.now() + patience.notReady;
    while (performance.now() < until) {
      if (await isThere()) return true;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    return false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

/** The runtime's own configuration, which install-cni finds below the host's root. */
function writeRuntimeConfig(
  hostRoot: string,
  kind: Kind,
  { maxConfNum = 1, defaultNetwork = "" }: RuntimeCase,
  netDir: string,
  binDir: string,
): void {
  const [folder, file, text] = kind === "containerd"
    ? [
      "/etc/containerd",
      "config.toml",
      `version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = ["${binDir}"]\n` +
      `conf_dir = "${netDir}"\nmax_conf_num = ${maxConfNum}\n`,
    ]
    : [
      "/etc/crio",
      "crio.conf",
      `[crio.network]\nnetwork_dir = "${netDir}"\nplugin_dirs = ["${binDir}"]\n` +
      `cni_default_network = "${defaultNetwork}"\n`,
    ];
  Deno.mkdirSync(hostRoot + folder, { recursive: true });
  Deno.writeTextFileSync(`${hostRoot}${folder}/${file}`, text);
}

/** What the model of `installer/runtime` was made from stays true of the libraries that are pinned. */
Deno.test("the libraries load what the table of tests/support/runtime_cases.ts says", async (t) => {
  await using api = await ApiServer.start();
  for (const wanted of runtimeCases) {
    for (const kind of ["containerd", "cri-o"] as const) {
      await t.step(`${kind}: ${wanted.name}`, async () => {
        await using host = new LibraryNode(api, kind, wanted);
        // CRI-O asks each program for its version.
        await Deno.copyFile(plugin, `${host.node.binDir}/kuma-cni`);
        await host.startLibrary();
        const { networks } = await host.library.load();
        const loaded = networks ?? null;
        if (kind === "containerd") {
          deepEqual(
            loaded?.map(({ types }) => types) ?? null,
            wanted.containerd?.map(([, ...types]) => types) ?? null,
          );
        } else {
          deepEqual(loaded?.map(({ name }) => name) ?? null, networkNamesOf(wanted));
        }
      });
    }
  }
});

/** Whether plugins stand in a folder beside the list. */
function hasFolder({ files }: RuntimeCase): boolean {
  return Object.keys(files).some((name) => name.includes("/"));
}

/** How often each plugin but ours is called for a pod: once for each place that it stands at. */
function callsOf(kind: Kind, { containerd, crio, primary }: MatrixCase): Record<string, number> {
  const networks = kind === "containerd" ? containerd ?? [] : crio === null ? [] : [crio];
  const calls: Record<string, number> = {};
  for (const type of networks.flatMap(([, ...types]) => types)) {
    for (const one of type === "multus" ? primary ?? [] : [type]) {
      if (one !== "kuma-cni") calls[one] = (calls[one] ?? 0) + 1;
    }
  }
  return calls;
}

/** The name of the network in the file that CRI-O is to use. */
function networkNamesOf({ crio, files }: RuntimeCase): string[] | null {
  if (crio === null) return null;
  const [file] = crio;
  // Of doubled keys and of those in several cases JSON.parse keeps the list's own.
  return [(JSON.parse(files[file]!) as { name?: string }).name ?? file];
}

const matrix = [...runtimeCases as readonly MatrixCase[], ...multusCases].flatMap((wanted) =>
  (["containerd", "cri-o"] as const).map((kind) => ({ kind, wanted }))
);

Deno.test("whenever install-cni is ready, a pod of the real library gets its rules from one call of each plugin", async (t) => {
  await using api = await ApiServer.start();
  let ready = 0;
  for (const [i, { kind, wanted }] of matrix.entries()) {
    await t.step(`${kind}: ${wanted.name}`, async () => {
      await using host = new LibraryNode(api, kind, wanted);
      const { node } = host;
      const before = await contentsOf([node.netDir, node.binDir]);
      const isReady = await host.install();
      await host.startLibrary();
      const pod = host.newPod(`pod-${i}`);
      const added = await host.library.add(pod);
      const captured = listRuleset(pod.netns).includes("kuma_mesh");
      if (isReady) {
        ready++;
        // Somebody else's program is missing: no pod starts, so none starts without its rules.
        if (added.error?.includes('failed to find plugin "gone"')) return;
        equal(added.error, undefined, `${added.error}\n${node.log}`);
        ok(captured, `install-cni says Ready and the pod has no rules\n${node.log}`);
        equal(await host.redirections(pod.name), 1, "calls of our plugin");
        const calls = host.spies.calls("ADD", pod.netns.path);
        const expected = callsOf(kind, wanted);
        // An entry of ours that stood there was put right, which can make the file a loaded one.
        if (!JSON.stringify(wanted.files).includes("kuma-cni")) deepEqual(calls, expected);
        for (const [type, count] of Object.entries(calls)) equal(count, expected[type] ?? 1, type);
      }

      // While an administrator's file names the plugin, it stays.
      if (hasFolder(wanted) && JSON.stringify(wanted.files).includes("20-second")) return;
      const { code, stderr } = await node.run("uninstall");
      equal(code, 0, stderr);
      await host.library.load();
      if (added.error === undefined) {
        const removed = await host.library.remove(pod);
        equal(removed.error, undefined, "a pod from before must be torn down");
        const added = host.spies.calls("ADD", pod.netns.path);
        // What came from the folder beside the list is not in the chain that libcni has stored.
        if (kind === "cri-o" && wanted.name.startsWith("plugins of the folder")) delete added.b;
        deepEqual(host.spies.calls("DEL", pod.netns.path), added);
      }
      // Where our entry stood before, it goes, too.
      if (JSON.stringify(wanted.files).includes("kuma-cni")) return;
      const after = await contentsOf([node.netDir, node.binDir]);
      // A stub may stay for CRI-O's stored chains.
      delete after[`${node.binDir}/kuma-cni`];
      for (const path of Object.keys(after)) if (path.includes("kuma-cni.d")) delete after[path];
      deepEqual(after, before, "the host's files");
    });
  }
  ok(ready >= matrix.length / 2, `install-cni was ready ${ready} times of ${matrix.length}`);
});
