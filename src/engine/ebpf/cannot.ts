/** What of a ruleset this engine cannot do, so that another one is chosen and nothing is left out. */
import type { Chain, Match, Rule, Ruleset } from "../../redirect/ruleset.ts";

/**
 * Tells the reasons, one sentence each; none when the engine can do all of it. Zones of connection
 * tracking are no reason: connections that are not translated need none.
 */
export function cannot({ families }: Ruleset): readonly string[] {
  const reasons = new Set<string>();
  for (const { tables } of families) {
    for (const { name, chains } of tables) {
      if (name === "raw") continue;
      for (const rule of chains.flatMap((chain) => chain.rules)) {
        const reason = reasonOf(rule, chains);
        if (reason !== undefined) reasons.add(reason);
      }
    }
  }
  return [...reasons];
}

function reasonOf({ id, matches, verdict }: Rule, chains: readonly Chain[]): string | undefined {
  if (matches.some((match) => match.kind === "input-interface")) {
    return `Traffic of a virtual network passes through the pod, its sockets are elsewhere (${id})`;
  }
  if (verdict.kind === "log") return `Packets cannot be logged, only counted (${id})`;
  if (verdict.kind === "drop") return `Packets without a connection cannot be seen (${id})`;
  if (verdict.kind === "jump" && !chains.some(({ name }) => name === verdict.chain)) {
    return `Rules of chain ${verdict.chain} are not reached from a program (${id})`;
  }
  const unknown = matches.find((match) => !KNOWN.has(match.kind));
  if (unknown !== undefined) return `A program cannot ask for ${unknown.kind} (${id})`;
  return undefined;
}

const KNOWN: ReadonlySet<Match["kind"]> = new Set([
  ...["protocol", "destination-port", "source-address"] as const,
  ...["destination-address", "output-interface", "owner"] as const,
]);
