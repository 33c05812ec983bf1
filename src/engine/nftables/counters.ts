/** Reads what the redirections of our tables have counted. */
import { NETLINK_NETFILTER, NetlinkSocket } from "../../linux/netlink.ts";
import { findAttribute, parseAttributes, readText } from "../../linux/netlink_message.ts";
import {
  NFTA_COUNTER,
  NFTA_DATA_VALUE,
  NFTA_EXPR_DATA,
  NFTA_EXPR_NAME,
  NFTA_IMMEDIATE,
} from "../../linux/nf_tables.ts";
import type { CountedRedirect } from "../redirect_counts.ts";
import { readChains, readTables } from "./read_back.ts";

/**
 * Reads the counters of the rules that redirect.
 *
 * @returns nothing when there are none: no table of ours, or one without counters
 * @throws {LinuxError} when the kernel refuses.
 */
export function readRedirects(): readonly CountedRedirect[] | undefined {
  using socket = new NetlinkSocket(NETLINK_NETFILTER);
  const redirects = readTables(socket)
    .flatMap(({ family }) => readChains(socket, family))
    .flatMap(({ rules }) => rules)
    .flatMap((rule) => redirectOf(rule) ?? []);
  return redirects.length === 0 ? undefined : redirects;
}

/** Anybody in the pod may have written the rule. */
function redirectOf(expressions: Uint8Array): CountedRedirect | undefined {
  let port: number | undefined;
  let connections: number | undefined;
  for (const { value } of parseAttributes(expressions)) {
    const element = parseAttributes(value);
    const name = readText(findAttribute(element, NFTA_EXPR_NAME) ?? NOTHING);
    const attributes = parseAttributes(findAttribute(element, NFTA_EXPR_DATA) ?? NOTHING);
    if (name === "counter") {
      const packets = findAttribute(attributes, NFTA_COUNTER.packets);
      if (packets?.length === 8) connections = u64(packets);
    } else if (name === "immediate") {
      const data = parseAttributes(findAttribute(attributes, NFTA_IMMEDIATE.data) ?? NOTHING);
      const bytes = findAttribute(data, NFTA_DATA_VALUE);
      if (bytes?.length === 2) port = bytes[0]! << 8 | bytes[1]!;
    } else if (name === "redir" && port !== undefined && connections !== undefined) {
      return { port, connections };
    }
  }
  return undefined;
}

function u64(bytes: Uint8Array): number {
  return Number(new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0));
}

const NOTHING = new Uint8Array();
