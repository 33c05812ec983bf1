import assert from "node:assert/strict";
import type { RedirectRulesVersion } from "../src/redirect/config.ts";
import type { IpFamily } from "../src/ip/address.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { restoreText, saveText } from "../src/redirect/iptables_text.ts";
import {
  groupRules,
  readVectors,
  vectorConfig,
  vectorFacts,
  vectorRules,
} from "./support/vectors.ts";

const versions: readonly RedirectRulesVersion[] = ["2.9", "3"];
const families: readonly IpFamily[] = ["ipv4", "ipv6"];

for (const vector of readVectors()) {
  for (const version of versions) {
    for (const family of families) {
      Deno.test(`vector ${vector.name}, form ${version}, ${family}: ${vector.title}`, () => {
        const ruleset = compileRuleset(vectorConfig(vector, version), vectorFacts(vector));
        const rules = ruleset.families.find((entry) => entry.family === family);
        assert.ok(rules);
        const wanted = vectorRules(vector.rules[version][family]);
        assert.deepEqual(groupRules(saveText(rules)), wanted);
        assert.deepEqual(groupRules(saveText(rules, { comments: true })), wanted);
      });
    }
  }
}

Deno.test("restoring a vector line by line into empty tables gives the vector", () => {
  for (const vector of readVectors()) {
    for (const version of versions) {
      const ruleset = compileRuleset(vectorConfig(vector, version), vectorFacts(vector));
      for (const rules of ruleset.families) {
        const text = replay(restoreText(rules, { comments: true }));
        const wanted = vectorRules(vector.rules[version][rules.family]);
        assert.deepEqual(groupRules(text), wanted, `${vector.name} ${version} ${rules.family}`);
      }
    }
  }
});

/** Does what `iptables-restore --noflush` does with `-N`, `-A` and `-I` on empty tables. */
function replay(text: string): string {
  const out: string[] = [];
  let chains = new Map<string, string[]>();
  for (const line of text.trimEnd().split("\n")) {
    const [option, chain = ""] = line.split(" ");
    if (line.startsWith("*")) {
      out.push(line);
      chains = new Map([["PREROUTING", []], ["OUTPUT", []]]);
    } else if (option === "-N") {
      assert.ok(!chains.has(chain), `${chain} made twice`);
      chains.set(chain, []);
    } else if (option === "-A") {
      const rules = chains.get(chain);
      assert.ok(rules, `rule before its chain: ${line}`);
      rules.push(line);
    } else if (option === "-I") {
      const position = Number(line.split(" ")[2]);
      const rules = chains.get(chain);
      assert.ok(rules !== undefined && position >= 1 && position <= rules.length + 1, line);
      rules.splice(position - 1, 0, line.replace(/^-I (\S+) \d+/, "-A $1"));
    } else {
      assert.equal(line, "COMMIT");
      out.push(...[...chains.values()].flat());
    }
  }
  return out.join("\n");
}
