import assert from "node:assert/strict";
import type { RedirectConfig } from "../src/redirect/config.ts";
import type { IpFamily } from "../src/ip/address.ts";
import type { Ruleset } from "../src/redirect/ruleset.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { EngineError } from "../src/engine/engine.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import { applyWithSelectedEngine } from "../src/engine/choice/work.ts";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import { listAddresses } from "../src/linux/addresses.ts";
import { runProgram } from "../src/linux/process.ts";
import { createNamespace } from "./support/topology.ts";
import {
  BACKENDS,
  saved,
  type TestBackend,
  tool,
  ToolFolder,
  toolName,
} from "./support/iptables.ts";
import {
  groupRules,
  readVectors,
  vectorConfig,
  vectorFacts,
  vectorRules,
} from "./support/vectors.ts";

const FAMILIES: readonly IpFamily[] = ["ipv4", "ipv6"];

const dnsConfig: RedirectConfig = {
  ...defaultRedirectConfig,
  dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
};

function compile(config: RedirectConfig, ipv6 = true): Ruleset {
  return compileRuleset(config, {
    loopback: "lo",
    ipv6,
    dockerOutput: { ipv4: false, ipv6: false },
    conntrackZones: true,
  });
}

function engineError(work: () => unknown): EngineError {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof EngineError, String(error));
    return error;
  }
  throw new assert.AssertionError({ message: "Expected an EngineError" });
}

/** Rules of somebody else in all three tables, some of which have counted packets. */
function addForeignRules(backend: TestBackend): void {
  for (const family of FAMILIES) {
    const address = family === "ipv4" ? "10.9.9.9" : "fd09::9";
    tool(
      toolName(family, backend, "restore"),
      ["--noflush", "--counters"],
      `*raw
-A PREROUTING -p tcp --dport 4 -j CT --notrack
COMMIT
*mangle
[7:420] -A PREROUTING -p tcp -m comment --comment "from \\"somebody\\" else" -j MARK --set-mark 0x7
COMMIT
*nat
:FOREIGN - [0:0]
[3:180] -A OUTPUT -d ${address} -p tcp -m comment --comment "mentions KUMA_MESH" -j FOREIGN
[5:300] -A PREROUTING -p tcp --dport 4444 -j REDIRECT --to-ports 4445
-A FOREIGN -j RETURN
COMMIT
*filter
[2:120] -A OUTPUT -d ${address} -j ACCEPT
COMMIT
`,
    );
  }
}

/** Lines of others, with counters. */
function foreignLines(text: string): string[] {
  return text.split("\n").filter((line) => line.includes("-A ") && !line.includes("kuma/mesh"));
}

for (const backend of BACKENDS) {
  for (const vector of readVectors()) {
    Deno.test(`iptables ${backend}: the tools save vector ${vector.name}, both forms`, () => {
      using namespace = createNamespace();
      namespace.run(() => {
        for (const family of FAMILIES.filter((name) => vector.dockerOutput[name])) {
          tool(toolName(family, backend), ["-t", "nat", "-N", "DOCKER_OUTPUT"]);
        }
        const engine = new IptablesEngine({ backend });
        for (const version of ["2.9", "3"] as const) {
          const ruleset = compileRuleset(vectorConfig(vector, version), vectorFacts(vector));
          engine.apply(ruleset);
          assert.deepEqual(engine.verify(ruleset), []);
          for (const family of FAMILIES) {
            const wanted = vectorRules(vector.rules[version][family]);
            assert.deepEqual(groupRules(saved(family, backend)), wanted, `${version} ${family}`);
          }
        }
      });
    });
  }

  Deno.test(`iptables ${backend}: a second apply changes nothing`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      for (const comments of [true, false]) {
        const ruleset = compile({
          ...dnsConfig,
          comments,
          dropInvalidPackets: true,
          log: { enabled: true, level: 4 },
          outbound: {
            ...dnsConfig.outbound,
            excludeIps: [{ family: "ipv4", address: "10.1.0.0", prefix: 16 }],
            excludeUids: [{
              protocol: "tcp",
              ports: [{ from: 1, to: 65535 }],
              uids: { from: 0, to: 4294967294 },
            }],
          },
        });
        const engine = new IptablesEngine({ backend });
        engine.apply(ruleset);
        for (const family of FAMILIES) {
          const rule = ["-p", "tcp", "--dport", "7", "-j", "ACCEPT"];
          tool(toolName(family, backend), ["-t", "nat", "-I", "OUTPUT", ...rule]);
        }
        engine.apply(ruleset);
        const first = FAMILIES.map((family) => saved(family, backend));
        for (const line of first) assert.match(line, /--dport 7 -j ACCEPT\n-A OUTPUT -p tcp/);
        engine.apply(ruleset);
        assert.deepEqual(FAMILIES.map((family) => saved(family, backend)), first);
        assert.equal(first.join().includes("kuma/mesh"), comments);
        assert.deepEqual(engine.verify(ruleset), []);
      }
    });
  });

  Deno.test(`iptables ${backend}: an exclusion of all addresses goes with its ruleset`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      const engine = new IptablesEngine({ backend });
      for (const comments of [true, false]) {
        const everything = [
          { family: "ipv4", address: "0.0.0.0", prefix: 0 },
          { family: "ipv6", address: "::", prefix: 0 },
        ] as const;
        const open = compile({
          ...dnsConfig,
          comments,
          outbound: { ...dnsConfig.outbound, excludeIps: everything },
          virtualNetworks: everything.map((cidr) => ({ interfaceName: "vm0", cidr })),
        });
        engine.apply(open);
        assert.deepEqual(engine.verify(open), []);
        const closed = compile({ ...dnsConfig, comments });
        engine.apply(closed);
        assert.deepEqual(engine.verify(closed), []);
        for (const family of FAMILIES) {
          const targets = groupRules(saved(family, backend))["nat OUTPUT"]?.map((line) =>
            line.replace(/.*-j /, "")
          );
          const wanted = ["RETURN", "REDIRECT --to-ports 15053", "RETURN", "KUMA_MESH_OUTBOUND"];
          assert.deepEqual(targets, wanted);
        }
      }
    });
  });

  Deno.test(`iptables ${backend}: rules, chains and counters of others stay`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      addForeignRules(backend);
      const before = FAMILIES.map((family) => saved(family, backend, true));
      const engine = new IptablesEngine({ backend });
      for (const config of [dnsConfig, defaultRedirectConfig, { ...dnsConfig, comments: false }]) {
        engine.apply(compile(config));
        FAMILIES.forEach((family, i) => {
          const now = saved(family, backend, true).split("\n");
          for (const line of foreignLines(before[i] ?? "")) assert.ok(now.includes(line), line);
        });
      }
      engine.apply(compile(dnsConfig));
      // Ours that are inserted come before those of others, ours that are appended after them.
      const output = groupRules(saved("ipv4", backend))["nat OUTPUT"]?.map((line) =>
        line.replace(/.* -j /, "")
      );
      assert.deepEqual(output, [
        "RETURN",
        "REDIRECT --to-ports 15053",
        "FOREIGN",
        "RETURN",
        "KUMA_MESH_OUTBOUND",
      ]);
      assert.equal(engine.remove(), true);
      FAMILIES.forEach((family, i) => {
        const rules = (text: string) => groupRules(text.replaceAll(/^\[\d+:\d+\] /gm, ""));
        const now = saved(family, backend, true);
        assert.deepEqual(rules(now), rules(before[i] ?? ""));
        assert.deepEqual(foreignLines(now).sort(), foreignLines(before[i] ?? "").sort());
        assert.equal(/^:KUMA_MESH/m.test(now), false);
      });
      assert.equal(engine.remove(), false);
    });
  });

  for (const comments of [true, false]) {
    Deno.test(`iptables ${backend}: the reference's rules ${comments ? "with" : "without"} comments are replaced`, () => {
      using namespace = createNamespace();
      namespace.run(() => {
        addForeignRules(backend);
        for (const family of FAMILIES) {
          tool(
            toolName(family, backend, "restore"),
            ["--noflush"],
            referenceText(family, comments),
          );
        }
        const engine = new IptablesEngine({ backend });
        const ruleset = compile(defaultRedirectConfig);
        assert.notDeepEqual(engine.verify(ruleset), []);
        engine.apply(ruleset);
        assert.deepEqual(engine.verify(ruleset), []);
        for (const family of FAMILIES) {
          const rules = groupRules(saved(family, backend));
          assert.equal(rules["raw PREROUTING"]?.length, 1);
          assert.equal(rules["raw OUTPUT"], undefined);
          assert.equal(rules["mangle PREROUTING"]?.length, 1);
          assert.equal(rules["nat PREROUTING"]?.length, 2);
          assert.equal(rules["nat OUTPUT"]?.length, 2);
        }
      });
    });
  }

  Deno.test(`iptables ${backend}: when IPv6 fails, IPv4 is what it was`, () => {
    using namespace = createNamespace();
    using folder = new ToolFolder(backend);
    namespace.run(() => {
      addForeignRules(backend);
      const good = new IptablesEngine({ backend });
      good.apply(compile(dnsConfig));
      const before = FAMILIES.map((family) => saved(family, backend));
      folder.replace("ipv6", "restore", "echo 'line 3: no such thing' >&2; exit 1");
      const broken = new IptablesEngine({ backend, toolFolders: [folder.path] });
      const other = compile({ ...defaultRedirectConfig, dropInvalidPackets: true });
      const error = engineError(() => broken.apply(other));
      assert.match(error.message, /^Cannot change the IPv6 rules with ".*ip6tables.*" and|with/);
      assert.match(error.message, /status 1 and said: line 3: no such thing \(line 3 is "-D /);
      assert.deepEqual(FAMILIES.map((family) => saved(family, backend)), before);
      good.remove();
      engineError(() => broken.apply(other));
      assert.equal(good.remove(), false);
    });
  });

  Deno.test(`iptables ${backend}: 300 exclusions`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      const excludePorts = Array.from({ length: 300 }, (_, i) => i + 1000);
      const ruleset = compile({
        ...dnsConfig,
        inbound: { ...dnsConfig.inbound, excludePorts },
        outbound: { ...dnsConfig.outbound, excludePorts },
      });
      const engine = new IptablesEngine({ backend });
      assert.ok(engine.apply(ruleset).ruleCount > 1200);
      assert.deepEqual(engine.verify(ruleset), []);
    });
  });

  Deno.test(`iptables ${backend}: verify names each kind of change`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      const engine = new IptablesEngine({ backend });
      const ruleset = compile(dnsConfig);
      const kinds = (name: string, ...args: string[]) => {
        engine.apply(ruleset);
        tool(toolName("ipv4", backend), ["-t", ...args]);
        const differences = engine.verify(ruleset);
        assert.ok(
          differences.every(({ object }) => object.includes(name)),
          JSON.stringify(differences),
        );
        return [...new Set(differences.map(({ kind }) => kind))].sort();
      };
      const chain = "KUMA_MESH_OUTBOUND";
      assert.deepEqual(kinds(`ip nat ${chain} rule`, "nat", "-F", chain), ["missing"]);
      assert.deepEqual(kinds("nat OUTPUT", "nat", "-D", "OUTPUT", "3"), ["changed", "missing"]);
      assert.deepEqual(kinds(chain, "nat", "-A", chain, "-j", "ACCEPT"), ["unexpected"]);
      assert.deepEqual(
        kinds(
          `${chain} rule 1`,
          "nat",
          "-R",
          chain,
          "1",
          "-s",
          "127.0.0.7",
          "-o",
          "lo",
          "-j",
          "RETURN",
        ),
        ["changed"],
      );
      assert.deepEqual(kinds("KUMA_MESH_NEW", "nat", "-N", "KUMA_MESH_NEW"), ["unexpected"]);
      assert.deepEqual(kinds("raw OUTPUT", "raw", "-F", "OUTPUT"), ["missing"]);
      engine.apply(ruleset);
      tool(toolName("ipv4", backend), [
        "-t",
        "nat",
        "-I",
        "OUTPUT",
        "-d",
        "10.3.3.3",
        "-j",
        "ACCEPT",
      ]);
      assert.deepEqual(engine.verify(ruleset), [], "a foreign rule is not ours to judge");
      // Without IPv6, the rules of IPv6 are too many.
      assert.ok(
        engine.verify(compile(dnsConfig, false)).some(({ object }) => /ip6 nat/.test(object)),
      );
      engine.apply(compile(dnsConfig, false));
      assert.equal(/KUMA|kuma/.test(saved("ipv6", backend)), false);
    });
  });
}

/** The reference implementation's restore text, in short. */
function referenceText(family: IpFamily, comments: boolean): string {
  const [passthrough, localhost, excluded] = family === "ipv4"
    ? ["127.0.0.6/32", "127.0.0.1/32", "10.7.0.0/16"]
    : ["::6/128", "::1/128", "fd07::/16"];
  const c = (text: string) =>
    comments ? ` -m comment --comment "kuma/mesh/transparent/proxy/${text}"` : "";
  return `* raw
-A PREROUTING${c("a")} -p udp --sport 53 -j CT --zone 1
-A OUTPUT${c("b")} -p udp --dport 53 -m owner --uid-owner 5678 -j CT --zone 1
-A OUTPUT${c("c")} -p udp --sport 15053 -m owner --uid-owner 5678 -j CT --zone 2
-A OUTPUT${c("d")} -p udp --dport 53 -j CT --zone 2
COMMIT

* nat
-N KUMA_MESH_INBOUND
-N KUMA_MESH_OUTBOUND
-N KUMA_MESH_INBOUND_REDIRECT
-N KUMA_MESH_OUTBOUND_REDIRECT
-A PREROUTING${c("e")} -j LOG --log-prefix PREROUTING: --log-level 7
-I PREROUTING 1${c("v")} -m udp -p udp -i eth7 --dport 53 -j REDIRECT --to-ports 15053
-I PREROUTING 2${c("w")} ! -d ${excluded} -i eth7 -p tcp -j REDIRECT --to-ports 15001
-A PREROUTING${c("f")} -p tcp -j KUMA_MESH_INBOUND
-I OUTPUT 1${c("g")} -j LOG --log-prefix OUTPUT: --log-level 7
-I OUTPUT 2${c("h")} -m multiport -p tcp --dport 80,443 -m owner --uid-owner 1-9 -j RETURN
-I OUTPUT 3${c("i")} -d ${excluded} -j RETURN
-I OUTPUT 4${c("j")} -p udp --dport 53 -m owner --uid-owner 5678 -j RETURN
-I OUTPUT 5${c("k")} -p udp --dport 53 -j REDIRECT --to-ports 15053
-A OUTPUT${c("l")} -p tcp --dport 53 -m owner ! --uid-owner 5678 -j RETURN
-A OUTPUT${c("m")} -p tcp -j KUMA_MESH_OUTBOUND
-A KUMA_MESH_INBOUND${c("n")} -p tcp -j KUMA_MESH_INBOUND_REDIRECT
-A KUMA_MESH_OUTBOUND${c("o")} -s ${passthrough} -o lo -j RETURN
-A KUMA_MESH_OUTBOUND${c("p")} -d ${localhost} -j RETURN
-A KUMA_MESH_OUTBOUND${c("q")} -j KUMA_MESH_OUTBOUND_REDIRECT
-A KUMA_MESH_INBOUND_REDIRECT${c("r")} -p tcp -j REDIRECT --to-ports 15006
-A KUMA_MESH_OUTBOUND_REDIRECT${c("s")} -p tcp -j REDIRECT --to-ports 15001
COMMIT

* mangle
-A PREROUTING${c("t")} -m conntrack --ctstate INVALID -j DROP
COMMIT
`;
}

Deno.test("iptables: the backend is that of the rules that are there", () => {
  const backendOf = (prepare: () => void): string => {
    using namespace = createNamespace();
    return namespace.run(() => {
      prepare();
      const ruleset = compile(defaultRedirectConfig);
      const { backend } = new IptablesEngine().apply(ruleset);
      assert.ok(backend === "legacy" || backend === "nft");
      assert.ok(saved("ipv4", backend).includes("KUMA_MESH_INBOUND"));
      assert.deepEqual(new IptablesEngine().verify(ruleset), []);
      return backend;
    });
  };
  const add = (backend: TestBackend) => () =>
    tool(toolName("ipv4", backend), [
      "-t",
      "nat",
      "-A",
      "OUTPUT",
      "-d",
      "10.1.1.1",
      "-j",
      "RETURN",
    ]);
  const docker = (backend: TestBackend) =>
    tool(toolName("ipv4", backend), ["-t", "nat", "-N", "DOCKER_OUTPUT"]);
  assert.equal(backendOf(() => undefined), "nft");
  assert.equal(backendOf(add("nft")), "nft");
  assert.equal(backendOf(add("legacy")), "legacy");
  assert.equal(backendOf(() => (add("nft")(), add("legacy")())), "nft");
  assert.equal(backendOf(() => (add("nft")(), add("legacy")(), docker("legacy"))), "legacy");
  assert.equal(
    backendOf(() => (add("nft")(), add("legacy")(), docker("legacy"), docker("nft"))),
    "nft",
  );
});

for (const backend of BACKENDS) {
  const other = backend === "nft" ? "legacy" : "nft";
  Deno.test(`iptables: from ${other} to ${backend}, only the new rules stay`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      const ruleset = compile(dnsConfig);
      new IptablesEngine({ backend: other }).apply(compile({ ...dnsConfig, sidecarUid: 77 }));
      addForeignRules(other);
      new IptablesEngine({ backend }).apply(ruleset);
      assert.deepEqual(new IptablesEngine({ backend }).verify(ruleset), []);
      for (const family of FAMILIES) {
        assert.equal(/:KUMA|kuma\/mesh/.test(saved(family, other)), false);
        assert.ok(saved(family, other).includes(":FOREIGN"));
        assert.equal(saved(family, backend).includes("--uid-owner 77"), false);
      }
    });
  });
}

Deno.test("iptables: without tools, nf_tables rules are removed and legacy ones are named", () => {
  using namespace = createNamespace();
  const folder = Deno.makeTempDirSync();
  try {
    namespace.run(() => {
      const ruleset = compile(dnsConfig);
      const without = new IptablesEngine({ toolFolders: [folder] });
      const missing = engineError(() => without.apply(ruleset)).message;
      assert.match(missing, /No usable "iptables-restore" and "iptables-save" in .*; install the/);
      new IptablesEngine({ backend: "nft" }).apply(ruleset);
      addForeignRules("nft");
      assert.equal(without.remove(), true);
      assert.equal(/:KUMA|kuma\/mesh/.test(saved("ipv4", "nft") + saved("ipv6", "nft")), false);
      assert.ok(saved("ipv6", "nft").includes("-j FOREIGN"));
      assert.equal(without.remove(), false);
      new IptablesEngine({ backend: "legacy" }).apply(ruleset);
      assert.match(engineError(() => without.remove()).message, /^Cannot remove .* legacy tables/);
    });
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

for (const kind of ["save", "restore"] as const) {
  Deno.test(`iptables: a hanging ${kind} tool ends in bounded time, with its children`, () => {
    using namespace = createNamespace();
    using folder = new ToolFolder("nft");
    namespace.run(() => {
      addForeignRules("nft");
      const before = saved("ipv4", "nft");
      const pids = `${folder.path}/pids`;
      folder.replace("ipv4", kind, `sleep 61 & echo $! >> ${pids}; sleep 62`);
      const started = performance.now();
      const error = engineError(() =>
        new IptablesEngine({ toolFolders: [folder.path], toolTimeoutMs: 400 })
          .apply(compile(dnsConfig))
      );
      assert.ok(performance.now() - started < 4000);
      assert.match(error.message, /Cannot (change|read) the IPv4 rules .*: It did not end in time/);
      assert.equal(saved("ipv4", "nft"), before);
      for (const pid of Deno.readTextFileSync(pids).trim().split("\n")) {
        assert.equal(isRunning(pid), false, `the tool's child ${pid} still runs`);
      }
    });
  });
}

/** Whether a process runs; one that waits for its parent's attention does not. */
function isRunning(pid: string): boolean {
  for (let tries = 0; tries < 50; tries++) {
    try {
      const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
      if (stat.includes(") Z ")) return false;
    } catch {
      return false;
    }
    runProgram({ path: "/bin/sleep", args: ["0.02"], env: {} }, 1000);
  }
  return true;
}

Deno.test("iptables: a tool that does nothing and says it did is found out", () => {
  using namespace = createNamespace();
  using folder = new ToolFolder("nft");
  namespace.run(() => {
    folder.replace("ipv4", "restore", "exit 0");
    addForeignRules("nft");
    const before = FAMILIES.map((family) => saved(family, "nft"));
    const engine = new IptablesEngine({ toolFolders: [folder.path] });
    const error = engineError(() => engine.apply(compile(dnsConfig)));
    assert.match(error.message, /read back differ from those installed: .*is missing/);
    assert.ok(error.differences.length > 10);
    assert.ok(error.differences.every(({ object }) => object.includes("ip ")));
    assert.deepEqual(FAMILIES.map((family) => saved(family, "nft")), before);
  });
});

Deno.test("iptables: a tool that prints something else is an error, not an empty table", () => {
  using namespace = createNamespace();
  using folder = new ToolFolder("legacy");
  namespace.run(() => {
    addForeignRules("legacy");
    folder.replace("ipv6", "save", "echo Hello");
    const engine = new IptablesEngine({ toolFolders: [folder.path] });
    const error = engineError(() => engine.apply(compile(dnsConfig)));
    assert.match(error.message, /^Cannot read the IPv6 rules .*Cannot understand .*: "Hello"$/);
  });
});

Deno.test("iptables: a missing ip6tables is an error before anything changes", () => {
  using namespace = createNamespace();
  using folder = new ToolFolder("nft");
  namespace.run(() => {
    Deno.removeSync(`${folder.path}/ip6tables-nft-restore`);
    const engine = new IptablesEngine({ toolFolders: [folder.path] });
    const { message } = engineError(() => engine.apply(compile(dnsConfig)));
    assert.match(message, /No "ip6tables-restore" and "ip6tables-save" for the nft backend/);
    assert.equal(saved("ipv4", "nft"), "");
    assert.deepEqual(engine.apply(compile(dnsConfig, false)).families, ["ipv4"]);
    addForeignRules("nft");
    assert.deepEqual(engine.apply(compile(defaultRedirectConfig, false)).families, ["ipv4"]);
    new IptablesEngine({ backend: "nft" }).apply(compile(dnsConfig));
    const late = engineError(() => engine.apply(compile(dnsConfig, false))).message;
    assert.match(late, /No "ip6tables-restore" and "ip6tables-save" for the nft backend/);
  });
});

for (const backend of BACKENDS) {
  Deno.test(`iptables ${backend}: IPv6 rules are there before any IPv6 address is`, () => {
    using namespace = createNamespace(undefined, "down");
    namespace.run(() => {
      assert.deepEqual(listAddresses("ipv6"), []);
      const { result, facts } = applyHere(backend);
      assert.equal(facts.ipv6, true);
      assert.deepEqual(result.families, ["ipv4", "ipv6"]);
      assert.match(saved("ipv6", backend), /-A PREROUTING .*-j KUMA_MESH_INBOUND/);
      assert.ok(listAddresses("ipv6").some(({ address }) => address === "::6"));
    });
  });
}

/** Applies as the plugin does, in the thread's namespace. */
function applyHere(backend: TestBackend) {
  const facts = readNamespaceFacts();
  const compileHere = () => compileRuleset(defaultRedirectConfig, facts);
  return { facts, result: applyWithSelectedEngine("iptables", compileHere, { backend }) };
}

Deno.test("iptables: without tools, rules without comments are not removed beside those of others", () => {
  using namespace = createNamespace();
  const folder = Deno.makeTempDirSync();
  try {
    namespace.run(() => {
      const ruleset = compile({ ...dnsConfig, comments: false });
      new IptablesEngine({ backend: "nft" }).apply(ruleset);
      const before = saved("ipv4", "nft");
      const without = new IptablesEngine({ toolFolders: [folder] });
      assert.match(
        engineError(() => without.remove()).message,
        /^Cannot remove earlier rules that carry no comments .* install the package "iptables"/,
      );
      assert.equal(saved("ipv4", "nft"), before);
    });
  } finally {
    Deno.removeSync(folder);
  }
});

Deno.test("iptables: the lock that all namespaces share does not delay", () => {
  using namespace = createNamespace();
  namespace.run(() => {
    // Everybody else's legacy tool waits for this lock as long as it is held.
    using _holder = holdLock("/run/xtables.lock", 3);
    const started = performance.now();
    new IptablesEngine({ backend: "legacy" }).apply(compile(dnsConfig));
    assert.ok(performance.now() - started < 1500);
  });
});

Deno.test("iptables: another writer in the same namespace is waited for", () => {
  using namespace = createNamespace();
  namespace.run(() => {
    using _holder = holdLock("/proc/self/ns/net", 0.7);
    const started = performance.now();
    new IptablesEngine({ backend: "legacy" }).apply(compile(dnsConfig));
    const waited = performance.now() - started;
    assert.ok(waited > 300 && waited < 2500, `${waited} ms`);
  });
});

/** Holds a lock for some seconds, or until disposed of. */
function holdLock(file: string, seconds: number): Disposable {
  const { stdout } = runProgram({
    path: "/bin/sh",
    args: ["-c", `flock --close ${file} sleep ${seconds} & echo $!; sleep 0.1`],
    env: { PATH: "/usr/bin:/bin" },
  }, 2000);
  return {
    [Symbol.dispose]() {
      try {
        Deno.kill(Number(stdout));
      } catch {
        // It has ended by itself.
      }
    },
  };
}

Deno.test("iptables: the tools see no name service, and the host still does", () => {
  using namespace = createNamespace();
  using folder = new ToolFolder("legacy");
  namespace.run(() => {
    const seen = `${folder.path}/seen`;
    for (const family of FAMILIES) {
      folder.replace(
        family,
        "restore",
        `wc -c < /etc/nsswitch.conf >> ${seen}; env >> ${seen}; exec $real "$@"`,
      );
    }
    new IptablesEngine({ toolFolders: [folder.path] }).apply(compile(dnsConfig));
    const lines = Deno.readTextFileSync(seen).trim().split("\n");
    assert.equal(lines.filter((line) => line === "0").length, 2);
    assert.ok(lines.includes("XTABLES_LOCKFILE=/proc/self/ns/net"));
    assert.equal(lines.some((line) => line.startsWith("HOME=")), false);
    assert.ok(Deno.statSync("/etc/nsswitch.conf").size > 0);
  });
});

for (const backend of BACKENDS) {
  Deno.test(`iptables ${backend}: five processes apply and verify both families`, () => {
    using namespace = createNamespace();
    using folder = new ToolFolder(backend);
    namespace.run(() => {
      const log = `${folder.path}/log`;
      for (const family of FAMILIES) {
        for (const kind of ["save", "restore"] as const) {
          folder.replace(family, kind, `exec $real "$@"`, `echo "$0 $*" >> ${log}`);
        }
      }
      const engine = new IptablesEngine({ toolFolders: [folder.path] });
      const processes = () => {
        const lines = Deno.readTextFileSync(log).trim().split("\n");
        Deno.removeSync(log);
        // Each file of this folder is another program, while a real host has one for all names.
        const runs = lines.filter((line) => !line.endsWith("--version"));
        return runs.length + (lines.length > runs.length ? 1 : 0);
      };
      engine.apply(compile(dnsConfig));
      assert.equal(processes(), 5);
      engine.verify(compile(dnsConfig));
      assert.equal(processes(), 3);
      engine.apply(compile(dnsConfig));
      assert.equal(processes(), 3, "nothing to change");
      engine.apply(compile(defaultRedirectConfig));
      assert.equal(processes(), 7);
    });
  });
}

Deno.test("iptables: tools that do not know the lock's variable lock the same file", () => {
  using namespace = createNamespace();
  for (
    const answer of ["echo iptables-restore v1.8.4 '(legacy)'", "echo unrecognized option >&2"]
  ) {
    using folder = new ToolFolder("legacy");
    namespace.run(() => {
      tool("iptables-legacy", ["-t", "nat", "-S"]); // Makes the usual lock file.
      const seen = `${folder.path}/seen`;
      for (const family of FAMILIES) {
        folder.replace(
          family,
          "restore",
          `stat -c %i /run/xtables.lock >> ${seen}; stat -L -c %i /proc/self/ns/net >> ${seen}\n` +
            `echo "$1 $2" >> ${seen}; exec $real "$@"`,
          `[ "$1" = --version ] && { ${answer}; exit; }`,
        );
        folder.replace(
          family,
          "save",
          'exec $real "$@"',
          `[ "$1" = --version ] && { ${answer}; exit; }`,
        );
      }
      const engine = new IptablesEngine({ toolFolders: [folder.path] });
      assert.equal(engine.apply(compile(dnsConfig)).backend, "legacy");
      const lines = Deno.readTextFileSync(seen).trim().split("\n");
      const [inode = ""] = /\d+/.exec(Deno.readLinkSync("/proc/thread-self/ns/net")) ?? [];
      assert.equal(lines.filter((line) => line === inode).length, 4, lines.join());
      const wait = answer.includes("v1.8.4") ? "--noflush --wait=5" : "--noflush";
      assert.equal(lines.filter((line) => line.trim() === wait).length, 2, lines.join());
      engine.remove();
    });
  }
});
