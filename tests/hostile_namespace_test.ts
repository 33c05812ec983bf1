/** A pod that may change its own network fills it with objects: that costs the pod, not the node. */
import assert from "node:assert/strict";
import { EngineError } from "../src/engine/engine.ts";
import { applyWithSelectedEngine } from "../src/engine/choice/work.ts";
import { createNamespace, type NamedNamespace } from "./support/topology.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { tool } from "./support/iptables.ts";
import { listRuleset, nftScript } from "./support/nft.ts";

const ruleset = compileRuleset(defaultRedirectConfig, {
  loopback: "lo",
  ipv6: true,
  dockerOutput: { ipv4: false, ipv6: false },
  conntrackZones: true,
});

function assertRefusedInTime(namespace: NamedNamespace): void {
  const started = performance.now();
  assert.throws(
    () => namespace.run(() => applyWithSelectedEngine("auto", () => ruleset)),
    (error) => error instanceof EngineError && /EMSGSIZE.*8388608/.test(error.message),
  );
  const milliseconds = performance.now() - started;
  assert.ok(milliseconds < 5000, `It took ${milliseconds} ms`);
}

Deno.test("a namespace with more nf_tables rules than anybody needs is refused in time", () => {
  using pod = createNamespace();
  const rule = "  " + "counter ".repeat(40) + "accept\n";
  nftScript(pod, `table ip nat {\n chain filler {\n${rule.repeat(6000)} }\n}\n`);
  assertRefusedInTime(pod);
  assert.ok(!listRuleset(pod).includes("kuma_mesh"));
});

Deno.test("a namespace with more legacy rules than anybody needs is refused in time", () => {
  using pod = createNamespace();
  const comment = "x".repeat(200);
  const rules = Array.from(
    { length: 25_000 },
    (_, i) => `-A FILLER -s 10.0.${i >> 8}.${i & 255} -m comment --comment ${comment} -j ACCEPT`,
  );
  const text = ["*nat", ":FILLER - [0:0]", ...rules, "COMMIT", ""].join("\n");
  pod.run(() => tool("iptables-legacy-restore", [], text));
  assertRefusedInTime(pod);
  assert.ok(!listRuleset(pod).includes("kuma_mesh"));
});

Deno.test("a namespace with many foreign rules, but not too many, gets ours", () => {
  using pod = createNamespace();
  const rule = "  tcp dport 80 counter accept\n";
  nftScript(pod, `table ip filter {\n chain filler {\n${rule.repeat(5000)} }\n}\n`);
  pod.run(() => applyWithSelectedEngine("auto", () => ruleset));
  assert.ok(listRuleset(pod).includes("table inet kuma_mesh"));
});
