/** Rules that Kuma 2.7's CNI has left: without comments, in chains of other names. */
import assert from "node:assert/strict";
import { applyWithSelectedEngine, removeAllRules, verifyRules } from "../src/engine/choice/work.ts";
import { EngineError } from "../src/engine/engine.ts";
import { hasPredecessor } from "../src/engine/iptables/own_chains.ts";
import { parseSavedRules } from "../src/engine/iptables/saved_rules.ts";
import { createNamespace } from "./support/topology.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import type { IpFamily } from "../src/ip/address.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { restoreText } from "../src/redirect/iptables_text.ts";
import type { NamespaceFacts } from "../src/redirect/ruleset.ts";
import { BACKENDS, saved, type TestBackend, tool, toolName } from "./support/iptables.ts";
import { groupRules, readVectors, vectorConfig, vectorFacts } from "./support/vectors.ts";

const FAMILIES: readonly IpFamily[] = ["ipv4", "ipv6"];

const compile = (facts: NamespaceFacts) =>
  compileRuleset({
    ...defaultRedirectConfig,
    sidecarUid: 4242,
    dns: { ...defaultRedirectConfig.dns, enabled: true, captureAll: true },
  }, facts);

/** What Kuma 2.7 makes: these chains' names, no comments, and its own mistake in R1. */
function predecessorText(family: IpFamily): string {
  const [passthrough, localhost, excluded, server] = family === "ipv4"
    ? ["127.0.0.6/32", "127.0.0.1/32", "10.7.0.0/16", "10.96.0.10/32"]
    : ["::6/128", "::1/128", "fd07::/16", "fd96::10/128"];
  return `*raw
-A PREROUTING -d ${server} -p udp --sport 53 -j CT --zone 1
-A OUTPUT -p udp --dport 53 -m owner --uid-owner 5678 -j CT --zone 1
-A OUTPUT -p udp --sport 15053 -m owner --uid-owner 5678 -j CT --zone 2
-A OUTPUT -d ${server} -p udp --dport 53 -j CT --zone 2
COMMIT
*nat
-N MESH_INBOUND
-N MESH_OUTBOUND
-N MESH_INBOUND_REDIRECT
-N MESH_OUTBOUND_REDIRECT
-A PREROUTING -p tcp -j MESH_INBOUND
-I OUTPUT 1 -p tcp -m multiport --dports 80,443 -m owner --uid-owner 1-9 -j RETURN
-I OUTPUT 2 -d ${excluded} -j RETURN
-I OUTPUT 3 -p udp --dport 53 -m owner --uid-owner 5678 -j RETURN
-I OUTPUT 4 -d ${server} -p udp --dport 53 -j REDIRECT --to-ports 15053
-A OUTPUT -p tcp -j MESH_OUTBOUND
-A MESH_INBOUND -p tcp --dport 9901 -j RETURN
-A MESH_INBOUND -p tcp -j MESH_INBOUND_REDIRECT
-A MESH_OUTBOUND -p tcp --dport 9901 -j RETURN
-A MESH_OUTBOUND -s ${passthrough} -o lo -j RETURN
-A MESH_OUTBOUND -p tcp ! --dport 53 -o lo ! -d ${localhost} -m owner --uid-owner 5678 -j MESH_INBOUND_REDIRECT
-A MESH_OUTBOUND -p tcp ! --dport 53 -o lo -m owner ! --uid-owner 5678 -j RETURN
-A MESH_OUTBOUND -m owner --uid-owner 5678 -j RETURN
-A MESH_OUTBOUND -d ${server} -p tcp --dport 53 -j REDIRECT --to-ports 15053
-A MESH_OUTBOUND -d ${localhost} -j RETURN
-A MESH_OUTBOUND -j MESH_OUTBOUND_REDIRECT
-A MESH_INBOUND_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A MESH_OUTBOUND_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
`;
}

/** Rules of somebody else in the same tables. */
function addForeignRules(backend: TestBackend): void {
  for (const family of FAMILIES) {
    const text = `*raw
-A PREROUTING -p tcp --dport 4 -j CT --notrack
COMMIT
*nat
:MESHED - [0:0]
-A OUTPUT -p tcp --dport 4444 -m comment --comment "for MESH_OUTBOUND" -j MESHED
-A MESHED -j RETURN
COMMIT
`;
    tool(toolName(family, backend, "restore"), ["--noflush"], text);
  }
}

function install(backend: TestBackend): void {
  for (const family of FAMILIES) {
    tool(toolName(family, backend, "restore"), ["--noflush"], predecessorText(family));
  }
}

const all = (backend: TestBackend) => FAMILIES.map((family) => saved(family, backend)).join("\n");

for (const backend of BACKENDS) {
  for (const engine of ["auto", "iptables", "nftables"] as const) {
    Deno.test(`${backend}: what Kuma 2.7 left is replaced by engine ${engine}, also beside rules of ours`, () => {
      for (const beside of [false, true]) {
        using namespace = createNamespace();
        namespace.run(() => {
          addForeignRules(backend);
          const foreign = lines(all(backend));
          if (beside) {
            for (const rules of compile({ ...vectorFacts(readVectors()[0]!) }).families) {
              const text = restoreText(rules, { comments: true });
              tool(toolName(rules.family, backend, "restore"), ["--noflush"], text);
            }
          }
          install(backend);
          const result = applyWithSelectedEngine(engine, compile);
          assert.equal(result.engine === "nftables", engine === "nftables");
          assert.deepEqual(verifyRules(engine, compile, "the chosen engine").differences, []);
          const others = all(backend).split("\n").filter((line) => !/kuma\/mesh|^:KUMA/.test(line));
          assert.deepEqual(lines(others.join("\n")), foreign);
          assert.equal(applyWithSelectedEngine(engine, compile).engine, result.engine);
        });
      }
    });
  }

  Deno.test(`${backend}: what Kuma 2.7 left is removed, and nothing else`, () => {
    using namespace = createNamespace();
    namespace.run(() => {
      addForeignRules(backend);
      const foreign = lines(all(backend));
      install(backend);
      assert.deepEqual(removeAllRules(), ["iptables"]);
      assert.deepEqual(lines(all(backend)), foreign);
      assert.deepEqual(removeAllRules(), []);
    });
  });

  Deno.test(`${backend}: without tools what Kuma 2.7 left is an error, not a removal`, () => {
    using namespace = createNamespace();
    const folder = Deno.makeTempDirSync();
    try {
      namespace.run(() => {
        install(backend);
        const before = all(backend);
        const options = { toolFolders: [folder] };
        for (
          const work of [
            () => removeAllRules(options),
            () => applyWithSelectedEngine("nftables", compile, options),
          ]
        ) {
          assert.throws(
            work,
            (error) =>
              error instanceof EngineError &&
              /earlier rules .*install the package/.test(error.message),
          );
          assert.equal(all(backend), before);
        }
      });
    } finally {
      Deno.removeSync(folder);
    }
  });

  const changes: readonly [name: string, change: (text: string) => string][] = [
    ["with one chain less", (text) => text.replaceAll(/.*MESH_INBOUND_REDIRECT.*\n/g, "")],
    ["with a rule of its own", (text) =>
      text.replace(
        /(?=COMMIT\n$)/,
        "-A MESH_INBOUND -p tcp --dport 1 -j ACCEPT\n",
      )],
    [
      "with a negated condition",
      (text) => text.replace("-A MESH_INBOUND -p tcp --dport", "-A MESH_INBOUND -p tcp ! --dport"),
    ],
    ["with another source", (text) => text.replace("127.0.0.6/32", "127.0.0.7/32")],
    ["with another condition", (text) =>
      text.replace(
        /(?=COMMIT\n$)/,
        "-A MESH_OUTBOUND -p tcp -i eth7 -j RETURN\n",
      )],
    ["with another protocol", (text) =>
      text.replace(
        /(?=COMMIT\n$)/,
        "-A MESH_INBOUND -p udp -j MESH_INBOUND_REDIRECT\n",
      )],
    ["that others use", (text) =>
      text.replace(
        /(?=COMMIT\n$)/,
        "-N USER\n-A USER -p tcp -j MESH_INBOUND\n",
      )],
    ["that do something else", (text) =>
      text.replace(
        "-A MESH_OUTBOUND_REDIRECT -p tcp -j REDIRECT --to-ports 15001",
        "-A MESH_OUTBOUND_REDIRECT -p tcp -j DNAT --to-destination :15001",
      )],
    ["without rules", (text) => text.replaceAll(/^-A (MESH_\w+) .*\n/gm, "")],
  ];
  for (const [name, change] of changes) {
    Deno.test(`${backend}: chains with the names of Kuma 2.7's ${name} are not ours to touch`, () => {
      using namespace = createNamespace();
      namespace.run(() => {
        tool(toolName("ipv4", backend, "restore"), ["--noflush"], change(predecessorText("ipv4")));
        const before = lines(all(backend));
        assert.deepEqual(removeAllRules(), []);
        for (const engine of ["iptables", "nftables"] as const) {
          applyWithSelectedEngine(engine, compile);
          assert.deepEqual(verifyRules(engine, compile, "the chosen engine").differences, []);
        }
        assert.deepEqual(lines(all(backend)), before);
      });
    });
  }
}

Deno.test("every form of Kuma's rules is known in Kuma 2.7's chains", () => {
  for (const vector of readVectors()) {
    for (const rules of compileRuleset(vectorConfig(vector, "2.9"), vectorFacts(vector)).families) {
      const nat = restoreText(rules, { comments: false }).replaceAll("KUMA_MESH_", "MESH_");
      const text = nat.replace(
        "*nat\n",
        "*nat\n:PREROUTING ACCEPT\n:OUTPUT ACCEPT\n:MESH_INBOUND -\n:MESH_OUTBOUND -\n" +
          ":MESH_INBOUND_REDIRECT -\n:MESH_OUTBOUND_REDIRECT -\n",
      ).replaceAll(/^-N .*\n/gm, "").replaceAll(/^-I (\w+) \d+/gm, "-A $1");
      const table = /^\*nat\n[^]*?^COMMIT\n/m.exec(text)?.[0] ?? "";
      assert.equal(hasPredecessor(parseSavedRules(table)), true, `${vector.name}\n${table}`);
    }
  }
});

/** The rules and the chains that are not built in, sorted by chain. */
function lines(text: string): string[] {
  return [
    ...text.split("\n").filter((line) => /^:\S+ -/.test(line)),
    ...Object.entries(groupRules(text)).flatMap(([chain, rules]) =>
      rules.map((rule) => `-A ${chain}: ${rule}`)
    ),
  ].sort();
}
