/** From one engine, version or implementation to another: exactly the new rules stay. */
import assert from "node:assert/strict";
import type { RedirectConfig, RedirectRulesVersion } from "../src/redirect/config.ts";
import type { IpFamily } from "../src/ip/address.ts";
import type { Ruleset } from "../src/redirect/ruleset.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { restoreText } from "../src/redirect/iptables_text.ts";
import { type Engine, EngineError } from "../src/engine/engine.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import { NftablesEngine } from "../src/engine/nftables/nftables_engine.ts";
import { selectEngine } from "../src/engine/choice/select.ts";
import { applyWithSelectedEngine } from "../src/engine/choice/work.ts";
import { surveyNamespace } from "../src/engine/iptables/survey.ts";
import { createNamespace, setLinkUp } from "./support/topology.ts";
import {
  BACKENDS,
  saved,
  type TestBackend,
  tool,
  ToolFolder,
  toolName,
} from "./support/iptables.ts";

const FAMILIES: readonly IpFamily[] = ["ipv4", "ipv6"];

function compile(
  rulesVersion: RedirectRulesVersion,
  config: Partial<RedirectConfig> = {},
): Ruleset {
  const dns = { ...defaultRedirectConfig.dns, enabled: true, captureAll: true };
  return compileRuleset({ ...defaultRedirectConfig, dns, ...config, rulesVersion }, {
    loopback: "lo",
    ipv6: true,
    dockerOutput: { ipv4: false, ipv6: false },
    conntrackZones: true,
  });
}

/** What a step installs with; `reference` is the other implementation, which used iptables. */
const installers: Record<string, (ruleset: Ruleset) => void> = {
  nftables: (ruleset) => void applyWithSelectedEngine("nftables", () => ruleset),
  "iptables-nft": (ruleset) =>
    void applyWithSelectedEngine("iptables", () => ruleset, { backend: "nft" }),
  "iptables-legacy": (ruleset) =>
    void applyWithSelectedEngine("iptables", () => ruleset, { backend: "legacy" }),
  "reference-nft": (ruleset) => installAsReference(ruleset, "nft"),
  "reference-legacy": (ruleset) => installAsReference(ruleset, "legacy"),
};

function installAsReference(ruleset: Ruleset, backend: TestBackend): void {
  for (const rules of ruleset.families) {
    const text = restoreText(rules, { comments: true });
    tool(toolName(rules.family, backend, "restore"), ["--noflush"], text);
  }
}

/** Rules of others in a filter table, and a native nf_tables table. */
function addForeignRules(): void {
  for (const backend of BACKENDS) {
    for (const family of FAMILIES) {
      tool(toolName(family, backend), [
        "-A",
        "OUTPUT",
        "-p",
        "tcp",
        "--dport",
        "4444",
        "-j",
        "DROP",
      ]);
    }
  }
  tool("nft", ["-f", "/dev/stdin"], "table inet foreign { chain a { counter accept; }; }\n");
}

/** All rules of the namespace as text: our nf_tables table apart from the rest. */
function state(): { own: string; rest: string } {
  const list = (...args: string[]) => {
    const tables = tool("nft", ["list", "tables"]).split("\n");
    return tables.filter((line) => args.some((name) => line.endsWith(` ${name}`)))
      .map((line) => tool("nft", ["list", ...line.split(" ")])).join("");
  };
  const rest = BACKENDS.flatMap((backend) => FAMILIES.map((family) => saved(family, backend)));
  return { own: list("kuma_mesh"), rest: [list("foreign"), ...rest].join("\n") };
}

/** The lines of a state that hold rules or chains that are not built in. */
function lines(text: string): string[] {
  return text.split("\n").filter((line) =>
    line.startsWith("-A") || /^:\S+ -/.test(line) || /counter|table inet/.test(line)
  ).sort();
}

const engines = ["nftables", "iptables-nft", "iptables-legacy"];

for (const from of Object.keys(installers)) {
  for (const to of engines) {
    Deno.test(`upgrade from ${from} to ${to}, form 2.9 to 3, leaves exactly the new rules`, () => {
      const after = (...steps: [string, Ruleset][]) => {
        using namespace = createNamespace();
        return namespace.run(() => {
          setLinkUp("lo");
          addForeignRules();
          for (const [installer, ruleset] of steps) installers[installer]?.(ruleset);
          const engine: Engine = to === "nftables"
            ? new NftablesEngine()
            : new IptablesEngine({ backend: to === "iptables-nft" ? "nft" : "legacy" });
          const [last] = steps.slice(-1);
          assert.ok(last);
          assert.deepEqual(engine.verify(last[1]), []);
          return state();
        });
      };
      const old = compile("2.9", { sidecarUid: 77, dropInvalidPackets: true });
      const upgraded = after([from, old], [to, compile("3")]);
      const fresh = after([to, compile("3")]);
      assert.equal(upgraded.own, fresh.own);
      assert.deepEqual(lines(upgraded.rest), lines(fresh.rest));
      assert.equal(upgraded.own !== "", to === "nftables");
      assert.ok(lines(upgraded.rest).join().includes("4444"));
    });
  }
}

Deno.test("auto takes nftables in a namespace that nobody has touched, without a process", () => {
  using namespace = createNamespace();
  using folder = new ToolFolder("nft");
  namespace.run(() => {
    for (const family of FAMILIES) {
      for (const kind of ["save", "restore"] as const) folder.replace(family, kind, "touch $0.ran");
    }
    const result = applyWithSelectedEngine("auto", () => compile("3"), {
      toolFolders: [folder.path],
    });
    assert.equal(result.engine, "nftables");
    assert.deepEqual(result.replaced, []);
    assert.equal(result.reason, "no iptables rules of others are in the way");
    const ran = [...Deno.readDirSync(folder.path)].filter(({ name }) => name.endsWith(".ran"));
    assert.deepEqual(ran, []);
  });
});

Deno.test("auto takes nftables over the reference's rules, which are removed then", () => {
  for (const backend of BACKENDS) {
    using namespace = createNamespace();
    namespace.run(() => {
      installAsReference(compile("2.9"), backend);
      const result = applyWithSelectedEngine("auto", () => compile("3"));
      assert.equal(result.engine, "nftables");
      assert.deepEqual(result.replaced, ["iptables"]);
      assert.deepEqual(applyWithSelectedEngine("auto", () => compile("3")).replaced, []);
      assert.equal(/KUMA/.test(saved("ipv4", backend) + saved("ipv6", backend)), false);
    });
  }
});

for (const backend of BACKENDS) {
  Deno.test(`auto takes iptables where others' ${backend} rules decide about the same packets`, () => {
    const chosen = (table: string, ...rule: string[]) => {
      using namespace = createNamespace();
      return namespace.run(() => {
        installAsReference(compile("2.9"), backend);
        tool(toolName("ipv6", backend), ["-t", table, ...rule]);
        const { engine, reason } = selectEngine("auto", surveyNamespace());
        return `${engine.name}: ${reason}`;
      });
    };
    assert.match(chosen("nat", "-N", "DOCKER_OUTPUT"), /^iptables: .* chain DOCKER_OUTPUT$/);
    const rule = ["OUTPUT", "-p", "tcp", "--dport", "5", "-j", "ACCEPT"];
    assert.match(chosen("nat", "-I", ...rule), /^iptables: .* others in table nat$/);
    assert.match(chosen("raw", "-A", ...rule), /^iptables: .* others in table raw$/);
    assert.match(chosen("mangle", "-A", ...rule), /^nftables: /);
    assert.match(chosen("filter", "-A", ...rule), /^nftables: /);
    assert.match(chosen("nat", "-N", "EMPTY"), /^nftables: /);
  });
}

Deno.test("auto falls back to nftables where the tools that it wants are missing, and says so", () => {
  using namespace = createNamespace();
  const folder = Deno.makeTempDirSync();
  try {
    namespace.run(() => {
      tool("iptables-nft", ["-t", "nat", "-N", "DOCKER_OUTPUT"]);
      const result = applyWithSelectedEngine("auto", () => compile("3"), { toolFolders: [folder] });
      assert.equal(result.engine, "nftables");
      assert.match(result.reason, /DOCKER_OUTPUT, but iptables cannot be used: .* in \/tmp\//);
    });
  } finally {
    Deno.removeSync(folder);
  }
});

Deno.test("auto takes nftables on a host without ip6tables for rules of IPv6, else iptables", () => {
  for (const kind of ["save", "restore"] as const) {
    using folder = new ToolFolder("nft");
    Deno.removeSync(`${folder.path}/${toolName("ipv6", "nft", kind)}`);
    for (const address of [false, true]) {
      using namespace = createNamespace();
      namespace.run(() => {
        if (address) setLinkUp("lo");
        tool("iptables-nft", ["-t", "nat", "-A", "OUTPUT", "-d", "10.9.9.9", "-j", "RETURN"]);
        const options = { toolFolders: [folder.path] };
        const both = applyWithSelectedEngine("auto", () => compile("3"), options);
        assert.equal(both.engine, "nftables");
        assert.match(both.reason, /in table nat, but iptables cannot be used: .*No "ip6tables-/);
        assert.deepEqual(new NftablesEngine().verify(compile("3")), []);
        const ipv4 = { ipFamilyMode: "ipv4" } as const;
        const one = applyWithSelectedEngine("auto", () => compile("3", ipv4), options);
        assert.equal(one.engine, "iptables");
        assert.deepEqual(one.replaced, ["nftables"]);
      });
    }
  }
});

Deno.test("earlier rules that cannot be removed are an error, and the new rules are in force", () => {
  using namespace = createNamespace();
  const folder = Deno.makeTempDirSync();
  try {
    namespace.run(() => {
      installAsReference(compile("2.9"), "legacy");
      assert.throws(
        () => applyWithSelectedEngine("auto", () => compile("3"), { toolFolders: [folder] }),
        (error) =>
          error instanceof EngineError &&
          /^The rules of engine "nftables" are installed, but .* legacy tables/.test(error.message),
      );
      assert.deepEqual(new NftablesEngine().verify(compile("3")), []);
    });
  } finally {
    Deno.removeSync(folder);
  }
});
