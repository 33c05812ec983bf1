/** When the engine `ebpf` is used, what happens when it cannot be, and the life of its pins. */
import assert from "node:assert/strict";
import { PinSweep } from "../installer/agent/pin_sweep.ts";
import { EbpfForPod, type EbpfRequest, whyNotEbpf } from "../src/engine/choice/ebpf.ts";
import type { EbpfModule } from "../src/engine/ebpf/interface.ts";
import { type Engine, EngineError } from "../src/engine/engine.ts";
import { EPERM, LinuxError } from "../src/linux/errno.ts";
import { mayHavePins } from "../src/plugin/may_have_pins.ts";
import { readEbpfWish } from "../src/pod/ebpf_wish.ts";
import type { Ruleset } from "../src/redirect/ruleset.ts";
import "./support/load_libc.ts";
import { makeKubeletCgroup } from "./support/kubelet_cgroup.ts";

const NOTHING: Ruleset = { families: [], comments: false, ipv6PassthroughAddress: false };
const A = "kuma.io/transparent-proxying-ebpf";

const wishes: readonly [
  annotations: Record<string, string>,
  section: unknown,
  wish: string | undefined,
  warnings: number,
][] = [
  [{}, undefined, undefined, 0],
  [{}, { enabled: false }, undefined, 0],
  [{}, { enabled: "true" }, undefined, 0],
  [{}, { enabled: true }, "enabled", 0],
  [{ [A]: "enabled" }, undefined, "enabled", 0],
  [{ [A]: " true " }, undefined, "enabled", 0],
  [{ [A]: "" }, undefined, undefined, 0],
  // Kuma's control plane writes `false` into the config annotation of everybody.
  [{ [A]: "enabled" }, { enabled: false }, "enabled", 0],
  [{ [A]: "disabled" }, { enabled: true }, "disabled", 0],
  [{ [A]: "perhaps" }, undefined, undefined, 1],
  [{ [A]: "enabled", [`${A}-bpf-fs-path`]: "/sys/fs/bpf" }, undefined, "enabled", 0],
  [{ [A]: "enabled", [`${A}-bpf-fs-path`]: "/etc" }, undefined, "enabled", 1],
  [{ [`${A}-cgroup-path`]: "/", [`${A}-tc-attach-iface`]: "eth0" }, undefined, undefined, 2],
  [{ [`${A}-programs-source-path`]: "/tmp/evil" }, undefined, undefined, 1],
  [JSON.parse(`{"__proto__": {"${A}": "enabled"}}`), undefined, undefined, 0],
];

Deno.test("engine ebpf: what a pod says counts where the administrator allows it", () => {
  for (const [annotations, section, wish, warnings] of wishes) {
    for (const allowed of [true, false]) {
      const diagnostics = { warnings: [] };
      const keys = new Set(allowed ? ["ebpf.enabled"] : []);
      const actual = readEbpfWish(annotations, section, keys, diagnostics);
      const expected = wish === "enabled" && !allowed ? "not allowed" : wish;
      assert.equal(actual, expected, JSON.stringify([annotations, section]));
      assert.equal(diagnostics.warnings.length, warnings, JSON.stringify(annotations));
    }
  }
});

Deno.test("engine ebpf: what stands against it, the cgroup first", () => {
  const cgroup = { path: "/sys/fs/cgroup/x", how: "by name" } as const;
  const good = { cgroup, foreignOwner: false, cannot: [] };
  assert.equal(whyNotEbpf(good), undefined);
  const codes = [
    { ...good, cgroup: { problem: "no-cgroup2", reason: "r" } as const, foreignOwner: true },
    { ...good, cgroup: { problem: "no-pod-cgroup", reason: "r" } as const },
    { ...good, foreignOwner: true, cannot: ["x"] },
    { ...good, cannot: ["Packets cannot be logged", "y"] },
  ].map((observed) => whyNotEbpf(observed)?.code);
  assert.deepEqual(codes, ["no-cgroup2", "no-pod-cgroup", "user-namespace", "rules"]);
  assert.equal(whyNotEbpf({ ...good, cannot: ["x", "y"] })?.reason, "x; y");
});

Deno.test("engine ebpf: a DEL that another program serves is the plugin's where pods may have pins", () => {
  const has = (values: Record<string, unknown>) =>
    mayHavePins({ config: { values } } as unknown as Parameters<typeof mayHavePins>[0]);
  assert.deepEqual(
    [
      {},
      { engine: "nftables", allow_pod_settings: ["kumaDPUser"] },
      { engine: "ebpf" },
      { allow_pod_settings: ["ebpf.enabled"] },
      { engine: "magic" },
    ].map(has),
    [false, false, true, true, true],
  );
});

/** An engine that notes what is asked of it. */
function moduleWith(apply: () => void): EbpfModule & { asked: unknown[] } {
  const asked: unknown[] = [];
  class EbpfEngine implements Engine {
    readonly name = "ebpf";
    constructor(options: unknown) {
      asked.push(options);
    }
    apply() {
      apply();
      return { engine: this.name, families: [], ruleCount: 0, notes: [] } as const;
    }
    verify() {
      return [];
    }
    remove() {
      asked.push("remove");
      return true;
    }
  }
  return {
    asked,
    EbpfEngine,
    cannot: () => [],
    pinFolderOf: (bpffs, id) => `${bpffs}/kuma-cni/${id}`,
    unpin: () => false,
    sweepPins: () => [],
    readCounters: () => undefined,
  };
}

Deno.test("engine ebpf: applied at the pod's cgroup; any failure is a fall-back, or an error where strict", () => {
  using kubelet = makeKubeletCgroup();
  const request: EbpfRequest = {
    wanted: true,
    because: "the test says so",
    strict: false,
    podUid: kubelet.uid,
    containerId: "c1",
    // Nothing is mounted there, so that nothing may be pinned.
    bpffs: kubelet.root,
    cgroupRoot: kubelet.root,
  };
  const good = moduleWith(() => {});
  assert.equal(new EbpfForPod(good, request).apply(NOTHING).result?.engine, "ebpf");
  assert.deepEqual(good.asked, [{ cgroup: kubelet.pod.path }]);

  const failures: readonly [code: string, error: EngineError][] = [
    ["refused", new EngineError("no", "ebpf", { cause: new LinuxError("Cannot attach", EPERM) })],
    ["failed", new EngineError("no", "ebpf", { cause: new LinuxError("Cannot load", 22) })],
    ["failed", new EngineError("no", "ebpf")],
  ];
  for (const [code, error] of failures) {
    const failing = moduleWith(() => {
      throw error;
    });
    const attempt = new EbpfForPod(failing, request).apply(NOTHING);
    assert.deepEqual(attempt, { fallback: { code, reason: "no" } });
    const strict = new EbpfForPod(failing, { ...request, strict: true });
    assert.throws(() => strict.apply(NOTHING), (thrown) => {
      assert.ok(thrown instanceof EngineError && thrown.engine === "ebpf");
      assert.match(thrown.message, /"ebpf\.strict" allows no other: no$/);
      return true;
    });
  }

  const nobody = { ...request, podUid: crypto.randomUUID() };
  const unknown = moduleWith(() => {});
  const { fallback } = new EbpfForPod(unknown, nobody).apply(NOTHING);
  assert.equal(fallback?.code, "no-pod-cgroup");
  assert.equal(new EbpfForPod(unknown, nobody).remove(), false);
  assert.deepEqual(unknown.asked, [], "without a cgroup there is no engine");
  assert.throws(() => new EbpfForPod(unknown, { ...nobody, strict: true }).apply(NOTHING));
});

Deno.test("pins of the dead are swept at the start, each ten minutes and at the end; nothing stops the agent", async () => {
  let now = 0;
  let sweeps = 0;
  const lines: string[] = [];
  const log = {
    info: (message: string) => lines.push(message),
    warn: (message: string) => lines.push(message),
  };
  const sweeper = {
    sweepPins(bpffs: string) {
      assert.equal(bpffs, "/host/sys/fs/bpf");
      sweeps++;
      if (sweeps === 3) throw new Error("EPERM");
      return [
        { containerId: "dead", removed: sweeps === 1, reason: "its network namespace is gone" },
        { containerId: "alive", removed: false, reason: "its namespace is in use" },
      ];
    },
  };
  const sweep = new PinSweep("/host/sys/fs/bpf", () => Promise.resolve(sweeper), () => now);
  await sweep.start({ log } as unknown as Parameters<PinSweep["start"]>[0]);
  assert.equal(sweeps, 1);
  assert.match(lines.join(), /^Pins of pods that are gone were removed$/);
  now = 599_999;
  sweep.tick();
  assert.equal(sweeps, 1);
  now = 600_000;
  sweep.tick();
  assert.equal(sweeps, 2);
  assert.equal(lines.length, 1, "nothing was removed, so nothing is said");
  sweep.stop();
  sweep.stop();
  assert.equal(sweeps, 3);
  assert.match(lines[1]!, /cannot be looked at: EPERM/);

  const broken = new PinSweep("/x", () => Promise.reject(new Error("no FFI")), () => now);
  await broken.start({ log } as unknown as Parameters<PinSweep["start"]>[0]);
  broken.tick();
  broken.stop();
  assert.match(lines[2]!, /no FFI/);
});
