/**
 * Encoded expressions → text, one line for each, for comparing (`words.ts` has the words for people).
 * Both what was sent and what the kernel gives back go through here, so attributes that the kernel adds by itself
 * are left out and those that nobody expects are shown.
 */
import {
  findAttribute,
  parseAttributes,
  readText,
  readU32be,
} from "../../linux/netlink_message.ts";
import {
  NF_NAT_RANGE_PROTO_SPECIFIED,
  NFTA_BITWISE,
  NFTA_BYTEORDER,
  NFTA_CMP,
  NFTA_COUNTER,
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

/** Returns the elements of a set, as text, by its name or its number in a batch. */
export type SetResolver = (name: string, id: number | undefined) => string;

/** How to show an attribute; attributes without an entry are shown raw. */
type Shape = "number" | "text" | "data" | "set" | "ignored";

/**
 * Describes the expressions of a rule.
 *
 * @param expressions List elements as in `NFTA_RULE_EXPRESSIONS`.
 * @throws {RangeError} when a length field does not fit.
 */
export function describeExpressions(expressions: Uint8Array, resolve: SetResolver): string[] {
  const lines = parseAttributes(expressions).map(({ value }) => {
    const element = parseAttributes(value);
    const name = readText(findAttribute(element, NFTA_EXPR_NAME) ?? new Uint8Array());
    const data = findAttribute(element, NFTA_EXPR_DATA) ?? new Uint8Array();
    return describeExpression(name, data, resolve);
  });
  return withoutCount(joinRanges(lines));
}

/**
 * What a redirection has counted says nothing about what it does, and neither does it whether it
 * counts: earlier versions installed no counters, nor do we on a kernel that has none.
 */
function withoutCount(lines: string[]): string[] {
  const [counter, , last] = lines.slice(-3);
  if (counter === "counter" && last?.startsWith("redir ")) lines.splice(-3, 1);
  return lines;
}

/** Some versions of nft load a range as two comparisons, which is the same. */
function joinRanges(lines: readonly string[]): string[] {
  const joined: string[] = [];
  for (const line of lines) {
    const from = joined.at(-1)?.match(/^cmp operation 5 register 1 with (\w+)$/)?.[1];
    const to = from === undefined
      ? undefined
      : line.match(/^cmp operation 3 register 1 with (\w+)$/)?.[1];
    if (to === undefined) joined.push(line);
    else joined.splice(-1, 1, `range from ${from} operation 0 register 1 to ${to}`);
  }
  return joined;
}

function describeExpression(name: string, data: Uint8Array, resolve: SetResolver): string {
  const shapes = shapesOf(name);
  const attributes = parseAttributes(data);
  const minimum = findAttribute(attributes, NFTA_REDIR.registerMinimum);
  const words: string[] = [];
  for (const { type, value } of attributes) {
    const [label, shape] = shapes[type] ?? [`attribute${type}`, "raw"];
    if (shape === "ignored") continue;
    if (name === "bitwise" && type === NFTA_BITWISE.operation && readU32be(value, 0) === 0) {
      continue;
    }
    if (name === "lookup" && type === NFTA_LOOKUP.flags && readU32be(value, 0) === 0) continue;
    // The kernel sets by itself that a redirection names ports.
    if (
      name === "redir" && type === NFTA_REDIR.flags &&
      (readU32be(value, 0) & ~NF_NAT_RANGE_PROTO_SPECIFIED) === 0
    ) continue;
    // The kernel gives a redirection to one port back as a range of ports with equal ends.
    if (
      name === "redir" && type === NFTA_REDIR.registerMaximum && minimum !== undefined &&
      hex(minimum) === hex(value)
    ) continue;
    words.push(`${label} ${describeValue(shape, value, attributes, resolve)}`);
  }
  // The kernel's order of attributes is not ours.
  return `${name} ${words.sort().join(" ")}`.trimEnd();
}

function describeValue(
  shape: Shape | "raw",
  value: Uint8Array,
  siblings: ReturnType<typeof parseAttributes>,
  resolve: SetResolver,
): string {
  switch (shape) {
    case "number":
      return value.length === 4 ? String(readU32be(value, 0)) : hex(value);
    case "text":
      return JSON.stringify(readText(value));
    case "data":
      return describeData(value);
    case "set": {
      const id = findAttribute(siblings, NFTA_LOOKUP.setId);
      return resolve(readText(value), id && readU32be(id, 0));
    }
    default:
      return hex(value);
  }
}

function describeData(value: Uint8Array): string {
  const attributes = parseAttributes(value);
  const bytes = findAttribute(attributes, NFTA_DATA_VALUE);
  if (bytes !== undefined) return hex(bytes);
  const verdict = findAttribute(attributes, NFTA_DATA_VERDICT);
  if (verdict === undefined) return hex(value);
  const parts = parseAttributes(verdict);
  const code = findAttribute(parts, NFTA_VERDICT_CODE);
  const chain = findAttribute(parts, NFTA_VERDICT_CHAIN);
  const number = code === undefined ? NaN : readU32be(code, 0) | 0;
  const verdicts: Record<number, string> = {
    0: "drop",
    1: "accept",
    [-1]: "continue",
    [-3]: "jump",
    [-4]: "goto",
    [-5]: "return",
  };
  return `${verdicts[number] ?? `verdict${number}`}${
    chain === undefined ? "" : ` ${readText(chain)}`
  }`;
}

function hex(bytes: Uint8Array): string {
  let text = "0x";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

function shapesOf(name: string): Record<number, readonly [label: string, shape: Shape]> {
  switch (name) {
    case "meta":
      return { [NFTA_META.destination]: ["into", "number"], [NFTA_META.key]: ["key", "number"] };
    case "payload":
      return {
        [NFTA_PAYLOAD.destination]: ["into", "number"],
        [NFTA_PAYLOAD.base]: ["base", "number"],
        [NFTA_PAYLOAD.offset]: ["offset", "number"],
        [NFTA_PAYLOAD.length]: ["length", "number"],
      };
    case "cmp":
      return {
        [NFTA_CMP.source]: ["register", "number"],
        [NFTA_CMP.operation]: ["operation", "number"],
        [NFTA_CMP.data]: ["with", "data"],
      };
    case "range":
      return {
        [NFTA_RANGE.source]: ["register", "number"],
        [NFTA_RANGE.operation]: ["operation", "number"],
        [NFTA_RANGE.from]: ["from", "data"],
        [NFTA_RANGE.to]: ["to", "data"],
      };
    case "bitwise":
      return {
        [NFTA_BITWISE.source]: ["register", "number"],
        [NFTA_BITWISE.destination]: ["into", "number"],
        [NFTA_BITWISE.length]: ["length", "number"],
        [NFTA_BITWISE.mask]: ["mask", "data"],
        [NFTA_BITWISE.xor]: ["xor", "data"],
        [NFTA_BITWISE.operation]: ["operation", "number"],
      };
    case "byteorder":
      return {
        [NFTA_BYTEORDER.source]: ["register", "number"],
        [NFTA_BYTEORDER.destination]: ["into", "number"],
        [NFTA_BYTEORDER.operation]: ["operation", "number"],
        [NFTA_BYTEORDER.length]: ["length", "number"],
        [NFTA_BYTEORDER.size]: ["size", "number"],
      };
    case "ct":
      return {
        [NFTA_CT.destination]: ["into", "number"],
        [NFTA_CT.key]: ["key", "number"],
        [NFTA_CT.source]: ["register", "number"],
      };
    case "immediate":
      return {
        [NFTA_IMMEDIATE.destination]: ["into", "number"],
        [NFTA_IMMEDIATE.data]: ["value", "data"],
      };
    case "redir":
      return {
        [NFTA_REDIR.registerMinimum]: ["register", "number"],
        [NFTA_REDIR.registerMaximum]: ["upto", "number"],
        [NFTA_REDIR.flags]: ["flags", "number"],
      };
    case "log":
      return { [NFTA_LOG.prefix]: ["prefix", "text"], [NFTA_LOG.level]: ["level", "number"] };
    case "lookup":
      return {
        [NFTA_LOOKUP.set]: ["set", "set"],
        [NFTA_LOOKUP.source]: ["register", "number"],
        [NFTA_LOOKUP.setId]: ["id", "ignored"],
        [NFTA_LOOKUP.flags]: ["flags", "number"],
      };
    case "counter":
      return {
        [NFTA_COUNTER.bytes]: ["bytes", "ignored"],
        [NFTA_COUNTER.packets]: ["packets", "ignored"],
        [NFTA_COUNTER.padding]: ["pad", "ignored"],
      };
    default:
      return {};
  }
}
