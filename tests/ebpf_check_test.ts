/** A pod's eBPF programs as operators check them, and the rights that the agent's sweep of pins needs. */
import assert from "node:assert/strict";
import { checkRulesOf } from "../installer/commands/engine.ts";
import { readRedirectInput } from "../installer/commands/redirect_input.ts";
import { configOptionsOf } from "../installer/commands/redirect_options.ts";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import { EbpfEngine, pinFolderOf } from "../src/engine/ebpf/ebpf_engine.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { Laboratory, PEER } from "./support/laboratory.ts";
import { ManifestFile } from "./support/manifest_file.ts";
import { BpfFileSystem, PodCgroup } from "./support/pod_cgroup.ts";
import { createNamespace } from "./support/topology.ts";

const values = { resolver: [], allowPodSetting: [], engine: "auto" as const };
const options = { sanitizeResources: false }; // Engines load libraries when they first need them.
const STATISTICS = "/proc/sys/kernel/bpf_stats_enabled";

async function configOf(path: string): Promise<RedirectConfig> {
  const input = await readRedirectInput(
    path,
    configOptionsOf({ ...values, ipv6: true, docker: false, loopback: "lo" }),
  );
  assert.ok(input.kind !== "skip");
  return input.config;
}

/** A pod's namespace, cgroup and BPF file system. */
function startPod(stack: DisposableStack) {
  const bpffs = stack.use(new BpfFileSystem());
  const cgroup = stack.use(new PodCgroup());
  const lab = stack.use(
    new Laboratory({
      cgroup,
      podTcp: [15001, 15006, 8080],
      podUdp: [15053],
      peerTcp: [80],
      peerUdp: [],
    }),
  );
  const apply = (config: RedirectConfig) =>
    lab.inPod(() =>
      new EbpfEngine({ cgroup: cgroup.path, pinFolder: pinFolderOf(bpffs.path, "sandbox-1") })
        .apply(compileRuleset(config, readNamespaceFacts()))
    );
  return { cgroup, lab, apply };
}

Deno.test(
  "check with --cgroup: programs are compared, and what they and the kernel counted is told",
  options,
  async () => {
    using stack = new DisposableStack();
    const meshed = stack.use(new ManifestFile({ "kuma.io/sidecar-injected": "true" }));
    const other = stack.use(new ManifestFile({ "kuma.io/sidecar-injected": "false" }));
    const [pod, neighbour] = [startPod(stack), startPod(stack)];
    const config = await configOf(meshed.path);
    const check = (path: string, cgroup: string | undefined = pod.cgroup.path) =>
      checkRulesOf(pod.lab.podNetns, path, { ...values, ...(cgroup && { cgroup }) });

    const before = await check(meshed.path);
    assert.equal(before.equal, false);
    assert.match(before.text, /differ from those expected \((?!ebpf)/);

    pod.apply(config);
    neighbour.apply(config);
    pod.lab.listenAgain();
    const statistics = Deno.readTextFileSync(STATISTICS);
    Deno.writeTextFileSync(STATISTICS, "1");
    try {
      const landing = pod.lab.probe({
        ...{ direction: "outbound", protocol: "tcp", uid: 1000 },
        to: { address: PEER.ipv4, port: 80 },
      });
      assert.equal(landing.end === "listener" && landing.listenerPort, 15001);
    } finally {
      Deno.writeTextFileSync(STATISTICS, statistics);
    }
    const { equal, text, data } = await check(meshed.path);
    assert.equal(equal, true, text);
    assert.match(
      text,
      /are as they should be \(ebpf\)\n {2}redirected: 1 outbound, 0 inbound, 0 DNS/,
    );
    assert.match(text, /\n {2}kuma_connect4: \d+ runs, \d+ ns each/);
    const { engine, cgroup, counts } = JSON.parse(JSON.stringify(data));
    assert.deepEqual([engine, cgroup, counts.outbound], ["ebpf", pod.cgroup.path, 1]);
    const connect = counts.programs.find(({ name }: { name: string }) => name === "kuma_connect4");
    assert.ok(connect.runs >= 1 && connect.nanoseconds > 0, JSON.stringify(connect));

    const skipped = await check(other.path);
    assert.equal(skipped.equal, false);
    assert.match(skipped.text, /unexpected: BPF program kuma_connect4/);

    const foreign = await check(meshed.path, neighbour.cgroup.path);
    assert.equal(foreign.equal, false);
    assert.match(foreign.text, /changed: network namespace of the BPF programs/);

    const without = await check(meshed.path, "");
    assert.equal(without.equal, false);
    assert.match(without.text, /A pod of the engine ebpf needs --cgroup as well/);

    pod.apply({ ...config, outbound: { ...config.outbound, excludePorts: [4711] } });
    assert.match((await check(meshed.path)).text, /\(ebpf, \d+\):\n {2}changed: BPF program kuma_/);
  },
);

/** Sweeps in a process of root's that has these capabilities alone, and prints what happened. */
function sweepWithOnly(capabilities: readonly string[], bpffs: string): string {
  const set = ["-all", ...capabilities.map((name) => `+${name}`)].join(",");
  const module = new URL("../src/engine/ebpf/ebpf_engine.ts", import.meta.url).href;
  const script = `import { sweepPins } from "${module}";
    const status = Deno.readTextFileSync("/proc/self/status");
    console.log(JSON.stringify([/^CapEff:\\t0*([0-9a-f]+)$/m.exec(status)[1],
      sweepPins(Deno.args[0]).map(({ containerId, removed }) => [containerId, removed])]));`;
  const file = Deno.makeTempFileSync({ prefix: "kuma-test-", suffix: ".ts" });
  Deno.writeTextFileSync(file, script);
  try {
    const { stdout, stderr } = new Deno.Command("setpriv", {
      args: [
        ...[`--bounding-set=${set}`, "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs"],
        ...[Deno.execPath(), "run", "-A", "--no-check", file, bpffs],
      ],
    }).outputSync();
    return new TextDecoder().decode(stdout).trim() || new TextDecoder().decode(stderr);
  } finally {
    Deno.removeSync(file);
  }
}

Deno.test(
  "rights: for the sweep of pins CAP_BPF alone is enough: a dead pod's go, a living one's stay",
  options,
  () => {
    using stack = new DisposableStack();
    const bpffs = stack.use(new BpfFileSystem());
    const cgroups = [stack.use(new PodCgroup()), stack.use(new PodCgroup())];
    const living = stack.use(createNamespace());
    {
      using dead = createNamespace();
      for (const [index, namespace] of [living, dead].entries()) {
        namespace.run(() =>
          new EbpfEngine({
            cgroup: cgroups[index]!.path,
            pinFolder: pinFolderOf(bpffs.path, `sandbox-${index}`),
          }).apply(compileRuleset(defaultRedirectConfig, readNamespaceFacts()))
        );
      }
    }
    // The kernel takes a namespace down a moment after its last user has gone.
    const deadline = performance.now() + 10_000;
    let printed: string;
    const removed: string[] = [];
    do {
      printed = sweepWithOnly(["bpf"], bpffs.path);
      const [effective, swept] = JSON.parse(printed) as [string, [string, boolean][]];
      assert.equal(effective, (1n << 39n).toString(16), "it has CAP_BPF alone");
      removed.push(...swept.filter(([, gone]) => gone).map(([id]) => id));
    } while (removed.length === 0 && performance.now() < deadline);
    assert.deepEqual(removed, ["sandbox-1"], printed);
    const left = [...Deno.readDirSync(`${bpffs.path}/kuma-cni`)].map(({ name }) => name);
    assert.deepEqual(left, ["sandbox-0"]);
  },
);
