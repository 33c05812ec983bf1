/**
 * The single expressions of nf_tables, written as list elements in the form in which the kernel gives
 * them back. All use register 1. Facts: `linux/netfilter/nf_tables.h`.
 */
import { type MessageBuilder, sameBytes } from "../../linux/netlink_message.ts";
import {
  NF_NAT_RANGE_PROTO_SPECIFIED,
  NFT_BYTEORDER_HTON,
  NFT_REG_1,
  NFT_REG_VERDICT,
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
  NFTA_LIST_ELEM,
  NFTA_LOG,
  NFTA_LOOKUP,
  NFTA_META,
  NFTA_PAYLOAD,
  NFTA_RANGE,
  NFTA_REDIR,
  NFTA_VERDICT_CHAIN,
  NFTA_VERDICT_CODE,
} from "../../linux/nf_tables.ts";

/** Writes a line to the kernel's log. */
export function log(out: MessageBuilder, prefix: string, level: number): void {
  const element = out.beginNested(NFTA_LIST_ELEM, 0);
  out.attributeText(NFTA_EXPR_NAME, "log");
  const data = out.beginNested(NFTA_EXPR_DATA, 0);
  out.attributeText(NFTA_LOG.prefix, prefix).attributeU32be(NFTA_LOG.level, level);
  out.endAttribute(data).endAttribute(element);
}

/**
 * Writes one expression in the form in which the kernel gives it back, so that reading back needs to
 * compare bytes only.
 *
 * @param numbers Attributes with 32-bit numbers: type, value, type, value, …
 * @param values Attributes with data: type and bytes.
 */
function expression(
  out: MessageBuilder,
  name: string,
  numbers: readonly number[],
  ...values: readonly (readonly [type: number, bytes: Uint8Array])[]
): void {
  const element = out.beginNested(NFTA_LIST_ELEM, 0);
  out.attributeText(NFTA_EXPR_NAME, name);
  const data = out.beginNested(NFTA_EXPR_DATA, 0);
  for (let i = 0; i < numbers.length; i += 2) out.attributeU32be(numbers[i]!, numbers[i + 1]!);
  for (const [type, bytes] of values) {
    const mark = out.beginNested(type, 0);
    out.attribute(NFTA_DATA_VALUE, bytes).endAttribute(mark);
  }
  out.endAttribute(data).endAttribute(element);
}

/** Loads something that is known about a packet into the register. */
export function loadMeta(out: MessageBuilder, key: number): void {
  expression(out, "meta", [NFTA_META.key, key, NFTA_META.destination, NFT_REG_1]);
}

/** Loads bytes of a packet's header into the register. */
export function loadPayload(
  out: MessageBuilder,
  base: number,
  offset: number,
  length: number,
): void {
  const { destination } = NFTA_PAYLOAD;
  const numbers = [destination, NFT_REG_1, NFTA_PAYLOAD.base, base];
  numbers.push(NFTA_PAYLOAD.offset, offset, NFTA_PAYLOAD.length, length);
  expression(out, "payload", numbers);
}

/** Goes on only if the register equals a value, or does not. */
export function compare(out: MessageBuilder, operation: number, value: Uint8Array): void {
  const numbers = [NFTA_CMP.source, NFT_REG_1, NFTA_CMP.operation, operation];
  expression(out, "cmp", numbers, [NFTA_CMP.data, value]);
}

/** Goes on only if the register is in a range, or is not; both ends are in it. */
export function compareRange(
  out: MessageBuilder,
  operation: number,
  from: Uint8Array,
  to: Uint8Array,
): void {
  if (sameBytes(from, to)) return compare(out, operation, from);
  const numbers = [NFTA_RANGE.source, NFT_REG_1, NFTA_RANGE.operation, operation];
  expression(out, "range", numbers, [NFTA_RANGE.from, from], [NFTA_RANGE.to, to]);
}

/** Keeps only the bits of a mask in the register. */
export function bitwise(out: MessageBuilder, mask: Uint8Array): void {
  const numbers = [NFTA_BITWISE.source, NFT_REG_1, NFTA_BITWISE.destination, NFT_REG_1];
  numbers.push(NFTA_BITWISE.length, mask.length);
  const zero = new Uint8Array(mask.length);
  expression(out, "bitwise", numbers, [NFTA_BITWISE.mask, mask], [NFTA_BITWISE.xor, zero]);
}

/** Puts a value into the register. */
export function immediateValue(out: MessageBuilder, value: Uint8Array): void {
  const numbers = [NFTA_IMMEDIATE.destination, NFT_REG_1];
  expression(out, "immediate", numbers, [NFTA_IMMEDIATE.data, value]);
}

/** Ends the rule with a verdict. */
export function immediateVerdict(out: MessageBuilder, code: number, chain?: string): void {
  const element = out.beginNested(NFTA_LIST_ELEM, 0);
  out.attributeText(NFTA_EXPR_NAME, "immediate");
  const data = out.beginNested(NFTA_EXPR_DATA, 0);
  out.attributeU32be(NFTA_IMMEDIATE.destination, NFT_REG_VERDICT);
  const value = out.beginNested(NFTA_IMMEDIATE.data, 0);
  const verdict = out.beginNested(NFTA_DATA_VERDICT, 0);
  out.attributeU32be(NFTA_VERDICT_CODE, code);
  if (chain !== undefined) out.attributeText(NFTA_VERDICT_CHAIN, chain);
  out.endAttribute(verdict).endAttribute(value).endAttribute(data).endAttribute(element);
}

/** Turns a number of four bytes in the register from the machine's order into network order. */
export function toNetworkOrder(out: MessageBuilder): void {
  const numbers = [NFTA_BYTEORDER.source, NFT_REG_1, NFTA_BYTEORDER.destination, NFT_REG_1];
  numbers.push(NFTA_BYTEORDER.operation, NFT_BYTEORDER_HTON);
  numbers.push(NFTA_BYTEORDER.length, 4, NFTA_BYTEORDER.size, 4);
  expression(out, "byteorder", numbers);
}

/** Pattern of the names that the kernel gives to sets without name. */
export const ANONYMOUS_SET = "__set%d";

/** Goes on only if the register is in a set of the same batch. */
export function lookUp(out: MessageBuilder, setId: number): void {
  const element = out.beginNested(NFTA_LIST_ELEM, 0);
  out.attributeText(NFTA_EXPR_NAME, "lookup");
  const data = out.beginNested(NFTA_EXPR_DATA, 0);
  // Every anonymous set is sent with this name, and the kernel puts a number in.
  out.attributeText(NFTA_LOOKUP.set, ANONYMOUS_SET).attributeU32be(NFTA_LOOKUP.source, NFT_REG_1)
    .attributeU32be(NFTA_LOOKUP.setId, setId).endAttribute(data).endAttribute(element);
}

/** Loads a fact of connection tracking into the register. */
export function loadConntrack(out: MessageBuilder, key: number): void {
  expression(out, "ct", [NFTA_CT.destination, NFT_REG_1, NFTA_CT.key, key]);
}

/** Sets a property of connection tracking to the register's value. */
export function setConntrack(out: MessageBuilder, key: number): void {
  expression(out, "ct", [NFTA_CT.source, NFT_REG_1, NFTA_CT.key, key]);
}

/** Counts the packets that come here, from nothing on. */
export function counter(out: MessageBuilder): void {
  const element = out.beginNested(NFTA_LIST_ELEM, 0);
  out.attributeText(NFTA_EXPR_NAME, "counter");
  const data = out.beginNested(NFTA_EXPR_DATA, 0);
  const nothing = new Uint8Array(8);
  out.attribute(NFTA_COUNTER.bytes, nothing).attribute(NFTA_COUNTER.packets, nothing);
  out.endAttribute(data).endAttribute(element);
}

/** Redirects the connection to this machine, to the port in the register. */
export function redirect(out: MessageBuilder): void {
  const numbers = [NFTA_REDIR.registerMinimum, NFT_REG_1, NFTA_REDIR.registerMaximum, NFT_REG_1];
  numbers.push(NFTA_REDIR.flags, NF_NAT_RANGE_PROTO_SPECIFIED);
  expression(out, "redir", numbers);
}
