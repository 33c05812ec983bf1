/** Numbers of the nf_tables netlink protocol. Facts: `linux/netfilter/nf_tables.h`, `nfnetlink.h`. */

export const NFNL_SUBSYS_NFTABLES = 10;
export const NFNL_MSG_BATCH_BEGIN = 16;
export const NFNL_MSG_BATCH_END = 17;
export const NFNL_BATCH_GENID = 1;
/** Length of `struct nfgenmsg`. */
export const NFGENMSG_LENGTH = 4;

export const NFPROTO_UNSPEC = 0;
export const NFPROTO_INET = 1;
export const NFPROTO_IPV4 = 2;
export const NFPROTO_IPV6 = 10;

/** Message types, to be combined with the subsystem by {@linkcode messageType}. */
export const NFT_MSG = {
  newTable: 0,
  getTable: 1,
  delTable: 2,
  newChain: 3,
  getChain: 4,
  delChain: 5,
  newRule: 6,
  getRule: 7,
  delRule: 8,
  newSet: 9,
  newSetElement: 12,
  getSetElement: 13,
  newGeneration: 15,
  getGeneration: 16,
} as const;

/** Returns the netlink message type of an nf_tables message. */
export function messageType(message: number): number {
  return NFNL_SUBSYS_NFTABLES << 8 | message;
}

export const NFTA_LIST_ELEM = 1;
export const NFTA_DATA_VALUE = 1;
export const NFTA_DATA_VERDICT = 2;
export const NFTA_VERDICT_CODE = 1;
export const NFTA_VERDICT_CHAIN = 2;

export const NFTA_TABLE = { name: 1, flags: 2 } as const;
export const NFTA_CHAIN = {
  table: 1,
  handle: 2,
  name: 3,
  hook: 4,
  policy: 5,
  type: 7,
  flags: 10,
} as const;
export const NFTA_HOOK = { number: 1, priority: 2 } as const;
export const NFTA_RULE = { table: 1, chain: 2, handle: 3, expressions: 4, userdata: 7 } as const;
export const NFTA_SET = {
  table: 1,
  name: 2,
  flags: 3,
  keyType: 4,
  keyLength: 5,
  id: 10,
} as const;
export const NFTA_SET_ELEMENTS = { table: 1, set: 2, elements: 3, setId: 4 } as const;
export const NFTA_SET_ELEMENT = { key: 1, flags: 3 } as const;
export const NFTA_GEN_ID = 1;

export const NFT_SET_ANONYMOUS = 1;
export const NFT_SET_CONSTANT = 2;
export const NFT_SET_INTERVAL = 4;
export const NFT_SET_ELEM_INTERVAL_END = 1;
/** nft's number of the data type of ports, so that it can list them. */
export const TYPE_INET_SERVICE = 13;

export const NF_DROP = 0;
export const NF_ACCEPT = 1;
export const NFT_JUMP = -3;
export const NFT_RETURN = -5;
export const NFT_REG_VERDICT = 0;
export const NFT_REG_1 = 1;

export const NFTA_EXPR_NAME = 1;
export const NFTA_EXPR_DATA = 2;
export const NFTA_META = { destination: 1, key: 2 } as const;
export const NFT_META = { iifname: 6, oifname: 7, skuid: 10, nfproto: 15, l4proto: 16 } as const;
export const NFTA_PAYLOAD = { destination: 1, base: 2, offset: 3, length: 4 } as const;
export const NFT_PAYLOAD_NETWORK_HEADER = 1;
export const NFT_PAYLOAD_TRANSPORT_HEADER = 2;
export const NFTA_CMP = { source: 1, operation: 2, data: 3 } as const;
export const NFTA_RANGE = { source: 1, operation: 2, from: 3, to: 4 } as const;
/** The same numbers in `nft_cmp_ops` and `nft_range_ops`. */
export const NFT_EQ = 0;
export const NFT_NEQ = 1;
export const NFTA_BITWISE = {
  source: 1,
  destination: 2,
  length: 3,
  mask: 4,
  xor: 5,
  operation: 6,
} as const;
export const NFTA_BYTEORDER = {
  source: 1,
  destination: 2,
  operation: 3,
  length: 4,
  size: 5,
} as const;
export const NFT_BYTEORDER_HTON = 1;
export const NFTA_CT = { destination: 1, key: 2, source: 4 } as const;
export const NFT_CT = { state: 0, zone: 17 } as const;
/** Bit of `ct state invalid`: `NF_CT_STATE_INVALID_BIT`. */
export const CT_STATE_INVALID = 1;
export const NFTA_IMMEDIATE = { destination: 1, data: 2 } as const;
export const NFTA_REDIR = { registerMinimum: 1, registerMaximum: 2, flags: 3 } as const;
/** Says that a redirection names ports; the kernel sets it by itself. */
export const NF_NAT_RANGE_PROTO_SPECIFIED = 2;
/** Both are 64-bit numbers. */
export const NFTA_COUNTER = { bytes: 1, packets: 2, padding: 3 } as const;
export const NFTA_LOG = { prefix: 2, level: 5 } as const;
export const NFTA_LOOKUP = { set: 1, source: 2, setId: 4, flags: 5 } as const;

/** Kinds of userdata of a rule: nft shows the first as `comment`, and skips what it does not know. */
export const UDATA_COMMENT = 0;
export const UDATA_RULE_ID = 0x4b;
/** Longest comment that nft takes back from its own listing. */
export const COMMENT_MAXIMUM = 127;

export const IPPROTO_TCP = 6;
export const IPPROTO_UDP = 17;
