/** The pure parts of the iptables engine: reading, comparing and writing rules. */
import assert from "node:assert/strict";
import { canonicalRule } from "../src/engine/iptables/canonical_rule.ts";
import { isInPlace } from "../src/engine/iptables/compare_rules.ts";
import { planRestore } from "../src/engine/iptables/restore_plan.ts";
import { rewriteRule } from "../src/engine/iptables/rewrite_rule.ts";
import { parseSavedRules, splitWords } from "../src/engine/iptables/saved_rules.ts";
import { trustedFolders } from "../src/engine/iptables/tools.ts";
import { IptablesEngine } from "../src/engine/iptables/iptables_engine.ts";
import { EngineError } from "../src/engine/engine.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { appendLine, ruleText, saveText } from "../src/redirect/iptables_text.ts";
import { createNamespace } from "./support/topology.ts";
import { BACKENDS, saved, tool, toolName } from "./support/iptables.ts";
import { readVectors, vectorConfig, vectorFacts } from "./support/vectors.ts";

const allRulesets = readVectors().flatMap((vector) =>
  (["2.9", "3"] as const).flatMap((version) =>
    compileRuleset(vectorConfig(vector, version), vectorFacts(vector)).families
  )
);

Deno.test("rules that mean the same have one canonical form", () => {
  const equal = [
    ["-d 10.0.0.1/32 -j RETURN", "-d 10.0.0.1 -j RETURN"],
    ["-d 10.0.0.0/255.255.0.0 -j RETURN", "-d 10.0.0.0/16 -j RETURN"],
    ["-s ::ffff:1.2.3.4/128 -j RETURN", "-s ::ffff:102:304 -j RETURN"],
    ["-d 0.0.0.0/0 -j RETURN", "-j RETURN"],
    ["-p tcp -m tcp --dport 53 -o lo -j DROP", "-o lo -p tcp --dport 53 -m tcp -j DROP"],
    ["-p 6 -j X", "-p tcp -j X"],
    ['-m comment --comment "-j a" -p tcp -j X', "-p tcp -j X"],
    ['-j LOG --log-prefix "OUTPUT:" --log-level 4', '-j LOG --log-prefix "OUTPUT:"'],
  ];
  for (const [a = "", b = ""] of equal) assert.equal(canonicalRule(a), canonicalRule(b));
});

Deno.test("rules that mean something else have another canonical form", () => {
  const base = "! -d 10.0.0.1/32 -o lo -p tcp -m owner --uid-owner 5 -j RETURN";
  const others = [
    base.replace("! ", ""),
    base.replace("/32", "/31"),
    base.replace("-d", "-s"),
    base.replace("-o", "-i"),
    base.replace("-p tcp", "-p udp"),
    base.replace("--uid-owner 5", "! --uid-owner 5"),
    base.replace("--uid-owner 5", "--uid-owner 5-6"),
    base.replace("RETURN", "ACCEPT"),
    base.replace("-j", "-g"),
    base.replace("-p tcp", "-p tcp -m tcp --dport 1"),
    base.replace("-m owner", "-m socket -m owner"),
    base.replace("! -d 10.0.0.1/32", "! -d 0.0.0.0/0"),
  ];
  const forms = new Set([base, ...others].map(canonicalRule));
  assert.equal(forms.size, others.length + 1);
});

Deno.test("words are split as iptables-restore splits them", () => {
  assert.deepEqual(splitWords(String.raw`-m comment  --comment "a \"b\" \\ c" -j X`), [
    "-m",
    "comment",
    "--comment",
    String.raw`a "b" \ c`,
    "-j",
    "X",
  ]);
  assert.deepEqual(splitWords('--log-prefix "" -j X'), ["--log-prefix", "", "-j", "X"]);
});

Deno.test("text that iptables-save cannot have printed is refused", () => {
  for (
    const text of ["Hello", "-A OUTPUT -j X", "*nat\n-A NOWHERE -j X", "*nat\n:A -\n-D A -j X"]
  ) {
    assert.throws(() => parseSavedRules(text), SyntaxError, text);
  }
  assert.equal(parseSavedRules("").size, 0);
  const chain = parseSavedRules(
    "*nat\n:OUTPUT ACCEPT [1:2]\n[3:4] -A OUTPUT -j X\n-A OUTPUT\nCOMMIT\n",
  )
    .get("nat")?.get("OUTPUT");
  assert.deepEqual(chain, { name: "OUTPUT", base: true, rules: ["-j X", ""], packets: [3] });
});

Deno.test("each rule of the vectors can be written again, unchanged in meaning", () => {
  for (const { tables } of allRulesets) {
    for (const rule of tables.flatMap(({ chains }) => chains.flatMap(({ rules }) => rules))) {
      const text = ruleText(rule, { comments: true });
      assert.deepEqual(splitWords(rewriteRule("OUTPUT", text)), splitWords(text));
    }
  }
});

Deno.test("a ruleset that is in place needs no restore; each change needs one", () => {
  for (const rules of allRulesets) {
    const text = saveText(rules, { comments: true });
    assert.equal(isInPlace(parseSavedRules(text), rules, true), true);
    assert.equal(planRestore(parseSavedRules(text), rules, true), "");
    assert.notEqual(planRestore(parseSavedRules(text), rules, false), "");
    const lines = text.split("\n");
    lines.forEach((line, i) => {
      if (!line.startsWith("-A")) return;
      const without = lines.toSpliced(i, 1).join("\n");
      assert.notEqual(planRestore(parseSavedRules(without), rules, true), "", line);
    });
  }
});

Deno.test("rules of others before ours that are inserted are seen", () => {
  const [rules] = compileRuleset(
    vectorConfig(readVectors()[1]!, "3"),
    vectorFacts(readVectors()[1]!),
  ).families;
  assert.ok(rules);
  const own = rules.tables.flatMap(({ chains }) => chains).find(({ name, rules }) =>
    name === "OUTPUT" && rules.some(({ placement }) => placement === "insert")
  )?.rules[0];
  assert.ok(own);
  const first = appendLine("OUTPUT", own, { comments: true });
  const text = saveText(rules, { comments: true });
  const before = text.replace(first, `-A OUTPUT -p icmp -j ACCEPT\n${first}`);
  assert.equal(isInPlace(parseSavedRules(before), rules, true), false);
});

Deno.test("a rule marked as ours cannot smuggle options into the tool", () => {
  const mark = '-m comment --comment "kuma/mesh/transparent/proxy/x"';
  const hostile = [
    `--modprobe=/tmp/evil ${mark} -j X`,
    `-M /tmp/evil ${mark} -j X`,
    `${mark} -m ../evil -j X`,
    `${mark} -j ../../tmp/evil`,
    `${mark} -m bpf --object-pinned /x -j X`,
    `${mark} -t filter -j X`,
    `${mark} --dport 1 2 -j X`,
    `${mark} stray -j X`,
    `stray ${mark} -j X`,
    `${mark} -p`,
  ];
  for (const rule of hostile) {
    const text = `*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT ${rule}\nCOMMIT\n`;
    assert.throws(() => planRestore(parseSavedRules(text), undefined, true), EngineError, rule);
  }
  for (const name of ["KUMA_MESH_$(x)", 'KUMA_MESH_"', "KUMA_MESH_;-M"]) {
    const text = `*nat\n:${name} - [0:0]\nCOMMIT\n`;
    assert.throws(() => planRestore(parseSavedRules(text), undefined, true), EngineError, name);
  }
});

for (const backend of BACKENDS) {
  Deno.test(`iptables ${backend}: a comment with a line break runs nothing on the host`, () => {
    using namespace = createNamespace();
    const evil = Deno.makeTempFileSync({ prefix: "kuma-test-evil-" });
    try {
      Deno.writeTextFileSync(evil, `#!/bin/sh\ntouch ${evil}.ran\n`);
      Deno.chmodSync(evil, 0o755);
      namespace.run(() => {
        const second = `-A OUTPUT --modprobe=${evil} -m nosuchmatch -m comment ` +
          `--comment kuma/mesh/transparent/proxy/x -j RETURN`;
        const comment = `a\n${second}`;
        const rule = ["OUTPUT", "-m", "comment", "--comment", comment, "-j", "RETURN"];
        tool(toolName("ipv4", backend), ["-t", "nat", "-A", ...rule]);
        const before = saved("ipv4", backend);
        assert.ok(before.includes("\n-A OUTPUT --modprobe"), before);
        const engine = new IptablesEngine({ backend });
        const wanted = compileRuleset(
          vectorConfig(readVectors()[0]!, "3"),
          vectorFacts(readVectors()[0]!),
        );
        assert.throws(() => engine.apply(wanted), EngineError);
        assert.throws(() => engine.remove(), EngineError);
        assert.equal(saved("ipv4", backend), before);
        assert.throws(() => Deno.statSync(`${evil}.ran`), Deno.errors.NotFound);
      });
    } finally {
      Deno.removeSync(evil);
    }
  });
}

Deno.test("only folders that root alone can fill are trusted", () => {
  const folder = Deno.makeTempDirSync({ dir: "/var/lib", prefix: "kuma-test-" });
  try {
    for (const [name, mode] of [["good", 0o755], ["group", 0o775], ["all", 0o777]] as const) {
      Deno.mkdirSync(`${folder}/${name}`);
      Deno.chmodSync(`${folder}/${name}`, mode);
    }
    Deno.mkdirSync(`${folder}/all/below`);
    Deno.mkdirSync(`${folder}/foreign`);
    Deno.chownSync(`${folder}/foreign`, 1000, 1000);
    Deno.symlinkSync(`${folder}/all/below`, `${folder}/link`);
    const names = ["good", "group", "all", "all/below", "foreign", "link", "missing"];
    Deno.chmodSync(folder, 0o755);
    const path = [...names.map((name) => `${folder}/${name}`), "", ".", "bin", "/usr/sbin"].join(
      ":",
    );
    assert.deepEqual(trustedFolders(path), [`${folder}/good`, "/usr/sbin"]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
