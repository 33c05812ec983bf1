/**
 * The tables that iptables' nf_tables backend keeps in the kernel, looked at and cleaned through
 * netlink: this needs no tool, so it works on hosts where only somebody else's image had one.
 *
 * Needs `CAP_NET_ADMIN` and `--allow-ffi`. Facts: `linux/netfilter/nf_tables.h`,
 * `linux/netfilter/nfnetlink.h`.
 */
import type { IpFamily } from "../../redirect/config.ts";
import { CHAIN_PREFIX, COMMENT_PREFIX } from "../../redirect/ruleset.ts";
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
import { isOwnChain } from "./own_rules.ts";

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
}

/** Tables that the backend uses; others of the same families are not iptables'. */
const TABLE_NAMES = ["raw", "mangle", "nat", "filter", "security"];

const PROTOCOL_FAMILY: Readonly<Record<IpFamily, number>> = { ipv4: 2, ipv6: 10 };
const SUBSYSTEM = 10;
const GETTABLE = 1;
const GETCHAIN = 4;
const DELCHAIN = 5;
const GETRULE = 7;
const DELRULE = 8;
const BATCH_BEGIN = 0x10;
const BATCH_END = 0x11;
const NFGENMSG_LENGTH = 4;
/** In all three kinds of object. */
const TABLE = 1;
const TABLE_NAME = 1;
const CHAIN_NAME = 3;
const RULE_CHAIN = 2;
const RULE_HANDLE = 3;

/**
 * Reads the backend's tables of both families in the thread's network namespace.
 *
 * @returns `undefined` when the kernel does not have nf_tables
 * @throws {LinuxError} when the kernel refuses
 */
export function readNftTables(): NftTable[] | undefined {
  using socket = new NetlinkSocket(NETLINK_NETFILTER);
  try {
    return [...readFamily(socket, "ipv4"), ...readFamily(socket, "ipv6")];
  } catch (error) {
    // What nfnetlink answers for a subsystem that is not there.
    const missing = ["EINVAL", "EOPNOTSUPP", "EPROTONOSUPPORT"];
    if (error instanceof LinuxError && missing.includes(error.code)) return undefined;
    throw error;
  }
}

function readFamily(socket: NetlinkSocket, family: IpFamily): NftTable[] {
  const text = (attributes: Attribute[], type: number): string => {
    const value = findAttribute(attributes, type);
    return value === undefined ? "" : readText(value);
  };
  const names = dump(socket, family, GETTABLE).map((table) => text(table, TABLE_NAME))
    .filter((name) => TABLE_NAMES.includes(name));
  // Nearly every pod ends here: nobody has used iptables in it.
  if (names.length === 0) return [];
  const chains = dump(socket, family, GETCHAIN);
  const rules = dump(socket, family, GETRULE);
  return names.map((name) => ({
    family,
    name,
    chains: chains.filter((chain) => text(chain, TABLE) === name)
      .map((chain) => text(chain, CHAIN_NAME)),
    rules: rules.filter((rule) => text(rule, TABLE) === name).map((rule) => {
      const chain = text(rule, RULE_CHAIN);
      const handle = findAttribute(rule, RULE_HANDLE) ?? new Uint8Array(8);
      return { chain, handle, own: isOwnChain(chain) || isMarked(rule) };
    }),
  }));
}

function dump(socket: NetlinkSocket, family: IpFamily, message: number): Attribute[][] {
  const name = family === "ipv4" ? "IPv4" : "IPv6";
  return socket.dump(`Cannot read nf_tables objects of ${name}`, (sequence) =>
    new MessageBuilder()
      .beginMessage(SUBSYSTEM << 8 | message, NLM_F_REQUEST | NLM_F_DUMP, sequence)
      .u8(PROTOCOL_FAMILY[family]).u8(0).u16be(0).endMessage().data)
    .map(({ payload }) => parseAttributes(payload, NFGENMSG_LENGTH));
}

/** Whether a rule's comment is ours, or its target is one of our chains. */
function isMarked(rule: Attribute[]): boolean {
  // A verdict names its chain in an attribute of type 2; no other place has this number before it.
  const jump = (LITTLE_ENDIAN ? "\x02\0" : "\0\x02") + CHAIN_PREFIX;
  return rule.some(({ value }) => {
    const text = latin1(value);
    return text.includes(COMMENT_PREFIX) || text.includes(jump);
  });
}

function latin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

/** Whether a table holds anything of ours. */
export function hasOwnNftObjects(table: NftTable): boolean {
  return table.chains.some(isOwnChain) || table.rules.some(({ own }) => own);
}

/**
 * Removes our rules and chains from the backend's tables of both families in one transaction.
 * Rules in built-in chains that carry no comment and have none of our chains as their target stay.
 *
 * @returns whether there was anything to remove
 * @throws {LinuxError} when the kernel refuses; everything is as before then
 */
export function removeOwnNftObjects(): boolean {
  const tables = (readNftTables() ?? []).filter(hasOwnNftObjects);
  if (tables.length === 0) return false;
  using socket = new NetlinkSocket(NETLINK_NETFILTER);
  const batch = new MessageBuilder();
  const begin = (message: number, family: number, flags = 0) =>
    batch.beginMessage(message, NLM_F_REQUEST | flags, socket.nextSequence()).u8(family).u8(0)
      .u16be(message === BATCH_BEGIN || message === BATCH_END ? SUBSYSTEM : 0);
  begin(BATCH_BEGIN, 0).endMessage();
  for (const { family, name, rules } of tables) {
    for (const { chain, handle } of rules.filter(({ own }) => own)) {
      begin(SUBSYSTEM << 8 | DELRULE, PROTOCOL_FAMILY[family], NLM_F_ACK)
        .attributeText(TABLE, name).attributeText(RULE_CHAIN, chain)
        .attribute(RULE_HANDLE, handle).endMessage();
    }
  }
  for (const { family, name, chains } of tables) {
    for (const chain of chains.filter(isOwnChain)) {
      begin(SUBSYSTEM << 8 | DELCHAIN, PROTOCOL_FAMILY[family], NLM_F_ACK)
        .attributeText(TABLE, name).attributeText(CHAIN_NAME, chain).endMessage();
    }
  }
  begin(BATCH_END, 0).endMessage();
  const attempt = "Cannot remove earlier iptables rules through nf_tables";
  const failed = socket.batch(attempt, batch.data).find(({ errno }) => errno !== 0);
  if (failed !== undefined) throw new LinuxError(attempt, failed.errno, failed.detail);
  return true;
}
