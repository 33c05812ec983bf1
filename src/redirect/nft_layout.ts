/**
 * How a ruleset maps to nf_tables: names, hooks and priorities of the base chains of our table.
 * Facts: `linux/netfilter_ipv4.h` (priorities of iptables' tables), nft(8).
 */
import type { BaseChainName, Chain, TableName } from "./ruleset.ts";

/** Name of our table in every family. */
export const NFT_TABLE = "kuma_mesh";

/** What nf_tables needs to know about a base chain. */
export interface NftHook {
  readonly type: "filter" | "nat";
  readonly hook: "prerouting" | "input" | "output" | "postrouting";
  readonly priority: number;
}

/** Returns the name of a chain in our table, for example `nat_output` or `KUMA_MESH_INBOUND`. */
export function nftChainName(table: TableName, chain: Chain): string {
  return chain.base ? `${table}_${chain.name.toLowerCase()}` : chain.name;
}

/**
 * Returns type, hook and priority of a base chain.
 *
 * A table of our own cannot stand between the rules of iptables' tables, whose nat chains have
 * priority -100, so a nat chain goes wholly before them when any of its rules wants to be inserted,
 * else wholly after them. An equal priority would not do: the kernel calls the chain that came last
 * first.
 */
export function nftHook(table: TableName, chain: Chain): NftHook {
  const hook = chain.name as BaseChainName === "PREROUTING" ? "prerouting" : "output";
  switch (table) {
    case "raw":
      return { type: "filter", hook, priority: -300 };
    case "mangle":
      return { type: "filter", hook, priority: -150 };
    case "nat": {
      const first = chain.rules.some(({ placement }) => placement === "insert");
      return { type: "nat", hook, priority: first ? -101 : -99 };
    }
  }
}
