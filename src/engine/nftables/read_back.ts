/** What is installed in the kernel: tables, chains, rules and sets of our table's name. */
import { EAGAIN, EINVAL, EPROTONOSUPPORT, LinuxError } from "../../linux/errno.ts";
import type { NetlinkSocket } from "../../linux/netlink.ts";
import {
  type Attribute,
  findAttribute,
  type Message,
  MessageBuilder,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  parseAttributes,
  readText,
  readU16,
  readU32be,
  sameBytes,
  scanAttribute,
} from "../../linux/netlink_message.ts";
import { NFT_TABLE } from "../../redirect/nft_layout.ts";
import {
  messageType,
  NFGENMSG_LENGTH,
  NFPROTO_INET,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  NFPROTO_UNSPEC,
  NFT_MSG,
  NFT_SET_ELEM_INTERVAL_END,
  NFTA_CHAIN,
  NFTA_DATA_VALUE,
  NFTA_GEN_ID,
  NFTA_HOOK,
  NFTA_RULE,
  NFTA_SET_ELEMENT,
  NFTA_SET_ELEMENTS,
  NFTA_TABLE,
} from "../../linux/nf_tables.ts";
import { familyNumber, type PortSet } from "./encode.ts";
import type { NftFamily } from "./plan.ts";

/** A table of our name. */
export interface InstalledTable {
  readonly family: NftFamily;
  readonly name: string;
  /** Not zero when somebody made it dormant or took it. */
  readonly flags: number;
}

/** A chain of our table with its rules' expressions, in order. */
export interface InstalledChain {
  readonly name: string;
  readonly type: string | undefined;
  readonly hook: { readonly number: number; readonly priority: number } | undefined;
  readonly policy: number | undefined;
  readonly rules: readonly Uint8Array[];
}

/**
 * Returns the number of the ruleset's present generation.
 *
 * @throws {LinuxError} when the kernel refuses or has no nf_tables.
 */
export function readGeneration(socket: NetlinkSocket): number {
  const attempt = "Cannot ask for the generation of the nf_tables ruleset";
  const request = header(new MessageBuilder(64), NFT_MSG.getGeneration, 0, {
    family: NFPROTO_UNSPEC,
    sequence: socket.nextSequence(),
  }).endMessage();
  const [answer] = requestGeneration(socket, attempt, request.data);
  const id = answer && findAttribute(attributesOf(answer), NFTA_GEN_ID);
  return id === undefined ? 0 : readU32be(id, 0);
}

function requestGeneration(
  socket: NetlinkSocket,
  attempt: string,
  request: Uint8Array<ArrayBuffer>,
): Message[] {
  try {
    return socket.request(attempt, request);
  } catch (error) {
    // Netfilter's netlink says so about a subsystem that it does not have.
    if (!(error instanceof LinuxError) || error.errno !== EINVAL) throw error;
    throw new LinuxError(attempt, EPROTONOSUPPORT, "The kernel has no nf_tables");
  }
}

/**
 * Lists the tables of our name in all families.
 *
 * @throws {LinuxError} when the kernel refuses.
 */
export function readTables(socket: NetlinkSocket): InstalledTable[] {
  const messages = socket.dump(
    "Cannot list the nf_tables tables",
    (sequence) =>
      header(new MessageBuilder(64), NFT_MSG.getTable, NLM_F_DUMP, {
        family: NFPROTO_UNSPEC,
        sequence,
      }).endMessage().data,
  );
  return messages.flatMap((message) => {
    const attributes = attributesOf(message);
    const family = familyName(message.payload[0]!);
    const name = text(attributes, NFTA_TABLE.name);
    if (family === undefined || name !== NFT_TABLE) return [];
    return [{ family, name, flags: number(attributes, NFTA_TABLE.flags) ?? 0 }];
  });
}

/**
 * Lists the chains of our table in one family with their rules.
 *
 * @throws {LinuxError} when the kernel refuses or the ruleset changes all the time.
 */
export function readChains(socket: NetlinkSocket, family: NftFamily): InstalledChain[] {
  for (let tries = 0; tries < 10; tries++) {
    const chains = dumpOfTable(socket, family, NFT_MSG.getChain, NFTA_CHAIN.table);
    const rules = dumpOfTable(socket, family, NFT_MSG.getRule, NFTA_RULE.table);
    const generations = new Set([...chains, ...rules].map(generationOf));
    if (generations.size <= 1) return chainsWithRules(chains, rules);
  }
  throw new LinuxError(
    "Cannot read the nf_tables rules",
    EAGAIN,
    "The ruleset changed during each of 10 readings",
  );
}

function chainsWithRules(chains: readonly Message[], rules: readonly Message[]): InstalledChain[] {
  const byChain = new Map<string, Uint8Array[]>();
  const table = new TextEncoder().encode(`${NFT_TABLE}\0`);
  // The rules of a chain follow each other: its name is made to text once.
  let last: { readonly name: Uint8Array; readonly rules: Uint8Array[] } | undefined;
  for (const { payload } of rules) {
    if (!sameBytes(scanned(payload, NFTA_RULE.table), table)) continue;
    const name = scanned(payload, NFTA_RULE.chain);
    if (last === undefined || !sameBytes(name, last.name)) {
      const chain = readText(name);
      last = { name, rules: byChain.get(chain) ?? [] };
      byChain.set(chain, last.rules);
    }
    last.rules.push(scanned(payload, NFTA_RULE.expressions));
  }
  return chains.flatMap((message) => {
    const attributes = attributesOf(message);
    if (text(attributes, NFTA_CHAIN.table) !== NFT_TABLE) return [];
    const name = text(attributes, NFTA_CHAIN.name) ?? "";
    const hook = findAttribute(attributes, NFTA_CHAIN.hook);
    return [{
      name,
      type: text(attributes, NFTA_CHAIN.type),
      hook: hook && readHook(parseAttributes(hook)),
      policy: number(attributes, NFTA_CHAIN.policy),
      rules: byChain.get(name) ?? [],
    }];
  });
}

function readHook(attributes: readonly Attribute[]): InstalledChain["hook"] {
  return {
    number: number(attributes, NFTA_HOOK.number) ?? -1,
    priority: (number(attributes, NFTA_HOOK.priority) ?? 0) | 0,
  };
}

/**
 * Returns the elements of a set as text, for example `22,1000-2000`.
 *
 * @throws {LinuxError} when the kernel refuses, for example because the set is gone.
 */
export function readSet(socket: NetlinkSocket, family: NftFamily, name: string): string {
  const messages = socket.dump(
    `Cannot read the set "${name}" of table ${family} ${NFT_TABLE}`,
    (sequence) =>
      header(new MessageBuilder(96), NFT_MSG.getSetElement, NLM_F_DUMP, {
        family: familyNumber(family),
        sequence,
      }).attributeText(NFTA_SET_ELEMENTS.table, NFT_TABLE)
        .attributeText(NFTA_SET_ELEMENTS.set, name).endMessage().data,
  );
  const boundaries = messages.flatMap((message) => {
    const elements = findAttribute(attributesOf(message), NFTA_SET_ELEMENTS.elements);
    return elements === undefined ? [] : parseAttributes(elements).map(({ value }) => {
      const attributes = parseAttributes(value);
      const key = findAttribute(attributes, NFTA_SET_ELEMENT.key) ?? new Uint8Array();
      const port = findAttribute(parseAttributes(key), NFTA_DATA_VALUE) ?? new Uint8Array(2);
      const flags = number(attributes, NFTA_SET_ELEMENT.flags) ?? 0;
      return { port: port[0]! << 8 | port[1]!, end: (flags & NFT_SET_ELEM_INTERVAL_END) !== 0 };
    });
  });
  return describeBoundaries(boundaries);
}

/** The kernel lists boundaries in no particular order. */
function describeBoundaries(boundaries: { port: number; end: boolean }[]): string {
  boundaries.sort((a, b) => a.port - b.port || Number(b.end) - Number(a.end));
  const ranges: string[] = [];
  let start: number | undefined;
  for (const { port, end } of boundaries) {
    if (start !== undefined) ranges.push(describeRange(start, port - 1));
    start = end ? undefined : port;
  }
  if (start !== undefined) ranges.push(describeRange(start, 65535));
  return ranges.join(",");
}

/** Returns the elements of a set that is to be sent in the same form as {@linkcode readSet}. */
export function describePortSet({ ports }: PortSet): string {
  return ports.map(({ from, to }) => describeRange(from, to)).join(",");
}

function describeRange(from: number, to: number): string {
  return from === to ? `${from}` : `${from}-${to}`;
}

function dumpOfTable(
  socket: NetlinkSocket,
  family: NftFamily,
  message: number,
  tableAttribute: number,
): Message[] {
  return socket.dump(
    `Cannot read table ${family} ${NFT_TABLE}`,
    (sequence) =>
      header(new MessageBuilder(64), message, NLM_F_DUMP, {
        family: familyNumber(family),
        sequence,
      }).attributeText(tableAttribute, NFT_TABLE).endMessage().data,
  );
}

function header(
  out: MessageBuilder,
  message: number,
  flags: number,
  { family, sequence }: { family: number; sequence: number },
): MessageBuilder {
  return out.beginMessage(messageType(message), NLM_F_REQUEST | flags, sequence)
    .u8(family).u8(0).u16be(0);
}

function attributesOf(message: Message): Attribute[] {
  return parseAttributes(message.payload, NFGENMSG_LENGTH);
}

/** The low 16 bits of the generation, in the header of each message of a dump. */
function generationOf({ payload }: Message): number {
  return readU16(payload, 2);
}

function familyName(family: number): NftFamily | undefined {
  switch (family) {
    case NFPROTO_INET:
      return "inet";
    case NFPROTO_IPV4:
      return "ip";
    case NFPROTO_IPV6:
      return "ip6";
    default:
      return undefined;
  }
}

function scanned(payload: Uint8Array, type: number): Uint8Array {
  return scanAttribute(payload, NFGENMSG_LENGTH, type) ?? new Uint8Array();
}

function text(attributes: readonly Attribute[], type: number): string | undefined {
  const value = findAttribute(attributes, type);
  return value && readText(value);
}

function number(attributes: readonly Attribute[], type: number): number | undefined {
  const value = findAttribute(attributes, type);
  return value && readU32be(value, 0);
}
