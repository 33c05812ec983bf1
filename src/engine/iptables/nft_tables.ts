/**
 * The tables that iptables' nf_tables backend keeps in the kernel, looked at and cleaned through
 * netlink: this needs no tool, so it works on hosts where only somebody else's image had one.
 *
 * Needs `CAP_NET_ADMIN` and `--allow-ffi`. Facts: `linux/netfilter/nf_tables.h`,
 * `linux/netfilter/nfnetlink.h`.
 */
import type { IpFamily } from "../../ip/address.ts";
import { CHAIN_PREFIX, COMMENT_PREFIX } from "../../redirect/ruleset.ts";
import { NFT_TABLE } from "../../redirect/nft_layout.ts";
import { LinuxError } from "../../linux/errno.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../linux/netlink.ts";
import {
  type Attribute,
  findAttribute,
  LITTLE_ENDIAN,
  MessageBuilder,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  parseAttributes,
  readText,
} from "../../linux/netlink_message.ts";
import {
  messageType,
  NFGENMSG_LENGTH,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  NFPROTO_UNSPEC,
  NFT_MSG,
  NFTA_CHAIN,
  NFTA_RULE,
  NFTA_TABLE,
  NFTA_VERDICT_CHAIN,
} from "../../linux/nf_tables.ts";
import { isOwnName } from "./own_chains.ts";

/** One table of the backend. */
export interface NftTable {
  readonly family: IpFamily;
  readonly name: string;
  readonly chains: readonly string[];
  readonly rules: readonly NftRule[];
}

/** One rule of such a table. */
export interface NftRule {
  readonly chain: string;
  /** What the kernel calls it, 8 bytes in network order. */
  readonly handle: Uint8Array;
  /** Ours by its chain, its comment or its target. */
  readonly own: boolean;
  /** Whether it carries our comment. */
  readonly comment: boolean;
}

/** What nf_tables holds in a namespace, as far as it matters here. */
export interface NftSurvey {
  /** The tables of iptables' nf_tables backend, both families. */
  readonly tables: readonly NftTable[];
  /** Whether there is a table of the engine "nftables". */
  readonly native: boolean;
}

/** Tables that the backend uses; others of the same families are not iptables'. */
const TABLE_NAMES = ["raw", "mangle", "nat", "filter", "security"];

const PROTOCOL_FAMILY: Readonly<Record<IpFamily, number>> = {
  ipv4: NFPROTO_IPV4,
  ipv6: NFPROTO_IPV6,
};

/**
 * Reads what nf_tables holds in the thread's network namespace, with one request when nobody has used
 * iptables in it.
 *
 * @param found called before tables of iptables are read
 * @param open socket of `NETLINK_NETFILTER` to ask over; without it a new one is opened
 * @returns `undefined` when the kernel does not have nf_tables
 * @throws {LinuxError} when the kernel refuses
 */
export function readNftTables(
  found: () => void = () => {},
  open?: NetlinkSocket,
): NftSurvey | undefined {
  using opened = open === undefined ? new NetlinkSocket(NETLINK_NETFILTER) : undefined;
  const socket = open ?? opened!;
  try {
    const tables = dump(socket, NFPROTO_UNSPEC, NFT_MSG.getTable).map(({ family, attributes }) => ({
      family,
      name: text(attributes, NFTA_TABLE.name),
    }));
    return {
      tables: (["ipv4", "ipv6"] as const).flatMap((family) => {
        const names = tables.filter((table) =>
          table.family === PROTOCOL_FAMILY[family] && TABLE_NAMES.includes(table.name)
        ).map(({ name }) => name);
        // Nearly every pod ends here: nobody has used iptables in it.
        if (names.length === 0) return [];
        found();
        return readFamily(socket, family, names);
      }),
      native: tables.some(({ name }) => name === NFT_TABLE),
    };
  } catch (error) {
    // What nfnetlink answers for a subsystem that is not there.
    const missing = ["EINVAL", "EOPNOTSUPP", "EPROTONOSUPPORT"];
    if (error instanceof LinuxError && missing.includes(error.code)) return undefined;
    throw error;
  }
}

function readFamily(
  socket: NetlinkSocket,
  family: IpFamily,
  names: readonly string[],
): NftTable[] {
  const chains = dump(socket, PROTOCOL_FAMILY[family], NFT_MSG.getChain);
  const rules = dump(socket, PROTOCOL_FAMILY[family], NFT_MSG.getRule);
  return names.map((name) => ({
    family,
    name,
    chains: chains.filter(({ attributes }) => text(attributes, NFTA_CHAIN.table) === name)
      .map(({ attributes }) => text(attributes, NFTA_CHAIN.name)),
    rules: rules.filter(({ attributes }) => text(attributes, NFTA_RULE.table) === name)
      .map(({ attributes }) => {
        const chain = text(attributes, NFTA_RULE.chain);
        const handle = findAttribute(attributes, NFTA_RULE.handle) ?? new Uint8Array(8);
        const { comment, jump } = marksOf(attributes);
        return { chain, handle, own: isOwnName(chain) || comment || jump, comment };
      }),
  }));
}

function text(attributes: Attribute[], type: number): string {
  const value = findAttribute(attributes, type);
  return value === undefined ? "" : readText(value);
}

function dump(
  socket: NetlinkSocket,
  family: number,
  message: number,
): { readonly family: number; readonly attributes: Attribute[] }[] {
  return socket.dump("Cannot read nf_tables objects", (sequence) =>
    new MessageBuilder(64)
      .beginMessage(messageType(message), NLM_F_REQUEST | NLM_F_DUMP, sequence)
      .u8(family).u8(0).u16be(0).endMessage().data)
    .map(({ payload }) => ({
      family: payload[0]!,
      attributes: parseAttributes(payload, NFGENMSG_LENGTH),
    }));
}

/** Whether a rule's comment is ours, and whether its target is one of our chains. */
function marksOf(rule: Attribute[]): { comment: boolean; jump: boolean } {
  // A verdict names its chain in an attribute; no other place has its type before such a name.
  const type = String.fromCharCode(NFTA_VERDICT_CHAIN);
  const name = (LITTLE_ENDIAN ? `${type}\0` : `\0${type}`) + CHAIN_PREFIX;
  const texts = rule.map(({ value }) => latin1(value));
  return {
    comment: texts.some((text) => text.includes(COMMENT_PREFIX)),
    jump: texts.some((text) => text.includes(name)),
  };
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** Whether a table holds anything of ours. */
export function hasOwnNftObjects(table: NftTable): boolean {
  return table.chains.some(isOwnName) || table.rules.some(({ own }) => own);
}

/**
 * Removes our rules and chains from the backend's tables of both families in one transaction.
 * Rules in built-in chains that carry no comment and have none of our chains as their target stay.
 *
 * @returns whether there was anything to remove
 * @throws {LinuxError} when the kernel refuses; everything is as before then
 */
export function removeOwnNftObjects(): boolean {
  const tables = (readNftTables()?.tables ?? []).filter(hasOwnNftObjects);
  if (tables.length === 0) return false;
  using socket = new NetlinkSocket(NETLINK_NETFILTER);
  const batch = new MessageBuilder();
  const mark = (type: number) =>
    batch.beginMessage(type, NLM_F_REQUEST, socket.nextSequence()).u8(NFPROTO_UNSPEC).u8(0)
      .u16be(NFNL_SUBSYS_NFTABLES).endMessage();
  const remove = (message: number, family: IpFamily) =>
    batch.beginMessage(messageType(message), NLM_F_REQUEST | NLM_F_ACK, socket.nextSequence())
      .u8(PROTOCOL_FAMILY[family]).u8(0).u16be(0);
  mark(NFNL_MSG_BATCH_BEGIN);
  for (const { family, name, rules } of tables) {
    for (const { chain, handle } of rules.filter(({ own }) => own)) {
      remove(NFT_MSG.delRule, family).attributeText(NFTA_RULE.table, name)
        .attributeText(NFTA_RULE.chain, chain).attribute(NFTA_RULE.handle, handle).endMessage();
    }
  }
  for (const { family, name, chains } of tables) {
    for (const chain of chains.filter(isOwnName)) {
      remove(NFT_MSG.delChain, family).attributeText(NFTA_CHAIN.table, name)
        .attributeText(NFTA_CHAIN.name, chain).endMessage();
    }
  }
  mark(NFNL_MSG_BATCH_END);
  const attempt = "Cannot remove earlier iptables rules through nf_tables";
  const failed = socket.batch(attempt, batch.data).find(({ errno }) => errno !== 0);
  if (failed !== undefined) throw new LinuxError(attempt, failed.errno, failed.detail);
  return true;
}
