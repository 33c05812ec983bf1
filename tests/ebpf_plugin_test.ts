/** The engine `ebpf` in the compiled plugin: chosen, fallen back from, checked, replaced, unpinned. */
import assert from "node:assert/strict";
import { readCounters, sweepPins } from "../src/engine/ebpf/ebpf_engine.ts";
import { agreementLaboratory } from "./support/arbitrary_redirect.ts";
import { Cluster } from "./support/cluster.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { type KubeletCgroup, makeKubeletCgroup } from "./support/kubelet_cgroup.ts";
import { type Laboratory, PEER, POD } from "./support/laboratory.ts";
import { tool } from "./support/iptables.ts";
import { BpfFileSystem } from "./support/pod_cgroup.ts";
import { injectedPod, type PodObject } from "./support/pods.ts";
import { newContainerId } from "./support/runtime.ts";

const ANNOTATION = "kuma.io/transparent-proxying-ebpf";

/** A node with a pod's cgroup, its namespace, and a BPF file system. */
class Node implements AsyncDisposable {
  readonly #stack = new AsyncDisposableStack();
  readonly bpffs = this.#stack.use(new BpfFileSystem());
  readonly containerId = newContainerId();
  readonly kubelet: KubeletCgroup;
  readonly lab: Laboratory;

  private constructor(readonly pod: PodObject, readonly cluster: Cluster) {
    this.#stack.use(cluster);
    this.kubelet = this.#stack.use(makeKubeletCgroup(pod.metadata.uid));
    this.lab = this.#stack.use(agreementLaboratory(5678, this.kubelet.pod));
  }

  static async start(annotations: Record<string, string> = {}): Promise<Node> {
    const pod = injectedPod({ annotations });
    return new Node(pod, await Cluster.start(await compiledPlugin(), [pod]));
  }

  get pins(): string[] {
    try {
      return [...Deno.readDirSync(`${this.bpffs.path}/kuma-cni`)].map(({ name }) => name);
    } catch {
      return [];
    }
  }

  call(
    command: "ADD" | "CHECK" | "DEL",
    network: Record<string, unknown>,
    containerId = this.containerId,
  ) {
    const { path: bpffs_path } = this.bpffs;
    return this.cluster.call(command, this.pod, {
      containerId,
      netns: this.lab.podNetns,
      network: {
        ...network,
        ebpf: { bpffs_path, cgroup_path: this.kubelet.root, ...network.ebpf as object },
      },
    });
  }

  async must(...args: Parameters<Node["call"]>): Promise<void> {
    const { code, stdout, stderr } = await this.call(...args);
    assert.equal(code, 0, `${args[0]}: ${stdout}${stderr}`);
  }

  /** What the plugin has logged: there is no agent that would take it. */
  get log(): string {
    const folder = `${this.cluster.directory}/kuma-cni.d`;
    return [...Deno.readDirSync(folder)].filter(({ name }) => name.endsWith(".log"))
      .map(({ name }) => Deno.readTextFileSync(`${folder}/${name}`)).join("");
  }

  get usesNftables(): boolean {
    return this.lab.inPod(() => tool("nft", ["list", "tables"])).includes("kuma_mesh");
  }

  get programs(): number {
    return readCounters(this.kubelet.pod.path)?.programs.length ?? 0;
  }

  /** Both directions and DNS end at the sidecar, however it is done. */
  assertCaptured(): void {
    this.lab.listenAgain();
    for (const family of ["ipv4", "ipv6"] as const) {
      const outbound = this.lab.probe({
        direction: "outbound",
        protocol: "tcp",
        uid: 1234,
        to: { address: PEER[family], port: 80 },
      });
      assert.deepEqual(
        [outbound.place, outbound.listenerPort, outbound.originalDestination],
        ["pod", 15001, { address: PEER[family], port: 80 }],
      );
      const inbound = this.lab.probe({
        direction: "inbound",
        protocol: "tcp",
        to: { address: POD[family], port: 8080 },
      });
      assert.deepEqual([inbound.place, inbound.listenerPort], ["pod", 15006]);
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

const options = { sanitizeResources: false }; // Engines load libraries when they first need them.

Deno.test(
  "plugin, engine ebpf: ADD captures, CHECK agrees and sees damage, DEL unpins",
  options,
  async () => {
    await using node = await Node.start();
    const ebpf = { engine: "ebpf" };
    for (let twice = 0; twice < 2; twice++) {
      await node.must("ADD", ebpf);
      await node.must("CHECK", ebpf);
      assert.ok(node.programs > 5, String(node.programs));
      assert.deepEqual(node.pins, [node.containerId]);
      assert.equal(node.usesNftables, false);
    }
    node.assertCaptured();
    const { outbound, inbound, lost } = readCounters(node.kubelet.pod.path)!;
    assert.deepEqual([outbound, inbound, lost], [2, 2, 0]);

    // DEL of another container, and with settings that no ADD would take.
    await node.must("DEL", ebpf, newContainerId());
    assert.deepEqual(node.pins, [node.containerId]);
    await node.must("DEL", { ...ebpf, log_level: "no such" });
    assert.deepEqual(node.pins, []);
    await node.must("DEL", ebpf);
    const checked = await node.call("CHECK", ebpf);
    assert.equal(checked.code, 1);
    assert.match(checked.stdout, /"code": ?102/);
  },
);

Deno.test(
  "plugin, engine ebpf: another engine replaces it in the next sandbox, and the other way round",
  options,
  async () => {
    await using node = await Node.start();
    for (const engine of ["ebpf", "nftables", "ebpf", "iptables", "ebpf"]) {
      await node.must("ADD", { engine });
      await node.must("CHECK", { engine });
      assert.deepEqual([node.programs > 0, node.usesNftables], [
        engine === "ebpf",
        engine === "nftables",
      ], engine);
      node.assertCaptured();
    }
    // What runs is right under another setting, too.
    await node.must("CHECK", { engine: "auto" });
  },
);

Deno.test(
  "plugin, engine ebpf: a pod has it by its annotation only where that is allowed",
  options,
  async () => {
    await using node = await Node.start({
      [ANNOTATION]: "enabled",
      [`${ANNOTATION}-bpf-fs-path`]: "/etc",
      [`${ANNOTATION}-cgroup-path`]: "/",
    });
    await node.must("ADD", { engine: "auto" });
    assert.deepEqual([node.programs, node.usesNftables], [0, true]);
    assert.match(node.log, /transparent-proxying-ebpf.*allow_pod_settings/);
    assert.match(node.log, /-cgroup-path.* has no effect: a pod chooses no file/);
    await node.must("ADD", { engine: "auto", allow_pod_settings: ["ebpf.enabled"] });
    assert.deepEqual([node.programs > 0, node.usesNftables], [true, false]);
    node.assertCaptured();
  },
);

Deno.test("plugin, engine ebpf: a pod can always refuse it", options, async () => {
  await using node = await Node.start({ [ANNOTATION]: "disabled" });
  await node.must("ADD", { engine: "ebpf", ebpf: { strict: true } });
  assert.deepEqual([node.programs, node.usesNftables], [0, true]);
});

const fallBacks: readonly [
  what: string,
  annotations: Record<string, string>,
  ebpf: Record<string, unknown>,
  code: string,
  reason: RegExp,
][] = [
  ["no cgroup2 there", {}, { cgroup_path: "/proc" }, "no-cgroup2", /no cgroup2 file system/],
  [
    "rules that programs cannot do",
    { "traffic.kuma.io/drop-invalid-packets": "true" },
    {},
    "rules",
    /cannot be seen/,
  ],
];

for (const [what, annotations, ebpf, code, reason] of fallBacks) {
  Deno.test(
    `plugin, engine ebpf: ${what}: one line says so and other rules are installed, or ADD fails where strict`,
    options,
    async () => {
      await using node = await Node.start(annotations);
      await node.must("ADD", { engine: "ebpf", ebpf });
      assert.deepEqual([node.programs, node.usesNftables], [0, true]);
      node.assertCaptured();
      const lines = node.log.split("\n").filter((line) =>
        line.includes('"ebpf\\" cannot be used') ||
        line.includes('"ebpf" cannot be used')
      );
      assert.equal(lines.length, 1, node.log);
      assert.match(lines[0]!, new RegExp(code));
      assert.match(lines[0]!, reason);
      await node.must("CHECK", { engine: "ebpf", ebpf });

      const strict = await node.call("ADD", { engine: "ebpf", ebpf: { ...ebpf, strict: true } });
      assert.equal(strict.code, 1);
      assert.match(strict.stdout, /"code": ?101/);
      assert.match(strict.stdout, /ebpf\.strict/);
      assert.match(strict.stdout, reason);
    },
  );
}

Deno.test(
  "plugin, engine ebpf: without a BPF file system incoming connections go through nftables",
  options,
  async () => {
    await using node = await Node.start();
    const ebpf = { bpffs_path: "/proc" };
    await node.must("ADD", { engine: "ebpf", ebpf });
    await node.must("CHECK", { engine: "ebpf", ebpf });
    assert.deepEqual([node.programs > 0, node.usesNftables], [true, true]);
    node.assertCaptured();
  },
);

Deno.test("pins of a pod that lives stay in a sweep, those of a dead one go", options, async () => {
  const dead = newContainerId();
  await using node = await Node.start();
  await node.must("ADD", { engine: "ebpf" });
  {
    await using other = await Node.start();
    const { path: bpffs_path } = node.bpffs;
    await other.must("ADD", { engine: "ebpf", ebpf: { bpffs_path } }, dead);
    assert.deepEqual(node.pins.toSorted(), [dead, node.containerId].toSorted());
    assert.ok(sweepPins(bpffs_path).every(({ removed }) => !removed));
  }
  // The kernel takes a namespace apart some time after its last user has gone.
  const deadline = performance.now() + 20_000;
  let swept: string[] = [];
  while (swept.length === 0 && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    swept = sweepPins(node.bpffs.path).filter(({ removed }) => removed)
      .map(({ containerId }) => containerId);
  }
  assert.deepEqual(swept, [dead]);
  assert.deepEqual(node.pins, [node.containerId]);
  await node.must("CHECK", { engine: "ebpf" });
});
