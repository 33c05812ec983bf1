/** Both programs under real container runtimes: containerd 2.1 with CNI 1.9 plugins, and Debian's. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { part, parts } from "../../scripts/e2e/parts.ts";
import { libc } from "../../src/linux/libc.ts";
import { compiledInstaller, compiledPlugin } from "../support/compiled.ts";
import type { RuntimePrograms, Sandbox, SandboxRequest } from "../support/containerd.ts";
import { Stage, type StageOptions } from "../support/containerd_stage.ts";
import {
  gatewayPod,
  injectedPod,
  nativeSidecarPod,
  plainPod,
  type PodObject,
} from "../support/pods.ts";
import { runAsFirstProcess } from "../support/own_processes.ts";
import { isCaptured, probe, redirected, untouched } from "../support/sandbox_probe.ts";
import { pluginBehind } from "../support/shim.ts";
import { fact } from "./support/facts.ts";
import { versionOffset } from "../support/sleeping_program.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

interface RuntimeVersion {
  readonly name: string;
  readonly programs?: RuntimePrograms;
}

const runtimes: readonly RuntimeVersion[] = [
  {
    name: `containerd ${parts.containerd.version}`,
    programs: {
      containerd: await part("containerd"),
      runc: await part("runc"),
      plugins: await part("cni-plugins"),
    },
  },
  { name: "Debian's containerd 1.6" },
];

const { containerd, runc, "cni-plugins": plugins } = parts;
fact(
  `containerd ${containerd.version}, runc ${runc.version}, reference plugins ${plugins.version}; ` +
    "and Debian's of each",
);

/** Users of the host that a pod with a user namespace of its own gets. */
const firstUser = 725_942_272;

/** The pods, and what is to be seen of each. */
function podsOf({ programs }: RuntimeVersion): readonly {
  readonly pod: PodObject;
  readonly sees: "rules" | "rules but for inbound" | "nothing";
  readonly more?: Partial<SandboxRequest>;
}[] {
  return [
    { pod: injectedPod({ name: "meshed" }), sees: "rules" },
    { pod: injectedPod({ name: "meshed-3", form: "3" }), sees: "rules" },
    { pod: nativeSidecarPod({ name: "native" }), sees: "rules" },
    { pod: gatewayPod({ name: "gateway" }), sees: "rules but for inbound" },
    { pod: plainPod({ name: "plain" }), sees: "nothing" },
    { pod: injectedPod({ namespace: "kube-system", name: "excluded" }), sees: "nothing" },
    // containerd has user namespaces since 1.7.
    ...programs === undefined ? [] : [
      { pod: injectedPod({ name: "own-users" }), sees: "rules" as const, more: { firstUser } },
      { pod: plainPod({ name: "plain-users" }), sees: "nothing" as const, more: { firstUser } },
    ],
  ];
}

function setStage(runtime: RuntimeVersion, options: Partial<StageOptions> = {}): Promise<Stage> {
  const { programs } = runtime;
  return Stage.set({ confName: "", ...options, ...(programs === undefined ? {} : { programs }) });
}

for (const runtime of runtimes) {
  for (const engine of ["nftables", "iptables"] as const) {
    Deno.test(`${runtime.name}, ${engine}: every kind of pod, installed into a running runtime, and gone with pods alive`, async () => {
      await using stage = await setStage(runtime, { network: { engine } });
      const { containerd, node } = stage;
      const before = await stage.hostFiles();
      const early = await stage.run(injectedPod({ name: "early" }));
      stage.assertUntouched(early);
      await stage.install();
      const sandboxes: Sandbox[] = [early];
      for (const { pod, sees, more } of podsOf(runtime)) {
        const sandbox = await stage.run(pod, undefined, more);
        sandboxes.push(sandbox);
        for (const seen of stage.targets(sandbox)) {
          const target = { ...seen, firstUser: more?.firstUser ?? 0 };
          const rules = redirected(target, "all");
          const expected = {
            "rules": rules,
            "rules but for inbound": { ...rules, inbound: untouched(target).inbound },
            "nothing": untouched(target),
          }[sees];
          deepEqual(probe(target), expected, `${pod.metadata.name} ${target.podAddress}`);
        }
      }
      const { code, stderr } = await node.run("uninstall");
      equal(code, 0, stderr);
      await containerd.untilLoaded("bridge");
      deepEqual(await stage.hostFiles(), before);
      stage.assertRedirected(sandboxes[1]!);
      await stage.removeAll(sandboxes);
    });
  }

  for (const way of ["shim", "full plugin"]) {
    Deno.test(`${runtime.name}, ${way}: 40 pods at once while the agent is restarted, killed and upgraded`, async () => {
      using source = new SourceFolder(await compiledPlugin(), way === "shim");
      await using stage = await setStage(runtime, {
        sourceDir: source.path,
        // While all start at once, an API server without much processor time may take a while.
        network: { lookup_timeout_seconds: 20 },
      });
      const { node } = stage;
      await stage.install();
      // One in four is none of ours.
      const pods = Array.from(
        { length: 40 },
        (_, i) =>
          i % 4 === 3 ? plainPod({ name: `plain-${i}` }) : injectedPod({ name: `pod-${i}` }),
      );
      let started = 0;
      const all = Promise.allSettled(pods.map(async (pod) => {
        const sandbox = await stage.run(pod);
        started++;
        return sandbox;
      }));
      const turn = async (wanted: number, change: () => Promise<void>) => {
        await node.until(`${wanted} pods have started`, () => started >= wanted, 60_000);
        await change();
      };
      await turn(2, async () => {
        equal(await node.stop(), 0);
        await node.start();
      });
      await turn(10, async () => {
        await node.stop("SIGKILL");
        await node.start();
      });
      await turn(18, async () => {
        equal(await node.stop(), 0);
        source.upgrade();
        await node.start();
      });
      const results = await all;
      const failures = results.flatMap((one) =>
        one.status === "rejected" ? [String(one.reason)] : []
      );
      deepEqual(failures, []);
      const sandboxes = results.flatMap((one) => one.status === "fulfilled" ? [one.value] : []);
      for (const [i, sandbox] of sandboxes.entries()) {
        equal(isCaptured(sandbox.networkNamespace), i % 4 !== 3, pods[i]!.metadata.name);
      }
      equal(source.isIn(node.binDir), true, "the upgraded plugin is on the host");
      await stage.removeAll(sandboxes);
    });
  }
}

const [modern] = runtimes;

Deno.test(`${modern!.name}: a list of CNI 1.1.0 is asked for its STATUS, and a pod's error is told whole`, async () => {
  await using stage = await setStage(modern!);
  const { containerd } = stage;
  const path = `${containerd.netDir}/10-bridge.conflist`;
  Deno.writeTextFileSync(path, stage.conflist().replace('"0.4.0"', '"1.1.0"'));
  await stage.install();
  deepEqual(await containerd.networkReady(), { ready: true, message: "" });
  const meshed = await stage.run(injectedPod({ name: "meshed" }));
  stage.assertRedirected(meshed);
  const annotation = "traffic.kuma.io/transparent-proxy-config";
  const wrong = injectedPod({
    name: "wrong",
    form: "3",
    annotations: { [annotation]: "{ port: [" },
  });
  let said = "";
  await stage.run(wrong).catch((error: Error) => said = error.message);
  match(said, /failed \(add\): Pod "?demo\/wrong"? cannot be redirected .*Correct the annotation/s);
  await stage.removeAll([meshed]);
  ok(!containerd.log.includes("level=fatal"));
});

Deno.test(`${modern!.name}: a pod that came before the plugin is repaired while it waits, and nobody else is touched`, async () => {
  await compiledPlugin();
  await compiledInstaller();
  const told = await runAsFirstProcess(new URL("support/early_race.ts", import.meta.url));
  match(told, /^repaired and validated \d+ ms after kubelet's report$/m);
  fact(`a pod that came before the plugin: ${told.trim()}`);
});

/** An image's folder of the plugin, which can become one of another build. */
class SourceFolder implements Disposable {
  readonly path = Deno.makeTempDirSync({ prefix: "kuma-e2e-" });
  #version = 0;

  constructor(private readonly plugin: string, hasShim: boolean) {
    const libraries = `${plugin}.lib`;
    const copy = (from: string, to: string) => {
      Deno.mkdirSync(to);
      for (const { name, isDirectory } of Deno.readDirSync(from)) {
        if (isDirectory) copy(`${from}/${name}`, `${to}/${name}`);
        else Deno.copyFileSync(`${from}/${name}`, `${to}/${name}`);
      }
    };
    copy(libraries, `${this.path}/kuma-cni.lib`);
    if (hasShim) Deno.copyFileSync(`${plugin}.shim`, `${this.path}/kuma-cni.shim`);
    this.upgrade();
  }

  /** Another build differs in a byte that nobody reads. */
  upgrade(): void {
    const bytes = Deno.readFileSync(this.plugin);
    bytes[versionOffset] = ++this.#version;
    Deno.writeFileSync(`${this.path}/new`, bytes, { mode: 0o755 });
    Deno.renameSync(`${this.path}/new`, `${this.path}/kuma-cni`);
  }

  /** Whether the program of a bin dir is of this build. */
  isIn(binDir: string): boolean {
    const program = pluginBehind(`${binDir}/kuma-cni`, binDir);
    return program !== undefined && Deno.readFileSync(program)[versionOffset] === this.#version;
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}
