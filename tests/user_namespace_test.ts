/** Pods that have a user namespace of their own (`hostUsers: false`). */
import assert from "node:assert/strict";
import { applyWithSelectedEngine, removeAllRules, verifyRules } from "../src/engine/choice/work.ts";
import { EngineError } from "../src/engine/engine.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import { foreignUserNamespace } from "../src/linux/user_namespace.ts";
import { createNamespace } from "./support/topology.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import type { NamespaceFacts, Ruleset } from "../src/redirect/ruleset.ts";
import { Cluster } from "./support/cluster.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { BACKENDS, saved, tool, ToolFolder, toolName } from "./support/iptables.ts";
import { injectedPod } from "./support/pods.ts";
import { createOwnedNamespace } from "./support/user_namespace.ts";

const compile = (config: Partial<RedirectConfig> = {}) => (facts: NamespaceFacts): Ruleset =>
  compileRuleset({
    ...defaultRedirectConfig,
    dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
    ...config,
  }, facts);

Deno.test("a network namespace knows the user namespace that owns it", () => {
  using own = createNamespace();
  using pod = createOwnedNamespace();
  const isForeign = () => {
    using owner = foreignUserNamespace();
    return owner !== undefined;
  };
  assert.equal(own.run(isForeign), false);
  assert.equal(pod.run(isForeign), true);
});

for (const backend of BACKENDS) {
  Deno.test(`iptables ${backend}: rules of a pod with its own user namespace are written from inside of it`, () => {
    using pod = createOwnedNamespace();
    pod.run(() => {
      const apply = (config: Partial<RedirectConfig>) =>
        applyWithSelectedEngine("iptables", compile(config), { backend });
      for (const sidecarUid of [5678, 65535]) {
        assert.equal(apply({ sidecarUid }).backend, backend);
        const { differences } = verifyRules(
          "iptables",
          compile({ sidecarUid }),
          "the chosen engine",
        );
        assert.deepEqual(differences, []);
        for (const family of ["ipv4", "ipv6"] as const) {
          assert.match(saved(family, backend), new RegExp(`--uid-owner ${sidecarUid} `));
        }
      }
      // A user that the pod does not have is refused by the kernel, and the tool's words come along.
      assert.throws(() => apply({ sidecarUid: 70_000 }), EngineError);
      assert.match(saved("ipv4", backend), /--uid-owner 65535 /);
      assert.deepEqual(removeAllRules(), ["iptables"]);
      assert.equal(/KUMA/.test(saved("ipv4", backend) + saved("ipv6", backend)), false);
    });
  });

  Deno.test(`auto stays with nftables where a pod has its own user namespace and others' ${backend} rules`, () => {
    for (const table of ["nat", "raw"]) {
      using pod = createOwnedNamespace();
      pod.run(() => {
        const rule = ["-t", table, "-A", "OUTPUT", "-p", "tcp", "--dport", "5", "-j", "ACCEPT"];
        tool(toolName("ipv4", backend), rule);
        const result = applyWithSelectedEngine("auto", compile());
        assert.equal(result.engine, "nftables");
        assert.match(
          result.reason,
          /in table (nat|raw), but the pod has a user namespace of its own/,
        );
        assert.deepEqual(verifyRules("auto", compile(), "the chosen engine").differences, []);
      });
    }
  });
}

Deno.test("without nsenter the iptables engine names it, and nothing is changed", () => {
  using pod = createOwnedNamespace();
  using folder = new ToolFolder("nft");
  pod.run(() => {
    const options = { toolFolders: [folder.path] };
    assert.throws(
      () => applyWithSelectedEngine("iptables", compile(), options),
      (error) =>
        error instanceof EngineError &&
        /user namespace of its own .*no "nsenter" in .*"util-linux"/.test(error.message),
    );
    assert.equal(saved("ipv4", "nft") + saved("ipv6", "nft"), "");
    // The users of the pod may not look into others' folders.
    Deno.chmodSync(folder.path, 0o755);
    Deno.symlinkSync("/usr/bin/nsenter", `${folder.path}/nsenter`);
    assert.equal(new IptablesEngine(options).findProblem(["ipv4", "ipv6"]), undefined);
    applyWithSelectedEngine("iptables", compile(), options);
  });
});

for (const engine of ["iptables", "nftables", "auto"]) {
  Deno.test(`engine ${engine}: the plugin captures a pod with its own user namespace`, async () => {
    using pod = createOwnedNamespace();
    pod.run(() =>
      tool("iptables-nft", ["-t", "nat", "-A", "OUTPUT", "-d", "10.9.9.9", "-j", "RETURN"])
    );
    const object = injectedPod();
    await using cluster = await Cluster.start(await compiledPlugin(), [object]);
    for (const command of ["ADD", "CHECK", "ADD"] as const) {
      const { code, stdout, stderr } = await cluster.call(command, object, {
        containerId: "u1",
        netns: pod.path,
        network: { engine },
      });
      assert.equal(code, 0, `${command}: ${stdout} ${stderr}`);
    }
    const native = pod.run(() => tool("nft", ["list", "tables"]).includes("kuma_mesh"));
    assert.equal(native, engine !== "iptables");
  });
}
