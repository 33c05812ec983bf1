/**
 * Draws the pictures of `docs/rules.md` and `docs/how-it-works.md` as the commands do:
 * `deno run -A scripts/pictures_docs.ts`. A test holds the documents to them.
 */
import { compileRuleset } from "../src/redirect/compile.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { evaluate, type Packet } from "../src/redirect/evaluate.ts";
import { mermaidOfRules, mermaidOfWay } from "../src/redirect/mermaid.ts";
import type { Way } from "../src/redirect/picture.ts";
import { svgOfWay } from "../src/redirect/svg.ts";
import { withPart } from "./document.ts";

const by = "scripts/pictures_docs.ts";

/** A pod with the settings that the injector writes, in a namespace with IPv4 alone. */
const config: RedirectConfig = { ...defaultRedirectConfig, ipFamilyMode: "ipv4" };
const ruleset = compileRuleset(config, {
  loopback: "lo",
  ipv6: false,
  dockerOutput: { ipv4: false, ipv6: false },
  conntrackZones: true,
});

function wayOf(packet: Packet): Way {
  return { packet, evaluation: evaluate(ruleset, packet), config };
}

const outgoing: Packet = {
  family: "ipv4",
  direction: "outbound",
  protocol: "tcp",
  source: "192.0.2.10",
  destination: "192.0.2.80",
  destinationPort: 443,
  uid: 1000,
};
const incoming: Packet = {
  family: "ipv4",
  direction: "inbound",
  protocol: "tcp",
  source: "192.0.2.7",
  sourcePort: 40_000,
  destination: "192.0.2.10",
  destinationPort: 8080,
};

/** A file with pictures, and how it must be. */
export interface Drawn {
  readonly file: URL;
  /** @param old Its text; empty when there is none. */
  readonly text: (old: string) => string;
}

function inMarkdown(name: string, mermaid: () => string): Drawn {
  return {
    file: new URL(`../docs/${name}`, import.meta.url),
    text: (old) => withPart(old, by, `\`\`\`mermaid\n${mermaid()}\`\`\`\n`),
  };
}

/** All files. */
export const drawn: readonly Drawn[] = [
  inMarkdown("rules.md", () => mermaidOfRules(ruleset)),
  inMarkdown("how-it-works.md", () => mermaidOfWay(wayOf(incoming))),
  {
    file: new URL("../docs/pictures/outgoing.svg", import.meta.url),
    text: () => svgOfWay(wayOf(outgoing)),
  },
];

if (import.meta.main) {
  for (const { file, text } of drawn) {
    let old = "";
    try {
      old = Deno.readTextFileSync(file);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
    Deno.writeTextFileSync(file, text(old));
  }
}
