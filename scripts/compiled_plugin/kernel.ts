/**
 * A C library that plays the part of the kernel for the plugin's calls, so that a rehearsal needs no
 * rights and changes nothing: a network namespace with a loopback interface and without rules, whose
 * nf_tables gives back what it was sent.
 */
import { EAGAIN, ENOENT } from "../../src/linux/errno.ts";
import { NETLINK_NETFILTER } from "../../src/linux/netlink.ts";
import {
  type Message,
  MessageBuilder,
  NLM_F_ACK,
  NLM_F_DUMP,
  parseMessages,
  readU32,
} from "../../src/linux/netlink_message.ts";
import {
  messageType,
  NFGENMSG_LENGTH,
  NFNL_MSG_BATCH_BEGIN,
  NFPROTO_UNSPEC,
  NFT_MSG,
  NFTA_GEN_ID,
} from "../../src/engine/nftables/constants.ts";

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;
const IFLA_IFNAME = 3;
const IFF_UP_LOOPBACK = 0x9;

/** Which objects of a transaction a dump lists. */
const MADE_BY: Readonly<Record<number, number>> = {
  [messageType(NFT_MSG.getTable)]: messageType(NFT_MSG.newTable),
  [messageType(NFT_MSG.getChain)]: messageType(NFT_MSG.newChain),
  [messageType(NFT_MSG.getRule)]: messageType(NFT_MSG.newRule),
};

/** The functions that {@linkcode PlayedKernel} has in place of those of `src/linux/libc.ts`. */
export class PlayedKernel {
  readonly #errno = new Int32Array(1);
  readonly #protocols = new Map<number, number>();
  #nextDescriptor = 100;
  /** What is left of the file that was opened last. */
  #contents = new Uint8Array();
  #answers: Uint8Array[] = [];
  #objects: Message[] = [];

  /** What `Deno.dlopen` returns. */
  readonly symbols = {
    __errno_location: () => Deno.UnsafePointer.of(this.#errno),
    open: (name: Uint8Array) => {
      const path = new TextDecoder().decode(name.subarray(0, -1));
      // The files of /proc that are read list legacy tables, of which there are none.
      if (!path.startsWith("/proc/")) this.#contents = Deno.readFileSync(path);
      return this.#nextDescriptor++;
    },
    read: (_descriptor: number, buffer: Uint8Array) => {
      const { length } = this.#contents;
      buffer.set(this.#contents);
      this.#contents = new Uint8Array();
      return length;
    },
    statx: (_at: number, _path: Uint8Array, _flags: number, _mask: number, status: Uint8Array) => {
      new DataView(status.buffer).setUint16(28, 0o100600, true);
      return 0;
    },
    close: () => {
      this.#contents = new Uint8Array();
      return 0;
    },
    connect: () => 0,
    poll: () => 1,
    setns: () => 0,
    setsockopt: () => 0,
    socket: (_domain: number, _type: number, protocol: number) => {
      this.#protocols.set(this.#nextDescriptor, protocol);
      return this.#nextDescriptor++;
    },
    send: (descriptor: number, bytes: Uint8Array, length: bigint) => {
      const netfilter = this.#protocols.get(descriptor) === NETLINK_NETFILTER;
      // A transaction's bytes are the plugin's own buffer, which it may use again.
      this.#answers = this.#answer(netfilter, parseMessages(bytes.slice(0, Number(length))));
      return Number(length);
    },
    recv: (_descriptor: number, buffer: Uint8Array) => {
      const answer = this.#answers.shift();
      if (answer === undefined) {
        this.#errno[0] = EAGAIN;
        return -1;
      }
      buffer.set(answer);
      return answer.length;
    },
  };

  #answer(netfilter: boolean, messages: readonly Message[]): Uint8Array[] {
    const [first] = messages;
    if (first === undefined) return [];
    if (!netfilter) return [...(first.type === RTM_GETLINK ? [loopback(first)] : []), ack(first)];
    if (first.type === NFNL_MSG_BATCH_BEGIN) {
      this.#objects = [...messages];
      return messages.filter(({ flags }) => (flags & NLM_F_ACK) !== 0).map((message) =>
        ack(message)
      );
    }
    if (first.type === messageType(NFT_MSG.getGeneration)) return [generation(first), ack(first)];
    return (first.flags & NLM_F_DUMP) === NLM_F_DUMP ? [this.#dump(first)] : [ack(first, ENOENT)];
  }

  #dump(request: Message): Uint8Array {
    const family = request.payload[0];
    const out = new MessageBuilder();
    for (const { type, payload } of this.#objects) {
      if (type !== MADE_BY[request.type]) continue;
      if (family !== NFPROTO_UNSPEC && family !== payload[0]) continue;
      out.beginMessage(type, 0, request.sequence).raw(payload).endMessage();
    }
    return out.beginMessage(NLMSG_DONE, 0, request.sequence).u32(0).endMessage().data;
  }
}

function ack({ sequence }: Message, errno = 0): Uint8Array {
  return new MessageBuilder().beginMessage(NLMSG_ERROR, 0, sequence).u32(-errno).endMessage().data;
}

/** `struct ifinfomsg` and the name; the index is the wanted one. */
function loopback({ sequence, payload }: Message): Uint8Array {
  return new MessageBuilder().beginMessage(RTM_NEWLINK, 0, sequence)
    .u32(0).u32(readU32(payload, 4)).u32(IFF_UP_LOOPBACK).u32(0)
    .attributeText(IFLA_IFNAME, "lo").endMessage().data;
}

function generation({ sequence, payload }: Message): Uint8Array {
  return new MessageBuilder().beginMessage(messageType(NFT_MSG.newGeneration), 0, sequence)
    .raw(payload.subarray(0, NFGENMSG_LENGTH)).attributeU32be(NFTA_GEN_ID, 1).endMessage().data;
}
