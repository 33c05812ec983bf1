/**
 * Turns the rules of a hook into instructions, rule by rule in their order: each condition that does
 * not hold jumps to the next rule. What is known beforehand (the protocol) costs no instruction.
 */
import { addressBytes } from "../../ip/address.ts";
import type { Cidr } from "../../ip/cidr.ts";
import type { Range } from "../../redirect/config.ts";
import type { BaseChainName, Chain, FamilyRuleset, Match, Rule } from "../../redirect/ruleset.ts";
import { type Assembler, r1, r7, r8, r9, stack } from "./assembler.ts";
import { Stack, wordOf } from "./layout.ts";

/** Where a rule sends a connection. */
export interface Target {
  readonly label: string;
  readonly port: number;
  /** Whether it is a sidecar's listener for outgoing connections, on all addresses of the pod. */
  readonly outbound: boolean;
}

/** What the instructions may rely on. */
export interface RuleCodeOptions {
  readonly family: FamilyRuleset;
  readonly hook: BaseChainName;
  readonly protocol: "tcp" | "udp";
  /** Where to go when no rule redirects. */
  readonly accept: string;
}

/** Port of the destination, in the machine's byte order. */
export const PORT = r7;
/** The process's real UID. */
export const UID = r8;
/** Whether the destination is the pod itself: netfilter's output interface `lo`. */
export const LOCAL = r9;

/**
 * Writes the rules of a hook's nat table. Before them {@linkcode PORT}, {@linkcode UID} and
 * {@linkcode LOCAL} must be set, and the addresses must stand on the stack.
 *
 * @returns the places where connections are sent, each with a label that has to be defined
 */
export function writeRules(program: Assembler, options: RuleCodeOptions): Target[] {
  const chains = natChains(options.family);
  const base = chains.find((chain) => chain.base && chain.name === options.hook);
  const targets = new Map<string, Target>();
  if (base !== undefined) new RuleWriter(program, options, chains, targets).chain(base);
  program.jump(options.accept);
  return [...targets.values()].filter(({ label }) => program.isTarget(label));
}

/** The rules of the one table in which connections are sent elsewhere. */
export function natRules(family: FamilyRuleset): readonly Rule[] {
  return natChains(family).flatMap(({ rules }) => rules);
}

function natChains({ tables }: FamilyRuleset): readonly Chain[] {
  return tables.find(({ name }) => name === "nat")?.chains ?? [];
}

class RuleWriter {
  constructor(
    private readonly program: Assembler,
    private readonly options: RuleCodeOptions,
    private readonly chains: readonly Chain[],
    private readonly targets: Map<string, Target>,
  ) {}

  /** Writes a chain; its end is where the next instruction will stand. */
  chain(chain: Chain): void {
    const end = this.program.freshLabel(`end_of_${chain.name}`);
    for (const rule of chain.rules) {
      const { matches, verdict } = rule;
      // The protocol is known.
      if (matches.some((match) => match.kind === "protocol" && !this.#isOurs(match))) continue;
      const next = this.program.freshLabel(`after_${rule.id}`);
      this.program.remark(`${rule.id}: ${rule.comment}`);
      for (const match of matches) this.#condition(match, next);
      switch (verdict.kind) {
        case "return":
          this.program.jump(chain.base ? this.options.accept : end);
          break;
        case "jump":
          this.chain(this.chains.find(({ name }) => name === verdict.chain)!);
          break;
        case "redirect":
          this.program.jump(this.#target(rule, verdict.port));
          break;
        default:
          throw new TypeError(`Rule ${rule.id} cannot be a BPF program: ${verdict.kind}`);
      }
      this.program.label(next);
    }
    this.program.label(end);
  }

  #isOurs(match: Match): boolean {
    return match.kind !== "protocol" || match.protocol === this.options.protocol;
  }

  #target(rule: Rule, port: number): string {
    const outbound = rule.id === "D2";
    const { family: { family }, protocol } = this.options;
    const label = `${protocol}_of_${family}_to_${outbound ? "outbound_" : ""}${port}`;
    this.targets.set(label, { label, port, outbound });
    return label;
  }

  /** Jumps to `next` unless the condition holds. */
  #condition(match: Match, next: string): void {
    const { program } = this;
    switch (match.kind) {
      case "protocol":
        return;
      case "destination-port":
        return this.#port(match.ports, match.negated, next);
      case "source-address":
        return this.#address(Stack.source, match.cidr, match.negated, next);
      case "destination-address":
        return this.#address(Stack.destination, match.cidr, match.negated, next);
      case "output-interface":
        program.jumpIf32(LOCAL, "==", 0, next);
        return;
      case "owner": {
        const inside = program.freshLabel("same_owner");
        const { from, to } = match.uids;
        if (!match.negated) {
          this.#outside(UID, match.uids, next);
        } else if (from === to) {
          program.jumpIf32(UID, "==", from, next);
        } else {
          program.jumpIf32(UID, "<", from, inside).jumpIf32(UID, ">", to, inside).jump(next)
            .label(inside);
        }
        return;
      }
      default:
        throw new TypeError(`A BPF program cannot ask for ${match.kind}`);
    }
  }

  #port(ports: readonly Range[], negated: boolean, next: string): void {
    const { program } = this;
    const [only] = ports;
    if (only !== undefined && ports.length === 1 && !negated) {
      return this.#outside(PORT, only, next);
    }
    const matching = program.freshLabel("port_matches");
    for (const range of ports) {
      const other = program.freshLabel("other_port");
      this.#outside(PORT, range, other);
      program.jump(negated ? next : matching).label(other);
    }
    if (!negated) program.jump(next).label(matching);
  }

  #outside(value: typeof PORT, { from, to }: Range, elsewhere: string): void {
    if (from === to) this.program.jumpIf32(value, "!=", from, elsewhere);
    else {
      if (from > 0) this.program.jumpIf32(value, "<", from, elsewhere);
      if (to < 0xffffffff) this.program.jumpIf32(value, ">", to, elsewhere);
    }
  }

  #address(place: number, cidr: Cidr, negated: boolean, next: string): void {
    const { program } = this;
    const bytes = addressBytes(cidr.address);
    // The stack has IPv4 addresses as the last of four words.
    const first = bytes.length === 4 ? 3 : 0;
    const different = negated ? program.freshLabel("other_address") : next;
    for (let index = 0; index < bytes.length / 4; index++) {
      const mask = maskWord(cidr.prefix - 32 * index);
      if (mask === 0) break;
      program.load("word", r1, stack, place + 4 * (first + index));
      if (mask !== -1) program.and32(r1, mask);
      program.jumpIf32(r1, "!=", wordOf(bytes, index) & mask, different);
    }
    if (negated) program.jump(next).label(different);
  }
}

/** The mask of a word of which the first bits count, as a little-endian machine loads it. */
function maskWord(bits: number): number {
  const counted = Math.max(0, Math.min(32, bits));
  const bytes = [0, 8, 16, 24].map((before) =>
    0xff00 >> Math.max(0, Math.min(8, counted - before))
  );
  return bytes.reduce((word, byte, index) => word | (byte & 0xff) << 8 * index, 0);
}
