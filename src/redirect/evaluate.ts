/**
 * Walks a packet through the rules as the kernel does, and tells what happens to it and why.
 *
 * What the kernel's tables do, and this follows: `raw` comes first and may choose a conntrack zone,
 * the first choice counts; then `mangle`; then `nat`, which only sees the first packet of a
 * connection. Leaving a built-in chain means accept. A packet that is sent to the pod itself comes
 * in again through `lo`, but its connection has been through `raw` and `nat` by then; only a packet
 * that belongs to no connection is looked at anew.
 */
import { contains } from "../ip/cidr.ts";
import { type Address, type IpFamily, parseAddress } from "../ip/address.ts";
import type { Range } from "./config.ts";
import type {
  BaseChainName,
  Chain,
  FamilyRuleset,
  Match,
  Rule,
  Ruleset,
  TableName,
} from "./ruleset.ts";

/** A packet of a connection, as far as rules can tell packets apart. */
export interface Packet {
  readonly family: IpFamily;
  /** Sent by a process of the pod, or received from outside. */
  readonly direction: "outbound" | "inbound";
  /** `tcp`, `udp` or any other name. */
  readonly protocol: string;
  readonly source: string;
  readonly sourcePort?: number;
  readonly destination: string;
  readonly destinationPort?: number;
  /** Where it came in; `eth0` unless told. */
  readonly inputInterface?: string;
  /** Where it goes out; the loopback interface or `eth0`, by its addresses, unless told. */
  readonly outputInterface?: string;
  /** Owner of the sending socket; a packet without one has no socket. */
  readonly uid?: number;
  /** `new`, that is the first packet of a connection, unless told. */
  readonly conntrackState?: "new" | "established" | "related" | "invalid" | "untracked";
}

/** What happens to a packet in the end. */
export type FinalVerdict =
  | { readonly kind: "accept" }
  | { readonly kind: "drop" }
  /** Its connection goes to this port of the pod. */
  | { readonly kind: "redirect"; readonly port: number };

/** A rule that the packet met. */
export interface TraceStep {
  readonly table: TableName;
  readonly chain: string;
  /** Position in its chain, from 1. */
  readonly position: number;
  readonly rule: Rule;
  readonly matched: boolean;
  /** The first condition that did not hold, or what the rule did. */
  readonly because: string;
}

/** The way of a packet. */
export interface Evaluation {
  readonly verdict: FinalVerdict;
  readonly conntrackZone?: number;
  readonly steps: readonly TraceStep[];
  /** What is worth knowing besides the rules, one sentence each. */
  readonly notes: readonly string[];
}

/** Deepest nesting of chains, as a guard against rulesets that call themselves. */
const MAX_CHAIN_DEPTH = 16;

/**
 * Walks a packet through a ruleset.
 *
 * @param ruleset What the compiler made.
 * @param packet The packet.
 * @param loopback Name of the loopback interface.
 * @throws {TypeError} when an address of the packet is not one of its family.
 */
export function evaluate(ruleset: Ruleset, packet: Packet, loopback = "lo"): Evaluation {
  const walk = new Walk(packet, loopback);
  const rules = ruleset.families.find(({ family }) => family === packet.family);
  if (rules === undefined) {
    walk.notes.push(`There are no rules for ${familyName(packet.family)}`);
    return walk.end({ kind: "accept" });
  }
  const hook: BaseChainName = packet.direction === "outbound" ? "OUTPUT" : "PREROUTING";
  let verdict = walkHook(walk, rules, hook);
  if (verdict.kind === "accept" && walk.returnsWithoutConnection()) {
    walk.comeInAgain();
    verdict = walkHook(walk, rules, "PREROUTING");
  }
  return walk.end(verdict);
}

function walkHook(walk: Walk, rules: FamilyRuleset, hook: BaseChainName): FinalVerdict {
  for (const name of ["raw", "mangle", "nat"] as const) {
    const table = rules.tables.find((table) => table.name === name);
    const chain = table?.chains.find((chain) => chain.base && chain.name === hook);
    if (table === undefined || chain === undefined) continue;
    if (name === "nat" && !walk.isFirstOfConnection()) {
      walk.note("The nat table only sees the first packet of a connection");
      continue;
    }
    const verdict = walk.chain(name, chain, table.chains, 0);
    if (verdict !== "return") return verdict;
  }
  return { kind: "accept" };
}

function familyName(family: IpFamily): string {
  return family === "ipv4" ? "IPv4" : "IPv6";
}

class Walk {
  readonly #steps: TraceStep[] = [];
  readonly notes: string[] = [];
  #zone: number | undefined;
  readonly #source: Address;
  readonly #destination: Address;
  #output: string | undefined;
  #input: string | undefined;
  readonly #loopback: string;

  constructor(readonly packet: Packet, loopback: string) {
    this.#source = addressOf(packet.source, packet.family, "source");
    this.#destination = addressOf(packet.destination, packet.family, "destination");
    this.#loopback = loopback;
    if (packet.direction === "outbound") {
      this.#output = packet.outputInterface ?? (this.#staysInPod() ? loopback : "eth0");
    } else {
      this.#input = packet.inputInterface ?? "eth0";
    }
  }

  /** A destination that is a loopback address, or also the source, is the pod itself. */
  #staysInPod(): boolean {
    const { bytes } = this.#destination;
    const own = bytes.every((byte, index) => byte === this.#source.bytes[index]);
    if (own || bytes.length === 4) return own || bytes[0] === 127;
    return bytes.subarray(0, 15).every((byte) => byte === 0) && [1, 6].includes(bytes[15]!);
  }

  /** The kernel chooses a translation for new connections and for those that another one expects. */
  isFirstOfConnection(): boolean {
    return ["new", "related"].includes(this.packet.conntrackState ?? "new");
  }

  /** Whether the packet goes out through the loopback interface and belongs to no connection. */
  returnsWithoutConnection(): boolean {
    return this.#output === this.#loopback && this.packet.conntrackState === "invalid";
  }

  /** The packet has gone out through the loopback interface. */
  comeInAgain(): void {
    this.note(`The packet comes in again through ${this.#loopback}`);
    this.#input = this.#loopback;
    this.#output = undefined;
  }

  /** Tells something once. */
  note(text: string): void {
    if (!this.notes.includes(text)) this.notes.push(text);
  }

  end(verdict: FinalVerdict): Evaluation {
    if (verdict.kind !== "drop" && this.#output === this.#loopback) {
      this.notes.push(
        `The packet comes in again through ${this.#loopback}; nat does not see it a second time`,
      );
    } else if (verdict.kind === "redirect" && this.packet.direction === "outbound") {
      this.notes.push(
        `The packet turns round to ${this.packet.family === "ipv4" ? "127.0.0.1" : "::1"} and ` +
          `comes in through ${this.#loopback}; nat does not see it a second time`,
      );
    }
    return {
      verdict,
      ...(this.#zone === undefined ? {} : { conntrackZone: this.#zone }),
      steps: this.#steps,
      notes: this.notes,
    };
  }

  chain(
    table: TableName,
    chain: Chain,
    chains: readonly Chain[],
    depth: number,
  ): FinalVerdict | "return" {
    if (depth > MAX_CHAIN_DEPTH) throw new TypeError(`Chain "${chain.name}" calls itself`);
    for (const [index, rule] of chain.rules.entries()) {
      const failed = rule.matches.map((match) => this.#failure(match))
        .find((reason) => reason !== undefined);
      const step = (because: string) =>
        this.#steps.push({
          table,
          chain: chain.name,
          position: index + 1,
          rule,
          matched: failed === undefined,
          because,
        });
      if (failed !== undefined) {
        step(failed);
        continue;
      }
      const { verdict } = rule;
      switch (verdict.kind) {
        case "log":
          step("logged");
          break;
        case "conntrack-zone":
          if (this.#zone === undefined) step(`conntrack zone ${verdict.zone}`);
          else step(`no effect: zone ${this.#zone} was chosen before`);
          this.#zone ??= verdict.zone;
          break;
        case "return":
          step(chain.base ? "accepted" : "back to the calling chain");
          return "return";
        case "drop":
          step("dropped");
          return { kind: "drop" };
        case "redirect":
          step(`redirected to port ${verdict.port}`);
          return { kind: "redirect", port: verdict.port };
        case "jump": {
          const target = chains.find((other) => other.name === verdict.chain);
          if (target === undefined) {
            step(`goes to ${verdict.chain}, whose rules are not ours`);
            this.notes.push(
              `What ${verdict.chain} does is not known here; assumed that it comes back`,
            );
            break;
          }
          step(`goes to ${verdict.chain}`);
          const result = this.chain(table, target, chains, depth + 1);
          if (result !== "return") return result;
          break;
        }
      }
    }
    return "return";
  }

  /** Tells why a condition does not hold; `undefined` when it does. */
  #failure(match: Match): string | undefined {
    const { packet } = this;
    const expect = (holds: boolean, actual: string, wanted: string, negated = false) =>
      holds !== negated ? undefined : `${actual} is ${negated ? "" : "not "}${wanted}`;
    switch (match.kind) {
      case "protocol":
        return expect(packet.protocol === match.protocol, packet.protocol, match.protocol);
      case "source-port":
        return this.#port("source", packet.sourcePort, match);
      case "destination-port":
        return this.#port("destination", packet.destinationPort, match);
      case "source-address":
        return expect(
          contains(match.cidr, this.#source),
          `source ${packet.source}`,
          `in ${match.cidr.address}/${match.cidr.prefix}`,
          match.negated,
        );
      case "destination-address":
        return expect(
          contains(match.cidr, this.#destination),
          `destination ${packet.destination}`,
          `in ${match.cidr.address}/${match.cidr.prefix}`,
          match.negated,
        );
      case "input-interface":
        return expect(
          interfaceMatches(match.name, this.#input),
          `input interface ${this.#input ?? "(none)"}`,
          match.name,
        );
      case "output-interface":
        return expect(
          interfaceMatches(match.name, this.#output),
          `output interface ${this.#output ?? "(none)"}`,
          match.name,
        );
      case "owner":
        // Without a socket the kernel's owner match holds exactly when it is negated.
        if (packet.uid === undefined || packet.direction === "inbound") {
          return match.negated ? undefined : "no socket, so no owner";
        }
        return expect(
          inRange(match.uids, packet.uid),
          `UID ${packet.uid}`,
          rangeText(match.uids),
          match.negated,
        );
      case "conntrack-state": {
        const state = packet.conntrackState ?? "new";
        return expect(state === match.state, `conntrack state ${state}`, match.state);
      }
    }
  }

  #port(
    side: string,
    port: number | undefined,
    match: Extract<Match, { ports: readonly Range[] }>,
  ): string | undefined {
    // Without a port there is no transport header that the match could look at.
    if (port === undefined) return `no ${side} port`;
    const holds = match.ports.some((range) => inRange(range, port));
    if (holds !== match.negated) return undefined;
    const wanted = match.ports.map(rangeText).join(",");
    return `${side} port ${port} is ${match.negated ? "" : "not "}${wanted}`;
  }
}

function addressOf(text: string, family: IpFamily, side: string): Address {
  const address = parseAddress(text);
  if (address?.family === family) return address;
  throw new TypeError(
    `The ${side} ${JSON.stringify(text)} is not an ${familyName(family)} address`,
  );
}

function interfaceMatches(pattern: string, name: string | undefined): boolean {
  // The kernel compares with an empty name where a hook has no such interface.
  return pattern.endsWith("+")
    ? (name ?? "").startsWith(pattern.slice(0, -1))
    : (name ?? "") === pattern;
}

function inRange({ from, to }: Range, value: number): boolean {
  return value >= from && value <= to;
}

function rangeText({ from, to }: Range): string {
  return from === to ? `${from}` : `${from}-${to}`;
}
