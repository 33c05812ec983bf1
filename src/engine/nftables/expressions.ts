/**
 * Rules → expressions of nf_tables: small instructions that load a value of the packet into a
 * register, compare it, and act. Facts: `linux/netfilter/nf_tables.h`, `nft --debug=netlink`.
 */
import type { Range } from "../../redirect/config.ts";
import type { Cidr } from "../../ip/cidr.ts";
import { addressBytes, type IpFamily } from "../../ip/address.ts";
import type { Match, Rule, Verdict } from "../../redirect/ruleset.ts";
import type { MessageBuilder } from "../../linux/netlink_message.ts";
import {
  CT_STATE_INVALID,
  IPPROTO_TCP,
  IPPROTO_UDP,
  NF_DROP,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  NFT_CT,
  NFT_EQ,
  NFT_JUMP,
  NFT_META,
  NFT_NEQ,
  NFT_PAYLOAD_NETWORK_HEADER,
  NFT_PAYLOAD_TRANSPORT_HEADER,
  NFT_RETURN,
} from "../../linux/nf_tables.ts";
import {
  bitwise,
  compare,
  compareRange,
  counter,
  immediateValue,
  immediateVerdict,
  loadConntrack,
  loadMeta,
  loadPayload,
  log,
  lookUp,
  redirect,
  setConntrack,
  toNetworkOrder,
} from "./instructions.ts";
import type { NftFamily, PlannedRule } from "./plan.ts";

const INTERFACE_NAME_BYTES = 16;
/** Highest level of the kernel's log, debug. */
const LOG_LEVEL_MAXIMUM = 7;

/** What a rule's encoding depends on besides the rule. */
export interface EncodingContext {
  readonly family: NftFamily;
  /** Names of the chains of the table. */
  readonly chains: ReadonlySet<string>;
  /** Registers a set of ports, merged and in order, and returns its identifier in the batch. */
  readonly addPortSet: (ports: readonly Range[]) => number;
  /** Whether redirections count; a kernel may have no counters. */
  readonly counters: boolean;
}

/** Writes the expressions of a rule as list elements. */
export function writeExpressions(
  out: MessageBuilder,
  { rule, family }: PlannedRule,
  context: EncodingContext,
): void {
  const matches = inOrder(rule);
  // The order is nft's own, so that rules which were saved and loaded by nft still compare equal.
  const addressed = matches.findIndex((match) => "cidr" in match);
  const limit = context.family !== "inet" ? undefined : addressedFamily(rule) ?? family;
  for (const [index, match] of matches.entries()) {
    if (limit !== undefined && index === Math.max(addressed, 0)) writeFamily(out, limit);
    writeMatch(out, match, context);
  }
  if (limit !== undefined && matches.length === 0) writeFamily(out, limit);
  writeVerdict(out, rule.verdict, context);
}

function addressedFamily({ matches }: Rule): IpFamily | undefined {
  for (const match of matches) if ("cidr" in match) return match.cidr.family;
  return undefined;
}

function writeFamily(out: MessageBuilder, family: IpFamily): void {
  loadMeta(out, NFT_META.nfproto);
  compare(out, NFT_EQ, Uint8Array.of(family === "ipv4" ? NFPROTO_IPV4 : NFPROTO_IPV6));
}

/**
 * A port can be read only after the protocol is known: that match goes right before the first port,
 * and to the front when there is none.
 */
function inOrder({ matches }: Rule): readonly Match[] {
  const protocol = matches.find(({ kind }) => kind === "protocol");
  if (protocol === undefined) return matches;
  const others = matches.filter((match) => match !== protocol);
  const port = Math.max(others.findIndex((match) => "ports" in match), 0);
  return [...others.slice(0, port), protocol, ...others.slice(port)];
}

function writeMatch(out: MessageBuilder, match: Match, context: EncodingContext): void {
  switch (match.kind) {
    case "protocol":
      loadMeta(out, NFT_META.l4proto);
      return compare(
        out,
        NFT_EQ,
        Uint8Array.of(match.protocol === "tcp" ? IPPROTO_TCP : IPPROTO_UDP),
      );
    case "source-port":
      return writePorts(out, 0, match.ports, match.negated, context);
    case "destination-port":
      return writePorts(out, 2, match.ports, match.negated, context);
    case "source-address":
      return writeAddress(out, match.cidr, match.cidr.family === "ipv4" ? 12 : 8, match.negated);
    case "destination-address":
      return writeAddress(out, match.cidr, match.cidr.family === "ipv4" ? 16 : 24, match.negated);
    case "input-interface":
      return writeInterface(out, NFT_META.iifname, match.name);
    case "output-interface":
      return writeInterface(out, NFT_META.oifname, match.name);
    case "owner":
      return writeOwner(out, match.uids, match.negated);
    case "conntrack-state":
      loadConntrack(out, NFT_CT.state);
      bitwise(out, hostU32(CT_STATE_INVALID));
      return compare(out, NFT_NEQ, hostU32(0));
  }
}

function writePorts(
  out: MessageBuilder,
  offset: number,
  ports: readonly Range[],
  negated: boolean,
  context: EncodingContext,
): void {
  const ranges = mergeRanges(ports);
  loadPayload(out, NFT_PAYLOAD_TRANSPORT_HEADER, offset, 2);
  if (ranges.length === 1 || negated) {
    for (const { from, to } of ranges) {
      compareRange(out, negated ? NFT_NEQ : NFT_EQ, bigEndianU16(from), bigEndianU16(to));
    }
    return;
  }
  lookUp(out, context.addPortSet(ranges));
}

/** Sorts ranges and joins those that overlap or touch. */
function mergeRanges(ranges: readonly Range[]): Range[] {
  const merged: { from: number; to: number }[] = [];
  for (const { from, to } of ranges.toSorted((a, b) => a.from - b.from)) {
    const last = merged.at(-1);
    if (last !== undefined && from <= last.to + 1) last.to = Math.max(last.to, to);
    else merged.push({ from, to });
  }
  return merged;
}

function writeAddress(out: MessageBuilder, cidr: Cidr, offset: number, negated: boolean): void {
  const address = addressBytes(cidr.address);
  const operation = negated ? NFT_NEQ : NFT_EQ;
  if (cidr.prefix > 0 && cidr.prefix % 8 === 0) {
    const length = cidr.prefix / 8;
    loadPayload(out, NFT_PAYLOAD_NETWORK_HEADER, offset, length);
    return compare(out, operation, address.subarray(0, length));
  }
  const mask = address.map((_, index) => 0xff << (8 - clamp(cidr.prefix - 8 * index, 0, 8)));
  loadPayload(out, NFT_PAYLOAD_NETWORK_HEADER, offset, address.length);
  bitwise(out, mask);
  compare(out, operation, address.map((byte, index) => byte & mask[index]!));
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high);
}

function writeInterface(out: MessageBuilder, key: number, name: string): void {
  const prefix = name.endsWith("+");
  const bytes = new TextEncoder().encode(prefix ? name.slice(0, -1) : name);
  if (bytes.length >= INTERFACE_NAME_BYTES) {
    throw new TypeError(`Interface name ${JSON.stringify(name)} has more than 15 bytes`);
  }
  if (prefix && bytes.length === 0) return;
  const value = new Uint8Array(prefix ? bytes.length : INTERFACE_NAME_BYTES);
  value.set(bytes);
  loadMeta(out, key);
  compare(out, NFT_EQ, value);
}

function writeOwner(out: MessageBuilder, { from, to }: Range, negated: boolean): void {
  const operation = negated ? NFT_NEQ : NFT_EQ;
  loadMeta(out, NFT_META.skuid);
  if (from === to) return compare(out, operation, hostU32(from));
  // Ranges are compared byte by byte, which is numeric order only in network order.
  toNetworkOrder(out);
  compareRange(out, operation, bigEndianU32(from), bigEndianU32(to));
}

function writeVerdict(out: MessageBuilder, verdict: Verdict, context: EncodingContext): void {
  switch (verdict.kind) {
    case "return":
      return immediateVerdict(out, NFT_RETURN);
    case "drop":
      return immediateVerdict(out, NF_DROP);
    case "jump":
      // A chain of somebody else (Docker's) is in another table, where no jump leads. Our base chain
      // ends instead, and the kernel goes on to the base chain that leads there.
      return context.chains.has(verdict.chain)
        ? immediateVerdict(out, NFT_JUMP, verdict.chain)
        : immediateVerdict(out, NFT_RETURN);
    case "redirect":
      // Only the first packet of a connection comes to a nat chain, so this counts connections.
      if (context.counters) counter(out);
      immediateValue(out, bigEndianU16(verdict.port));
      return redirect(out);
    case "conntrack-zone":
      immediateValue(out, new Uint8Array(Uint16Array.of(verdict.zone).buffer));
      return setConntrack(out, NFT_CT.zone);
    case "log":
      if (verdict.level > LOG_LEVEL_MAXIMUM) {
        throw new TypeError(`Log level ${verdict.level} exceeds ${LOG_LEVEL_MAXIMUM}`);
      }
      return log(out, verdict.prefix, verdict.level);
  }
}

/** A port as it is in a packet. */
export function bigEndianU16(value: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(value >> 8, value & 255);
}

function bigEndianU32(value: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(value >>> 24, value >>> 16 & 255, value >>> 8 & 255, value & 255);
}

function hostU32(value: number): Uint8Array<ArrayBuffer> {
  return bigEndianU32(value).reverse();
}
