/** One at a time per network namespace. */
import assert from "node:assert/strict";
import { applyWithSelectedEngine, verifyRules } from "../src/engine/choice/work.ts";
import { LinuxError } from "../src/linux/errno.ts";
import { withNetworkNamespaceLock } from "../src/linux/network_namespace_lock.ts";
import { runProgram } from "../src/linux/process.ts";
import { createNamespace, type NamedNamespace } from "./support/topology.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import type { NamespaceFacts, Ruleset } from "../src/redirect/ruleset.ts";
import { Cluster } from "./support/cluster.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { exists } from "./support/files.ts";
import { injectedPod } from "./support/pods.ts";
import { BACKENDS, saved, ToolFolder } from "./support/iptables.ts";

const FAMILIES = ["ipv4", "ipv6"] as const;

const configOf = (sidecarUid: number, comments = true): RedirectConfig => ({
  ...defaultRedirectConfig,
  sidecarUid,
  comments,
  dropInvalidPackets: true,
  dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
});
const compile = (sidecarUid: number, comments?: boolean) => (facts: NamespaceFacts): Ruleset =>
  compileRuleset(configOf(sidecarUid, comments), facts);

const module = (path: string) => JSON.stringify(import.meta.resolve(path));

/** Starts a process that works in a namespace, and says on its output that it begins. */
function start(namespace: NamedNamespace, code: string): Deno.ChildProcess {
  const script = `
    import { withNetworkNamespace } from ${module("../src/linux/network_namespace.ts")};
    import { withNetworkNamespaceLock } from ${module("../src/linux/network_namespace_lock.ts")};
    import { applyWithSelectedEngine } from ${module("../src/engine/choice/work.ts")};
    import { compileRuleset } from ${module("../src/redirect/compile.ts")};
    import { runProgram } from ${module("../src/linux/process.ts")};
    const configs = ${JSON.stringify([77, 78].map((uid) => configOf(uid)))};
    console.log("begin");
    withNetworkNamespace(${JSON.stringify(namespace.path)}, () => { ${code} });`;
  return new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-check", "--ext=ts", script],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

Deno.test("the lock is one per namespace, and the wait for it is bounded", () => {
  using one = createNamespace();
  using other = createNamespace();
  const started = performance.now();
  one.run(() =>
    withNetworkNamespaceLock(() => {
      assert.throws(
        () => withNetworkNamespaceLock(() => assert.fail("entered"), 60),
        (error) =>
          error instanceof LinuxError && error.code === "EBUSY" &&
          /held the socket name "@kuma-cni\/rules" in it for 60 ms/.test(error.message),
      );
      assert.equal(other.run(() => withNetworkNamespaceLock(() => "free", 0)), "free");
    })
  );
  assert.equal(one.run(() => withNetworkNamespaceLock(() => "free again", 0)), "free again");
  const milliseconds = performance.now() - started;
  assert.ok(milliseconds >= 60 && milliseconds < 3000, `${milliseconds} ms`);
});

Deno.test("an apply waits for the one that works, and ends with its own rules", async () => {
  using namespace = createNamespace();
  const holder = start(
    namespace,
    'withNetworkNamespaceLock(() => { console.log("held"); ' +
      'runProgram({ path: "/bin/sleep", args: ["0.5"], env: {} }, 5000); });',
  );
  const output = holder.stdout.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; !text.includes("held");) text += (await output.read()).value ?? assert.fail();
  const started = performance.now();
  namespace.run(() => applyWithSelectedEngine("nftables", compile(5678)));
  const waited = performance.now() - started;
  assert.ok(waited > 150, `It did not wait: ${waited} ms`);
  await output.cancel();
  assert.equal((await holder.status).success, true);
  await holder.stderr.cancel();
});

for (const backend of BACKENDS) {
  for (const engine of ["iptables", "nftables"] as const) {
    Deno.test(`two applies at once, ${engine} and iptables ${backend}: both succeed, one's rules stay whole`, async () => {
      for (let round = 0; round < 4; round++) {
        using namespace = createNamespace();
        const children = [["iptables", 0], [engine, 1]].map(([name, index]) =>
          start(
            namespace,
            `applyWithSelectedEngine("${name}", (facts) => compileRuleset(configs[${index}], facts), ` +
              `{ backend: "${backend}" });`,
          )
        );
        for (const { code, stderr } of await Promise.all(children.map((child) => child.output()))) {
          assert.equal(code, 0, new TextDecoder().decode(stderr));
        }
        const equal = namespace.run(() =>
          [77, 78].map((uid) =>
            verifyRules("auto", compile(uid), "any engine").differences.length === 0
          )
        );
        assert.equal(equal.filter(Boolean).length, 1, `rules of ${equal}`);
        const both = namespace.run(() => saved("ipv4", backend) + saved("ipv6", backend));
        assert.equal(both.includes("uid-owner 77") && both.includes("uid-owner 78"), false);
      }
    });
  }

  Deno.test(`iptables ${backend}: a tool that outlives its killed plugin still holds the lock`, async () => {
    using namespace = createNamespace();
    using folder = new ToolFolder(backend);
    const ran = `${folder.path}/ran`;
    folder.replace("ipv4", "restore", `touch ${ran}; sleep 0.6; exec $real "$@"`);
    const child = start(
      namespace,
      `applyWithSelectedEngine("iptables", (facts) => compileRuleset(configs[0], facts), ` +
        `{ backend: "${backend}", toolFolders: [${JSON.stringify(folder.path)}] });`,
    );
    while (!exists(ran)) await new Promise((resolve) => setTimeout(resolve, 5));
    child.kill("SIGKILL");
    await child.output();
    namespace.run(() => {
      assert.throws(() => withNetworkNamespaceLock(() => assert.fail("entered"), 20), LinuxError);
      applyWithSelectedEngine("iptables", compile(5678), { backend });
      assert.deepEqual(
        verifyRules("iptables", compile(5678), "the chosen engine").differences,
        [],
      );
      for (const family of FAMILIES) {
        assert.equal(saved(family, backend).includes("uid-owner 77"), false);
      }
    });
  });

  for (const [before, after] of [[true, true], [false, false], [true, false], [false, true]]) {
    const name = `comments ${before} to ${after}`;
    Deno.test(`iptables ${backend}: what a kill between any two tables leaves is mended by the next apply, ${name}`, () => {
      using folder = new ToolFolder(backend);
      const texts: string[] = [];
      {
        using namespace = createNamespace();
        const file = `${folder.path}/text`;
        folder.replace("ipv4", "restore", `tee ${file} | $real "$@"`);
        namespace.run(() => {
          const apply = (uid: number, comments: boolean | undefined) => {
            applyWithSelectedEngine("iptables", compile(uid, comments), {
              backend,
              toolFolders: [folder.path],
            });
            texts.push(Deno.readTextFileSync(file));
          };
          apply(77, before);
          apply(78, after);
        });
      }
      const [first = "", second = ""] = texts;
      for (const [whole, text] of [["", first], [first, second]] as const) {
        const tables = text.split(/(?<=^COMMIT\n)/m);
        for (let done = 1; done < tables.length; done++) {
          using namespace = createNamespace();
          namespace.run(() => {
            restore(backend, whole);
            restore(backend, tables.slice(0, done).join(""));
            for (const comments of [true, false]) {
              applyWithSelectedEngine("iptables", compile(5678, comments), { backend });
              const torn = saved("ipv4", backend);
              assert.deepEqual(
                verifyRules("iptables", compile(5678, comments), "the chosen engine").differences,
                [],
              );
              assert.equal(/uid-owner 7[78]/.test(torn), false, torn);
              assert.equal(torn.match(/--ctstate INVALID/g)?.length, 1, torn);
              assert.equal(torn.match(/-A OUTPUT .*CT --zone/g)?.length, 3, torn);
            }
          });
        }
      }
    });
  }
}

for (const backend of BACKENDS) {
  Deno.test(`iptables ${backend}: killed at any moment, the next apply has all rules`, async () => {
    for (const milliseconds of [0, 10, 20, 30, 45, 60]) {
      using namespace = createNamespace();
      const child = start(
        namespace,
        `applyWithSelectedEngine("iptables", (facts) => compileRuleset(configs[0], facts), ` +
          `{ backend: "${backend}" });`,
      );
      const output = child.stdout.getReader();
      await output.read();
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended before.
      }
      await Promise.all([child.status, output.cancel(), child.stderr.cancel()]);
      namespace.run(() => {
        applyWithSelectedEngine("iptables", compile(5678, false), { backend });
        const check = verifyRules("iptables", compile(5678, false), "the chosen engine");
        assert.deepEqual(check.differences, []);
        assert.equal(FAMILIES.some((family) => saved(family, backend).includes("77")), false);
      });
    }
  });
}

Deno.test("two ADDs at once on one network namespace both succeed", async () => {
  const pod = injectedPod();
  await using cluster = await Cluster.start(await compiledPlugin(), [pod]);
  for (const engine of ["iptables", "nftables"]) {
    using namespace = createNamespace();
    const call = (command: "ADD" | "CHECK") =>
      cluster.call(command, pod, {
        containerId: "t1",
        netns: namespace.path,
        network: { engine },
      });
    const answers = await Promise.all([call("ADD"), call("ADD"), call("ADD")]);
    for (const { code, stdout } of [...answers, await call("CHECK")]) {
      assert.equal(code, 0, `${engine}: ${stdout}`);
    }
  }
});

function restore(backend: "nft" | "legacy", text: string): void {
  const result = runProgram({
    path: `/usr/sbin/iptables-${backend}-restore`,
    args: ["--noflush"],
    env: {},
    input: text,
  }, 10_000);
  assert.equal(result.status, 0, result.stderr);
}
