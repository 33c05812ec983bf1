/** Pictures of rules and of packets' ways: what they show, that they are well-formed, and up to date. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import fc from "fast-check";
import { drawn } from "../scripts/pictures_docs.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { evaluate, type Packet } from "../src/redirect/evaluate.ts";
import { mermaidOfRules, mermaidOfSkip, mermaidOfWay } from "../src/redirect/mermaid.ts";
import type { NamespaceFacts, Ruleset } from "../src/redirect/ruleset.ts";
import { svgOfSkip, svgOfWay } from "../src/redirect/svg.ts";
import { redirectConfig } from "./support/arbitrary_redirect.ts";

Deno.test("the documents' pictures are those that the commands draw", () => {
  for (const { file, text } of drawn) {
    const old = Deno.readTextFileSync(file);
    equal(old, text(old), `deno run -A scripts/pictures_docs.ts; ${file.pathname}`);
  }
});

const facts: fc.Arbitrary<NamespaceFacts> = fc.record({
  loopback: fc.constantFrom("lo", "lo0"),
  ipv6: fc.boolean(),
  dockerOutput: fc.record({ ipv4: fc.boolean(), ipv6: fc.boolean() }),
  conntrackZones: fc.boolean(),
});
const port = fc.constantFrom(53, 80, 443, 8080, 15001, 15006);
const packets: fc.Arbitrary<Packet> = fc.tuple(
  fc.constantFrom(["ipv4", "192.0.2.1", "127.0.0.6"], ["ipv6", "fd00::1", "::6"] as const),
  fc.constantFrom("inbound", "outbound"),
  fc.constantFrom("tcp", "udp", "icmp"),
  port,
  port,
  fc.constantFrom(0, 1000, 5678),
  fc.boolean(),
).map(([[family, one, other], direction, protocol, sourcePort, destinationPort, uid, turned]) => ({
  family,
  direction,
  protocol,
  source: turned ? other : one,
  destination: turned ? one : other,
  ...(protocol === "icmp" ? {} : { sourcePort, destinationPort }),
  ...(direction === "outbound" ? { uid } : {}),
} as Packet));

/** Boxes and arrows of a flowchart; fails on a line that is neither. */
function parsed(mermaid: string): { boxes: Set<string>; arrows: [from: string, to: string][] } {
  const boxes = new Set<string>();
  const arrows: [string, string][] = [];
  const [first, ...lines] = mermaid.trimEnd().split("\n");
  equal(first, "flowchart TD");
  let depth = 0;
  for (const line of lines.map((line) => line.trim())) {
    const box = /^(\w+)(?:\["[^"]*"\]|\(\["[^"]*"\]\))(?::::(?:met|passed))?$/.exec(line);
    if (/^classDef \w+ [\w:#,-]+$/.test(line)) continue;
    if (/^subgraph \w+\["[^"]*"\]$/.test(line)) depth++;
    else if (line === "end") depth--;
    else if (box !== null) boxes.add(box[1]!);
    else {
      const nodes = line.split(/ -->(?:\|"[^"]*"\|)? /);
      ok(nodes.length > 1 && nodes.every((node) => /^\w+$/.test(node)), line);
      for (let i = 1; i < nodes.length; i++) arrows.push([nodes[i - 1]!, nodes[i]!]);
    }
  }
  equal(depth, 0);
  for (const node of arrows.flat()) ok(boxes.has(node), `${node} is drawn nowhere`);
  return { boxes, arrows };
}

function rulesOf(ruleset: Ruleset) {
  return ruleset.families.flatMap(({ tables }) =>
    tables.flatMap(({ chains }) => chains.flatMap(({ rules }) => rules))
  );
}

/** Texts between tags, and that each tag is closed: what an XML reader would insist on. */
function wellFormed(svg: string): string {
  const open: string[] = [];
  const text = svg.replace(/<(\/?)([a-z]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g, (...parts) => {
    const [, closes, name, , empty] = parts as string[];
    if (closes) equal(open.pop(), name);
    else if (!empty) open.push(name!);
    return "";
  });
  deepEqual(open, []);
  ok(!/[<>]|&(?!#\d+;)/.test(text), text);
  return text;
}

Deno.test("pictures of any rules and any packet are well-formed and show each rule", () => {
  fc.assert(
    fc.property(redirectConfig, facts, packets, (config, namespace, packet) => {
      const ruleset = compileRuleset(config, namespace);
      const picture = mermaidOfRules(ruleset);
      parsed(picture);
      for (const { id } of rulesOf(ruleset)) ok(picture.includes(`${id}: `), id);
      const evaluation = evaluate(ruleset, packet, namespace.loopback);
      const way = { packet, evaluation, config };
      const { boxes } = parsed(mermaidOfWay(way));
      equal(boxes.size, evaluation.steps.length + 2);
      const text = wellFormed(svgOfWay(way));
      for (const { rule } of evaluation.steps) ok(text.includes(`${rule.id}: `), rule.id);
      const matched = evaluation.steps.filter((step) => step.matched).length;
      equal(svgOfWay(way).split('class="met"').length - 1, matched);
    }),
    { numRuns: 200 },
  );
});

Deno.test("a way ends where its packet ends", () => {
  const namespace = {
    loopback: "lo",
    ipv6: true,
    dockerOutput: { ipv4: false, ipv6: false },
    conntrackZones: true,
  };
  const ruleset = compileRuleset(defaultRedirectConfig, namespace);
  const packet = {
    family: "ipv4",
    direction: "outbound",
    protocol: "tcp",
    source: "192.0.2.1",
    destination: "192.0.2.2",
    destinationPort: 80,
    uid: 1000,
  } as const;
  const way = { packet, evaluation: evaluate(ruleset, packet), config: defaultRedirectConfig };
  match(
    mermaidOfWay(way),
    /finish\(\["ends at port 15001, the outbound listener of the sidecar"\]\)/,
  );
  match(
    svgOfWay(way),
    />ends at port 15001, the outbound listener of the sidecar<\/text>\n<\/svg>\n$/,
  );
});

Deno.test("nothing that a pod's author writes means anything in a picture", () => {
  const bad = `x"] --> y; click <script>alert(1)</script> & #quot; \`b\` \\`;
  const { boxes, arrows } = parsed(mermaidOfSkip(bad));
  deepEqual([[...boxes], arrows], [["skipped"], []]);
  ok(!/<script/.test(mermaidOfSkip(bad)));
  ok(!wellFormed(svgOfSkip(`${bad}\x00'`)).includes("\x00"));
});
