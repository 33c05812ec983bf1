/** Everything in a network namespace that the plugin could change, read without any tool. */
import { listAddresses, listLinks } from "../../src/linux/addresses.ts";
import { readLegacyTables } from "../../src/linux/legacy_tables.ts";
import { NETLINK_NETFILTER, NetlinkSocket } from "../../src/linux/netlink.ts";
import {
  MessageBuilder,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
} from "../../src/linux/netlink_message.ts";

/** Messages of nf_tables that list objects; `linux/netfilter/nf_tables.h`. */
const LISTS = { tables: 1, chains: 4, rules: 7, sets: 10 } as const;
const GET_GENERATION = 16;
const NF_TABLES = 10 << 8;

/**
 * Describes the calling thread's network namespace: nf_tables objects of all families byte for byte
 * and their generation, which grows with every transaction, legacy tables, addresses, links.
 * Two equal texts mean that nothing was changed in between, not even changed and changed back.
 */
export function namespaceState(): string {
  using socket = new NetlinkSocket(NETLINK_NETFILTER);
  const build = (type: number, flags: number, sequence: number) =>
    new MessageBuilder(64).beginMessage(NF_TABLES | type, NLM_F_REQUEST | flags, sequence)
      .u8(0).u8(0).u8(0).u8(0).endMessage().data;
  const lines = socket.request(
    "Cannot read the generation",
    build(GET_GENERATION, NLM_F_ACK, socket.nextSequence()),
  ).map(({ payload }) => `generation ${payload.slice(4, 12).toHex()}`);
  for (const [name, type] of Object.entries(LISTS)) {
    const messages = socket.dump(
      `Cannot list the ${name}`,
      (sequence) => build(type, NLM_F_DUMP, sequence),
    );
    // The generation is in the header of each message, behind the family.
    lines.push(
      ...messages.map(({ payload }) => `${name} ${payload[0]} ${payload.slice(4).toHex()}`),
    );
  }
  for (const family of ["ipv4", "ipv6"] as const) {
    lines.push(...readLegacyTables(family).map((table) => JSON.stringify(table)));
  }
  lines.push(...listLinks().map((link) => JSON.stringify(link)));
  lines.push(...listAddresses().map((address) => JSON.stringify(address)));
  return lines.join("\n");
}
