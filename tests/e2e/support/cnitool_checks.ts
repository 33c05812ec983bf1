/** Our plugin in chains of the reference plugins, of today and of Debian, called by cnitool. */
import { deepEqual, equal, match } from "node:assert/strict";
import { part, parts, program } from "../../../scripts/e2e/parts.ts";
import { supportedVersions } from "../../../src/cni/versions.ts";
import { ApiServer } from "../../support/api_server.ts";
import { compiledPlugin } from "../../support/compiled.ts";
import { listRuleset } from "../../support/nft.ts";
import { injectedPod } from "../../support/pods.ts";
import { createNamespace, type NamedNamespace, uniqueName } from "../../support/topology.ts";
import { withCache } from "./runtime_library.ts";

const plugin = await compiledPlugin();
const cnitool = await program("cnitool");

/** The reference plugins, and the newest version that they speak. */
const plugins = [
  {
    name: `reference plugins ${parts["cni-plugins"].version}`,
    folder: await part("cni-plugins"),
    newest: "1.1.0",
  },
  { name: "Debian's reference plugins", folder: "/usr/lib/cni", newest: "1.0.0" },
];

/** CHECK came with 0.4.0, GC and STATUS with 1.1.0. */
const since = (version: string, first: string) =>
  supportedVersions().indexOf(version) >= supportedVersions().indexOf(first);

/** A network that cnitool is asked to deal with, in a host's network namespace of its own. */
class Network implements AsyncDisposable {
  readonly #resources = new AsyncDisposableStack();
  readonly folder: string;
  readonly host: NamedNamespace;
  readonly pod: NamedNamespace;
  api!: ApiServer;

  constructor(private readonly cniPath: string) {
    this.folder = Deno.makeTempDirSync({ prefix: "kuma-e2e-" });
    this.#resources.defer(() => Deno.removeSync(this.folder, { recursive: true }));
    this.host = this.#resources.use(createNamespace(uniqueName("kuma-e2e-")));
    this.pod = this.#resources.use(createNamespace(uniqueName("kuma-e2e-")));
    Deno.mkdirSync(`${this.folder}/cache`);
  }

  async startApi(): Promise<void> {
    this.api = this.#resources.use(
      await ApiServer.start({ networkNamespace: this.host.path }),
    );
    await this.api.writeKubeconfig(`${this.folder}/kubeconfig`);
  }

  writeList(version: string, primary: readonly Record<string, unknown>[]): void {
    const entry = {
      type: "kuma-cni",
      lookup_timeout_seconds: 1.5,
      kubernetes: { kubeconfig: `${this.folder}/kubeconfig` },
    };
    Deno.writeTextFileSync(
      `${this.folder}/10-net.conflist`,
      JSON.stringify({ cniVersion: version, name: "net", plugins: [...primary, entry] }),
    );
  }

  async call(verb: string, podName = "meshed"): Promise<{ code: number; said: string }> {
    const [first, ...rest] = withCache(`${this.folder}/cache`, [
      cnitool,
      verb,
      "net",
      this.pod.path,
    ]);
    const { code, stdout, stderr } = await new Deno.Command("nsenter", {
      args: [`--net=${this.host.path}`, first!, ...rest],
      clearEnv: true,
      env: {
        PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
        CNI_PATH: `${this.cniPath}:${plugin.slice(0, plugin.lastIndexOf("/"))}`,
        NETCONFPATH: this.folder,
        CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME=${podName}`,
      },
      stdin: "null",
    }).output();
    const decoder = new TextDecoder();
    return { code, said: decoder.decode(stdout) + decoder.decode(stderr) };
  }

  async good(verb: string): Promise<string> {
    const { code, said } = await this.call(verb);
    equal(code, 0, `${verb}: ${said}`);
    return said;
  }

  get isCaptured(): boolean {
    return listRuleset(this.pod).includes("kuma_mesh");
  }

  /** Names of addresses that host-local has given out. */
  get addresses(): string[] {
    try {
      return [...Deno.readDirSync(`${this.folder}/cache/networks/net`)]
        .map(({ name }) => name).filter((name) => /^[0-9a-f]+[.:]/.test(name));
    } catch {
      return [];
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#resources.disposeAsync();
  }
}

const bridge = {
  type: "bridge",
  bridge: "cni0",
  isGateway: true,
  ipam: { type: "host-local", ranges: [[{ subnet: "10.88.0.0/24" }], [{ subnet: "fd88::/64" }]] },
};

/** Runs every verb that a version has. */
async function lifeOf(network: Network, version: string, chained: boolean): Promise<void> {
  if (since(version, "1.1.0")) await network.good("status");
  await network.good("add");
  equal(network.isCaptured, true, "the pod has its rules");
  equal(network.addresses.length > 0, chained);
  if (since(version, "0.4.0")) await network.good("check");
  if (since(version, "1.1.0")) {
    // cnitool names no pod as valid, so this is a sweep; a pod that is there keeps its rules.
    await network.good("gc");
    equal(network.isCaptured, true, "garbage collection takes no rules away");
  }
  await network.good("del");
  await network.good("del");
  deepEqual(network.addresses, [], "all addresses are free again");
}

for (const { name, folder, newest } of plugins) {
  Deno.test(`cnitool and ${name}: every version of the specification`, async (t) => {
    for (const version of supportedVersions().filter((one) => since(newest, one))) {
      await t.step(`${version}, chained`, async () => {
        await using network = new Network(folder);
        await network.startApi();
        network.api.store.put(injectedPod({ name: "meshed" }));
        // A bridge speaks both families from 0.3.0 on.
        const ranges = since(version, "0.3.0") ? bridge.ipam.ranges : [bridge.ipam.ranges[0]];
        network.writeList(version, [{ ...bridge, ipam: { ...bridge.ipam, ranges } }]);
        await lifeOf(network, version, true);
      });
      await t.step(`${version}, standalone`, async () => {
        await using network = new Network(folder);
        await network.startApi();
        network.api.store.put(injectedPod({ name: "meshed" }));
        network.writeList(version, []);
        await lifeOf(network, version, false);
      });
    }
    await t.step(
      "failing: the error reaches the caller, and DEL frees what the bridge took",
      async () => {
        await using network = new Network(folder);
        await network.startApi();
        network.api.store.put(
          injectedPod({
            name: "meshed",
            form: "3",
            annotations: {
              "traffic.kuma.io/transparent-proxy-config": "{ port: [",
            },
          }),
        );
        network.writeList("1.0.0", [bridge]);
        const { code, said } = await network.call("add");
        equal(code, 1, said);
        match(said, /plugin type="kuma-cni" .*failed \(add\): .*Correct the annotation/s);
        equal(network.isCaptured, false);
        await network.good("del");
        deepEqual(network.addresses, []);
      },
    );
  });
}
