/** Planned tables → encoded rules and the one batch that installs them. */
import type { Range } from "../../redirect/config.ts";
import { COMMENT_PREFIX } from "../../redirect/ruleset.ts";
import {
  HEADER_LENGTH,
  MessageBuilder,
  NLM_F_ACK,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_REQUEST,
} from "../../linux/netlink_message.ts";
import {
  COMMENT_MAXIMUM,
  messageType,
  NF_ACCEPT,
  NFGENMSG_LENGTH,
  NFNL_BATCH_GENID,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NFNL_SUBSYS_NFTABLES,
  NFPROTO_INET,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  NFPROTO_UNSPEC,
  NFT_MSG,
  NFT_SET_ANONYMOUS,
  NFT_SET_CONSTANT,
  NFT_SET_ELEM_INTERVAL_END,
  NFT_SET_INTERVAL,
  NFTA_CHAIN,
  NFTA_DATA_VALUE,
  NFTA_HOOK,
  NFTA_LIST_ELEM,
  NFTA_RULE,
  NFTA_SET,
  NFTA_SET_ELEMENT,
  NFTA_SET_ELEMENTS,
  NFTA_TABLE,
  TYPE_INET_SERVICE,
  UDATA_COMMENT,
  UDATA_RULE_ID,
} from "../../linux/nf_tables.ts";
import { bigEndianU16, writeExpressions } from "./expressions.ts";
import { ANONYMOUS_SET } from "./instructions.ts";
import type { NftFamily, PlannedChain, PlannedTable } from "./plan.ts";

/** A set of ports that a rule looks up; identified by number within the batch. */
export interface PortSet {
  readonly id: number;
  /** In order, neither overlapping nor touching. */
  readonly ports: readonly Range[];
}

/** A rule ready to send. */
export interface EncodedRule {
  readonly id: string;
  readonly comment: string | undefined;
  readonly expressions: Uint8Array;
  readonly sets: readonly PortSet[];
}

/** A chain ready to send. */
export interface EncodedChain {
  readonly name: string;
  readonly hook: PlannedChain["hook"];
  readonly rules: readonly EncodedRule[];
}

/** A table ready to send. */
export interface EncodedTable {
  readonly family: NftFamily;
  readonly name: string;
  readonly chains: readonly EncodedChain[];
}

/** Returns the number of a family, the first byte of an nf_tables message. */
export function familyNumber(family: NftFamily): number {
  return family === "inet" ? NFPROTO_INET : family === "ip" ? NFPROTO_IPV4 : NFPROTO_IPV6;
}

/** Returns the number of a hook of the IP families and of `inet`. */
export function hookNumber(hook: NonNullable<PlannedChain["hook"]>["hook"]): number {
  return ["prerouting", "input", "forward", "output", "postrouting"].indexOf(hook);
}

/**
 * Encodes the rules of planned tables.
 *
 * @param comments Whether rules carry their comments.
 * @param counters Whether redirections count what they redirect.
 * @throws {TypeError} when a rule holds what the kernel has no form for.
 */
export function encodeTables(
  tables: readonly PlannedTable[],
  comments: boolean,
  counters = true,
): EncodedTable[] {
  let setId = 0;
  const out = new MessageBuilder(16384);
  return tables.map(({ family, name, chains }) => {
    const names = new Set(chains.map((chain) => chain.name));
    return {
      family,
      name,
      chains: chains.map((chain) => ({
        name: chain.name,
        hook: chain.hook,
        rules: chain.rules.map((planned) => {
          const sets: PortSet[] = [];
          const addPortSet = (ports: readonly Range[]) => {
            setId += 1;
            sets.push({ id: setId, ports });
            return setId;
          };
          const start = out.length;
          writeExpressions(out, planned, { family, chains: names, addPortSet, counters });
          const expressions = out.data.subarray(start);
          const { id, comment } = planned.rule;
          return { id, comment: comments ? comment : undefined, expressions, sets };
        }),
      })),
    };
  });
}

/** What a message of a batch is about, to name it in an error. */
export interface BatchObject {
  readonly table: { readonly family: NftFamily; readonly name: string };
  readonly chain?: string;
  readonly rule?: { readonly position: number; readonly id: string };
  readonly action: "delete" | "make";
}

/** A whole transaction; message `n` of `objects` has sequence number `firstSequence + n`. */
export interface Batch {
  readonly data: Uint8Array<ArrayBuffer>;
  readonly firstSequence: number;
  readonly objects: readonly (BatchObject | undefined)[];
}

/**
 * Builds one transaction that deletes tables and makes tables. The kernel does all of it or nothing,
 * and no packet meets a state in between.
 *
 * @param generation The ruleset's generation that the decision was made on; the kernel refuses with
 * `ERESTART` when there is a newer one.
 */
export function buildBatch(
  remove: readonly { readonly family: NftFamily; readonly name: string }[],
  make: readonly EncodedTable[],
  generation: number,
  firstSequence: number,
): Batch {
  const objects: (BatchObject | undefined)[] = [];
  const out = new MessageBuilder(16384);
  let last = 0;
  const begin = (type: number, flags: number, family: number, about?: BatchObject) => {
    out.beginMessage(type, NLM_F_REQUEST | flags, firstSequence + objects.length);
    out.u8(family).u8(0);
    objects.push(about);
  };
  const object = (message: number, flags: number, about: BatchObject) => {
    last = out.length;
    begin(messageType(message), flags, familyNumber(about.table.family), about);
    out.u16be(0);
  };

  begin(NFNL_MSG_BATCH_BEGIN, 0, NFPROTO_UNSPEC);
  out.u16be(NFNL_SUBSYS_NFTABLES).attributeU32be(NFNL_BATCH_GENID, generation).endMessage();
  for (const table of remove) {
    object(NFT_MSG.delTable, 0, { table, action: "delete" });
    out.attributeText(NFTA_TABLE.name, table.name).endMessage();
  }
  for (const table of make) {
    object(NFT_MSG.newTable, NLM_F_CREATE, { table, action: "make" });
    out.attributeText(NFTA_TABLE.name, table.name).attributeU32be(NFTA_TABLE.flags, 0).endMessage();
    for (const chain of table.chains) {
      object(NFT_MSG.newChain, NLM_F_CREATE, { table, chain: chain.name, action: "make" });
      writeChain(out, table.name, chain);
    }
    for (const chain of table.chains) {
      for (const [position, rule] of chain.rules.entries()) {
        const about: BatchObject = {
          table,
          chain: chain.name,
          rule: { position: position + 1, id: rule.id },
          action: "make",
        };
        for (const set of rule.sets) {
          object(NFT_MSG.newSet, NLM_F_CREATE, about);
          writeSet(out, table.name, set);
          object(NFT_MSG.newSetElement, NLM_F_CREATE, about);
          writeSetElements(out, table.name, set);
        }
        object(NFT_MSG.newRule, NLM_F_CREATE | NLM_F_APPEND, about);
        writeRule(out, table.name, chain.name, rule);
      }
    }
  }
  // One acknowledgement tells of success; one for each message would overflow the socket's buffer.
  out.addMessageFlags(last, NLM_F_ACK);
  begin(NFNL_MSG_BATCH_END, 0, NFPROTO_UNSPEC);
  out.u16be(NFNL_SUBSYS_NFTABLES).endMessage();
  return { data: out.data, firstSequence, objects };
}

/** Where the generation stands: behind the first message's head and the head of its one attribute. */
const GENERATION_AT = HEADER_LENGTH + NFGENMSG_LENGTH + 4;

/** Returns a transaction for another generation, in the same memory. */
export function forGeneration(batch: Batch, generation: number): Batch {
  new DataView(batch.data.buffer, batch.data.byteOffset).setUint32(GENERATION_AT, generation);
  return batch;
}

function writeChain(out: MessageBuilder, table: string, { name, hook }: EncodedChain): void {
  out.attributeText(NFTA_CHAIN.table, table).attributeText(NFTA_CHAIN.name, name);
  if (hook !== undefined) {
    const mark = out.beginNested(NFTA_CHAIN.hook);
    out.attributeU32be(NFTA_HOOK.number, hookNumber(hook.hook))
      .attributeU32be(NFTA_HOOK.priority, hook.priority).endAttribute(mark);
    out.attributeU32be(NFTA_CHAIN.policy, NF_ACCEPT).attributeText(NFTA_CHAIN.type, hook.type);
  }
  out.endMessage();
}

function writeRule(out: MessageBuilder, table: string, chain: string, rule: EncodedRule): void {
  out.attributeText(NFTA_RULE.table, table).attributeText(NFTA_RULE.chain, chain);
  const mark = out.beginNested(NFTA_RULE.expressions);
  out.raw(rule.expressions).endAttribute(mark);
  writeUserdata(out, rule);
  out.endMessage();
}

/** Comment, for nft to show, and the rule's identifier: type, length, value each. */
function writeUserdata(out: MessageBuilder, { id, comment }: EncodedRule): void {
  const mark = out.beginNested(NFTA_RULE.userdata, 0);
  if (comment !== undefined) {
    const text = (COMMENT_PREFIX + comment).slice(0, COMMENT_MAXIMUM);
    out.u8(UDATA_COMMENT).u8(text.length + 1).text(text).u8(0);
  }
  out.u8(UDATA_RULE_ID).u8(id.length).text(id).endAttribute(mark);
}

function writeSet(out: MessageBuilder, table: string, { id }: PortSet): void {
  out.attributeText(NFTA_SET.table, table).attributeText(NFTA_SET.name, ANONYMOUS_SET)
    .attributeU32be(NFTA_SET.flags, NFT_SET_ANONYMOUS | NFT_SET_CONSTANT | NFT_SET_INTERVAL)
    .attributeU32be(NFTA_SET.keyType, TYPE_INET_SERVICE).attributeU32be(NFTA_SET.keyLength, 2)
    .attributeU32be(NFTA_SET.id, id).endMessage();
}

function writeSetElements(out: MessageBuilder, table: string, { id, ports }: PortSet): void {
  out.attributeText(NFTA_SET_ELEMENTS.table, table)
    .attributeText(NFTA_SET_ELEMENTS.set, ANONYMOUS_SET)
    .attributeU32be(NFTA_SET_ELEMENTS.setId, id);
  const elements = out.beginNested(NFTA_SET_ELEMENTS.elements);
  const boundary = (port: number, end: boolean) => {
    const element = out.beginNested(NFTA_LIST_ELEM);
    const key = out.beginNested(NFTA_SET_ELEMENT.key);
    out.attribute(NFTA_DATA_VALUE, bigEndianU16(port)).endAttribute(key);
    if (end) out.attributeU32be(NFTA_SET_ELEMENT.flags, NFT_SET_ELEM_INTERVAL_END);
    out.endAttribute(element);
  };
  // The kernel keeps boundaries: where a range starts and, one port after its last, where it ends.
  if (ports[0]!.from > 0) boundary(0, true);
  for (const { from, to } of ports) {
    boundary(from, false);
    if (to < 65535) boundary(to + 1, true);
  }
  out.endAttribute(elements).endMessage();
}
