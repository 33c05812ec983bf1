/**
 * Encoded expressions → the rule in the words of `nft`, for messages: `tcp dport 3306 return`. Any rule
 * may come here, since it shows what others have made of ours; what has no words here is shown by the
 * name of its expression.
 */
import {
  type Attribute,
  findAttribute,
  parseAttributes,
  readText,
  readU32be,
} from "../../linux/netlink_message.ts";
import {
  NFPROTO_IPV6,
  NFT_PAYLOAD_NETWORK_HEADER,
  NFT_PAYLOAD_TRANSPORT_HEADER,
  NFTA_BITWISE,
  NFTA_BYTEORDER,
  NFTA_CMP,
  NFTA_CT,
  NFTA_DATA_VALUE,
  NFTA_DATA_VERDICT,
  NFTA_EXPR_DATA,
  NFTA_EXPR_NAME,
  NFTA_IMMEDIATE,
  NFTA_LOG,
  NFTA_LOOKUP,
  NFTA_META,
  NFTA_PAYLOAD,
  NFTA_RANGE,
  NFTA_REDIR,
  NFTA_VERDICT_CHAIN,
  NFTA_VERDICT_CODE,
} from "../../linux/nf_tables.ts";
import type { SetResolver } from "./describe.ts";
import {
  ctName,
  ctOperand,
  metaOperand,
  numberText,
  type Operand,
  stateWords,
  valueText,
} from "./operands.ts";
import type { NftFamily } from "./plan.ts";

/** Names of `nft_cmp_ops`, as they stand before a value. */
const OPERATIONS = ["", "!= ", "< ", "<= ", "> ", ">= "];
const LEVELS = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];

/**
 * Says a rule in words.
 *
 * @param expressions List elements as in `NFTA_RULE_EXPRESSIONS`.
 * @param family The table's family.
 * @throws {RangeError} when a length field does not fit.
 */
export function ruleWords(
  expressions: Uint8Array,
  family: NftFamily,
  resolve: SetResolver,
): string {
  const words = new RuleWords(family, resolve);
  for (const { value } of parseAttributes(expressions)) {
    const element = parseAttributes(value);
    const name = readText(findAttribute(element, NFTA_EXPR_NAME) ?? new Uint8Array());
    words.add(name, parseAttributes(findAttribute(element, NFTA_EXPR_DATA) ?? new Uint8Array()));
  }
  return words.text;
}

class RuleWords {
  readonly #registers = new Map<number, Operand | Uint8Array>();
  readonly #words: string[] = [];
  #ipv6: boolean;

  constructor(family: NftFamily, private readonly resolve: SetResolver) {
    this.#ipv6 = family === "ip6";
  }

  get text(): string {
    return this.#words.join(" ");
  }

  add(name: string, attributes: readonly Attribute[]): void {
    const number = (type: number): number => {
      const value = findAttribute(attributes, type);
      return value?.length === 4 ? readU32be(value, 0) : -1;
    };
    const data = (type: number) => bytesOf(findAttribute(attributes, type));
    switch (name) {
      case "meta":
        return this.#load(number(NFTA_META.destination), metaOperand(number(NFTA_META.key)));
      case "payload":
        return this.#load(
          number(NFTA_PAYLOAD.destination),
          this.#payload(
            number(NFTA_PAYLOAD.base),
            number(NFTA_PAYLOAD.offset),
            number(NFTA_PAYLOAD.length),
          ),
        );
      case "ct":
        return findAttribute(attributes, NFTA_CT.source) === undefined
          ? this.#load(number(NFTA_CT.destination), ctOperand(number(NFTA_CT.key)))
          : this.#say(
            `${ctName(number(NFTA_CT.key))} set ${this.#constant(number(NFTA_CT.source), false)}`,
          );
      case "bitwise":
        return this.#change(number(NFTA_BITWISE.source), number(NFTA_BITWISE.destination), {
          mask: data(NFTA_BITWISE.mask),
        });
      case "byteorder":
        return this.#change(number(NFTA_BYTEORDER.source), number(NFTA_BYTEORDER.destination), {
          networkOrder: true,
        });
      case "cmp": {
        const operation = OPERATIONS[number(NFTA_CMP.operation)] ?? "? ";
        return this.#match(number(NFTA_CMP.source), operation, [data(NFTA_CMP.data)]);
      }
      case "range": {
        const operation = OPERATIONS[number(NFTA_RANGE.operation)] ?? "? ";
        const ends = [data(NFTA_RANGE.from), data(NFTA_RANGE.to)];
        return this.#match(number(NFTA_RANGE.source), operation, ends);
      }
      case "lookup": {
        const set = readText(findAttribute(attributes, NFTA_LOOKUP.set) ?? new Uint8Array());
        const id = number(NFTA_LOOKUP.setId);
        const elements = this.resolve(set, id === -1 ? undefined : id).replaceAll(",", ", ");
        const negated = number(NFTA_LOOKUP.flags) === 1 ? "!= " : "";
        return this.#matchText(number(NFTA_LOOKUP.source), `${negated}{ ${elements} }`);
      }
      case "immediate":
        return this.#immediate(number(NFTA_IMMEDIATE.destination), attributes);
      case "redir": {
        const [from, to] = [NFTA_REDIR.registerMinimum, NFTA_REDIR.registerMaximum].map((type) =>
          this.#constant(number(type), true)
        );
        return this.#say(`redirect to :${from === to || to === "" ? from : `${from}-${to}`}`);
      }
      case "log": {
        const prefix = findAttribute(attributes, NFTA_LOG.prefix);
        const level = LEVELS[number(NFTA_LOG.level)];
        return this.#say(
          "log" + (prefix === undefined ? "" : ` prefix ${JSON.stringify(readText(prefix))}`) +
            (level === undefined ? "" : ` level ${level}`),
        );
      }
      default:
        return this.#say(name);
    }
  }

  #say(words: string): void {
    this.#words.push(words);
  }

  #load(register: number, operand: Operand | Uint8Array): void {
    this.#registers.set(register, operand);
  }

  #operand(register: number): Operand {
    const found = this.#registers.get(register);
    return found === undefined || found instanceof Uint8Array
      ? { words: `register ${register}`, kind: "bytes" }
      : found;
  }

  #change(source: number, destination: number, change: Partial<Operand>): void {
    this.#load(destination, { ...this.#operand(source), ...change });
  }

  #payload(base: number, offset: number, length: number): Operand {
    if (base === NFT_PAYLOAD_TRANSPORT_HEADER && length === 2 && (offset === 0 || offset === 2)) {
      return { words: offset === 0 ? "sport" : "dport", kind: "port" };
    }
    const source = this.#ipv6 ? 8 : 12;
    const full = this.#ipv6 ? 16 : 4;
    if (
      base === NFT_PAYLOAD_NETWORK_HEADER && length <= full &&
      (offset === source || offset === source + full)
    ) {
      const side = offset === source ? "saddr" : "daddr";
      return { words: `${this.#ipv6 ? "ip6" : "ip"} ${side}`, kind: "address", length: full };
    }
    const header = ["ll", "nh", "th"][base] ?? `${base}`;
    return { words: `@${header},${offset * 8},${length * 8}`, kind: "bytes" };
  }

  #match(register: number, operation: string, values: readonly Uint8Array[]): void {
    const operand = this.#operand(register);
    const [value] = values;
    if (operand.kind === "family" && operation === "" && value?.length === 1) {
      this.#ipv6 = value[0] === NFPROTO_IPV6;
    }
    if (operand.kind === "state" && operand.mask !== undefined && operation === "!= ") {
      return this.#say(`${operand.words} ${stateWords(operand.mask)}`);
    }
    this.#matchText(register, operation + values.map((one) => valueText(operand, one)).join("-"));
  }

  #matchText(register: number, text: string): void {
    const { words, kind } = this.#operand(register);
    const last = this.#words.at(-1);
    // What nft leaves out, since the words that follow imply it.
    if (kind === "address" && last === `meta nfproto ${this.#ipv6 ? "ipv6" : "ipv4"}`) {
      this.#words.pop();
    }
    if (kind !== "port") return this.#sayMatch(words, text);
    const protocol = /^meta l4proto (tcp|udp)$/.exec(last ?? "")?.[1];
    if (protocol !== undefined) this.#words.pop();
    const before = /^(?:tcp|udp) /.exec(last ?? "")?.[0].trimEnd();
    this.#sayMatch(`${protocol ?? before ?? "th"} ${words}`, text);
  }

  /** Some versions of nft load a range as two comparisons. */
  #sayMatch(words: string, text: string): void {
    const from = `${words} >= `;
    const last = this.#words.at(-1);
    if (!text.startsWith("<= ") || last?.startsWith(from) !== true) {
      return this.#say(`${words} ${text}`);
    }
    this.#words.pop();
    this.#say(`${words} ${last.slice(from.length)}-${text.slice("<= ".length)}`);
  }

  #immediate(register: number, attributes: readonly Attribute[]): void {
    const data = parseAttributes(findAttribute(attributes, NFTA_IMMEDIATE.data) ?? NO_BYTES);
    const verdict = findAttribute(data, NFTA_DATA_VERDICT);
    if (verdict === undefined) {
      return this.#load(register, findAttribute(data, NFTA_DATA_VALUE) ?? NO_BYTES);
    }
    const parts = parseAttributes(verdict);
    const code = findAttribute(parts, NFTA_VERDICT_CODE);
    const chain = findAttribute(parts, NFTA_VERDICT_CHAIN);
    const name = verdictName(code === undefined ? NaN : readU32be(code, 0) | 0);
    this.#say(chain === undefined ? name : `${name} ${readText(chain)}`);
  }

  /** A number that was put into a register. */
  #constant(register: number, networkOrder: boolean): string {
    const found = this.#registers.get(register);
    return found instanceof Uint8Array ? numberText(found, networkOrder) : "";
  }
}

const NO_BYTES = new Uint8Array();

function bytesOf(data: Uint8Array | undefined): Uint8Array {
  return data === undefined
    ? NO_BYTES
    : findAttribute(parseAttributes(data), NFTA_DATA_VALUE) ?? data;
}

function verdictName(code: number): string {
  const names: Readonly<Record<number, string>> = {
    0: "drop",
    1: "accept",
    [-1]: "continue",
    [-3]: "jump",
    [-4]: "goto",
    [-5]: "return",
  };
  return names[code] ?? `verdict ${code}`;
}
