/** Rules and a packet's way as flowcharts in Mermaid's language, which Markdown viewers draw. */
import { conditionsText, familyName, verdictText } from "./describe.ts";
import { endsOf, placesOf, type Way } from "./picture.ts";
import type { Chain, FamilyRuleset, Ruleset, Table } from "./ruleset.ts";

/** A text in quotes, in which nothing means anything to Mermaid or to HTML. */
function label(lines: readonly string[]): string {
  const safe = lines.map((line) => line.replace(/[#"&<>`\\]/g, (c) => `#${c.charCodeAt(0)};`));
  return `"${safe.join("<br/>")}"`;
}

/**
 * Draws the whole ruleset: a box for each chain with its rules, an arrow for each rule that leads out of
 * it, named after the rule.
 *
 * @returns Text with a final line end.
 */
export function mermaidOfRules(ruleset: Ruleset): string {
  const lines = ["flowchart TD"];
  for (const family of ruleset.families) lines.push(...familyLines(family));
  if (ruleset.families.length === 0) lines.push(`  none[${label(["No rules"])}]`);
  return lines.join("\n") + "\n";
}

function familyLines({ family, tables }: FamilyRuleset): string[] {
  const id = (...parts: (string | number)[]) =>
    [family, ...parts].join("_").replaceAll(/[^A-Za-z0-9_]/g, "_");
  const drawn = tables.flatMap((table) =>
    table.chains.filter(({ rules }) => rules.length > 0).map((chain) => ({ table, chain }))
  );
  const boxes = drawn.map(({ table, chain }) =>
    `    ${id(table.name, chain.name)}[${label(boxLines(table, chain))}]`
  );
  const arrows = drawn.flatMap(({ table, chain }) =>
    chain.rules.flatMap(({ id: rule, verdict }) => {
      const from = id(table.name, chain.name);
      const to = verdict.kind === "jump"
        ? id(table.name, verdict.chain)
        : verdict.kind === "redirect"
        ? id("port", verdict.port)
        : verdict.kind === "drop"
        ? id("dropped")
        : undefined;
      return to === undefined ? [] : [{ from, to, rule }];
    })
  );
  const name = familyName(family);
  const ends = [
    ...new Set(
      drawn.flatMap(({ chain }) =>
        chain.rules.flatMap(({ verdict }) => verdict.kind === "redirect" ? [verdict.port] : [])
      ),
    ),
  ].map((port) => `    ${id("port", port)}([${label([`port ${port} of the sidecar`])}])`);
  // Docker's chain is somebody else's, and its rules are not known here.
  const others = drawn.flatMap(({ table, chain }) =>
    chain.rules.flatMap(({ verdict }) =>
      verdict.kind === "jump" &&
        !drawn.some((one) => one.table === table && one.chain.name === verdict.chain)
        ? [`    ${id(table.name, verdict.chain)}[${label([`${table.name} ${verdict.chain}`])}]`]
        : []
    )
  );
  if (arrows.some(({ to }) => to === id("dropped"))) {
    ends.push(`    ${id("dropped")}([${label(["dropped"])}])`);
  }
  return [
    `  subgraph ${family}[${label([name])}]`,
    ...hookLines("PREROUTING", "comes in", drawn, id),
    ...hookLines("OUTPUT", "is sent by a process", drawn, id),
    ...boxes,
    ...new Set(others),
    ...ends,
    ...joined(arrows).map(({ from, to, rules }) => `    ${from} -->|${label(rules)}| ${to}`),
    "  end",
  ];
}

/** Several rules that lead from one box to another are one arrow. */
function joined(arrows: readonly { from: string; to: string; rule: string }[]) {
  const groups = Map.groupBy(arrows, ({ from, to }) => `${from} ${to}`);
  return Array.from(groups.values(), (group) => ({
    from: group[0]!.from,
    to: group[0]!.to,
    rules: [group.map(({ rule }) => rule).join(", ")],
  }));
}

function boxLines({ name }: Table, chain: Chain): string[] {
  return [
    `${name} ${chain.name}`,
    ...chain.rules.map((rule) =>
      `${rule.id}: ${conditionsText(rule)} → ${verdictText(rule.verdict, chain.base)}`
    ),
  ];
}

/** The way through a hook's tables: a packet that no rule redirects goes on to the next. */
function hookLines(
  hook: string,
  how: string,
  drawn: readonly { readonly table: Table; readonly chain: Chain }[],
  id: (...parts: (string | number)[]) => string,
): string[] {
  const stations = drawn.filter(({ chain }) => chain.base && chain.name === hook)
    .map(({ table, chain }) => id(table.name, chain.name));
  if (stations.length === 0) return [];
  const [start, end] = [id("start", hook), id("direct", hook)];
  return [
    `    ${start}([${label([`a packet ${how}`])}])`,
    `    ${end}([${label(["goes direct"])}])`,
    `    ${[start, ...stations].join(" --> ")}`,
    `    ${stations.at(-1)} -->|${label(["else"])}| ${end}`,
  ];
}

/**
 * Draws a packet's way: a box for each rule that it meets, the ones that it matches in green.
 *
 * @returns Text with a final line end.
 */
export function mermaidOfWay(way: Way): string {
  const { from, to } = endsOf(way);
  const lines = [
    "flowchart TD",
    "  classDef met fill:#d7f5dd,stroke:#1a7f37,stroke-width:2px,color:#0b3d1a",
    "  classDef passed fill:#f6f8fa,stroke:#8c959f,color:#57606a",
    `  start([${label([from])}])`,
  ];
  const nodes = ["start"];
  for (const [at, { name, steps }] of placesOf(way.evaluation).entries()) {
    lines.push(`  subgraph chain${at}[${label([name])}]`);
    for (const { rule, matched, because } of steps) {
      const node = `rule${nodes.length}`;
      const texts = [`${rule.id}: ${conditionsText(rule)}`, because];
      lines.push(`    ${node}[${label(texts)}]:::${matched ? "met" : "passed"}`);
      nodes.push(node);
    }
    lines.push("  end");
  }
  lines.push(`  finish([${label([to])}]):::met`, `  ${[...nodes, "finish"].join(" --> ")}`);
  return lines.join("\n") + "\n";
}

/** Draws that nothing is drawn, and why. */
export function mermaidOfSkip(text: string): string {
  return `flowchart TD\n  skipped([${label([text])}])\n`;
}
