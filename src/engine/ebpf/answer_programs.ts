/**
 * The programs that answer questions of processes: who is my peer, who sent this datagram, and where
 * did this connection want to go?
 */
import type { IpFamily } from "../../ip/address.ts";
import { Assembler, r0, r1, r2, r3, r4, r5, r6, r7 } from "./assembler.ts";
import {
  AF_INET,
  AF_INET6,
  ALLOWED,
  LOCALHOST_WORD,
  MAPPED_WORD,
  Original,
  portWord,
  REFUSED,
  Role,
  Socket,
  SocketAddress,
  SocketOption,
  SPREAD_WORD,
  TCP,
} from "./layout.ts";
import { copyWords, originalOf, type Place, unlessMapped } from "./parts.ts";

/** Answers `getpeername(2)` of a redirected socket with the address that the process asked for. */
export function peerNameProgram(sockets: IpFamily): Assembler {
  const program = new Assembler().move(r6, r1);
  writeOriginalAsPeer(program, sockets);
  return program.label("keep").exit(ALLOWED);
}

/** Lets an answer of the sidecar's DNS proxy come from the server that was asked. */
export function receiveProgram(sockets: IpFamily, dnsPort: number): Assembler {
  const program = new Assembler().move(r6, r1)
    .load("word", r1, r6, SocketAddress.port).jumpIf32(r1, "!=", portWord(dnsPort), "keep");
  if (sockets === "ipv4") {
    program.load("word", r1, r6, SocketAddress.ip4).jumpIf32(r1, "!=", LOCALHOST_WORD, "keep");
  } else {
    const at = SocketAddress.ip6;
    program.load("word", r1, r6, at).jumpIf32(r1, "!=", 0, "keep")
      .load("word", r1, r6, at + 4).jumpIf32(r1, "!=", 0, "keep")
      .load("word", r1, r6, at + 8).load("word", r2, r6, at + 12)
      .jumpIf32(r1, "==", MAPPED_WORD, "mapped")
      .jumpIf32(r1, "!=", 0, "keep").jumpIf32(r2, "!=", 0x01000000, "keep").jump("ours")
      .label("mapped").jumpIf32(r2, "!=", LOCALHOST_WORD, "keep").label("ours");
  }
  writeOriginalAsPeer(program, sockets);
  return program.label("keep").exit(ALLOWED);
}

function writeOriginalAsPeer(program: Assembler, sockets: IpFamily): void {
  originalOf(program, SocketAddress.socket, false);
  // The same hook tells an accepting process who connected: that end keeps the true address.
  program.jumpIf(r0, "==", 0, "keep").load("word", r1, r0, Original.role)
    .jumpIf32(r1, "!=", Role.client, "keep");
  if (sockets === "ipv4") {
    program.load("word", r1, r0, Original.address + 12).store("word", r6, SocketAddress.ip4, r1);
  } else {
    copyWords(program, [r6, SocketAddress.ip6], [r0, Original.address]);
  }
  program.load("word", r1, r0, Original.port).store("word", r6, SocketAddress.port, r1);
}

const SO_ORIGINAL_DST = 80;
const SOL_IP = 0;
const SOL_IPV6 = 41;
/** The kernel shows programs one page of an option at most, and takes 0 for "as it was". */
const MOST_SHOWN = 4096;
/** The address in the caller's buffer of a `sockaddr_in6`, which r1 has. */
const answer6: Place = [r1, 8];

/**
 * Answers `SO_ORIGINAL_DST`, by which the sidecar asks where an accepted connection wanted to go. An
 * incoming connection was never translated: its own local address is the answer.
 */
export function originalDestinationProgram(outboundPort: number): Assembler {
  const program = new Assembler().move(r6, r1);
  program.load("word", r1, r6, SocketOption.name).jumpIf32(r1, "!=", SO_ORIGINAL_DST, "keep")
    .load("double", r7, r6, SocketOption.socket)
    .load("word", r1, r7, Socket.protocol).jumpIf32(r1, "!=", TCP, "keep")
    .load("word", r1, r6, SocketOption.level)
    .jumpIf32(r1, "==", SOL_IPV6, "ipv6").jumpIf32(r1, "!=", SOL_IP, "keep");

  program.remark("IPv4");
  originalOf(program, SocketOption.socket, false);
  program.jumpIf(r0, "==", 0, "incoming4");
  unlessMapped(program, r0, Original.address, "keep");
  program.load("word", r3, r0, Original.address + 12).load("word", r4, r0, Original.port)
    .jump("answer4").label("incoming4");
  program.load("word", r3, r7, Socket.sourceIp4).jumpIf32(r3, "==", 0, "keep")
    .load("word", r4, r7, Socket.sourcePort).jumpIf32(r4, "!=", outboundPort, "not_lost")
    .move32(r1, r3).and32(r1, 0xffff).jumpIf32(r1, "!=", SPREAD_WORD, "not_lost")
    .remark("the sidecar would call itself")
    .exit(REFUSED).label("not_lost")
    .load("word", r1, r6, SocketOption.result).jumpIf32(r1, "==", 0, "keep").swapPort(r4)
    .label("answer4");
  roomFor(program, 16);
  program.store("half", r1, 0, AF_INET).store("half", r1, 2, r4).store("word", r1, 4, r3)
    .store("word", r1, 8, 0).store("word", r1, 12, 0);
  answered(program, 16);

  program.label("ipv6").remark("IPv6");
  originalOf(program, SocketOption.socket, false);
  program.jumpIf(r0, "==", 0, "incoming6")
    .load("word", r1, r0, Original.address + 8).jumpIf32(r1, "==", MAPPED_WORD, "keep")
    .load("word", r4, r0, Original.port);
  roomFor(program, 28);
  copyWords(program, answer6, [r0, Original.address], r2);
  program.jump("answer6").label("incoming6")
    .load("word", r1, r6, SocketOption.result).jumpIf32(r1, "==", 0, "keep")
    .load("word", r1, r7, Socket.family).jumpIf32(r1, "!=", AF_INET6, "keep")
    .load("word", r1, r7, Socket.sourceIp6 + 8).jumpIf32(r1, "==", MAPPED_WORD, "keep")
    .load("word", r4, r7, Socket.sourcePort).swapPort(r4);
  roomFor(program, 28);
  copyWords(program, answer6, [r7, Socket.sourceIp6], r2);
  program.label("answer6").store("half", r1, 0, AF_INET6).store("half", r1, 2, r4)
    .store("word", r1, 4, 0).store("word", r1, 24, 0);
  answered(program, 28);

  return program.label("keep").load("word", r1, r6, SocketOption.length)
    .jumpIf32(r1, "<", MOST_SHOWN + 1, "small").jumpIf32(r1, ">", 0x7fffffff, "small")
    .move(r1, 0).store("word", r6, SocketOption.length, r1).label("small").exit(ALLOWED);
}

/** `r1 =` the caller's buffer, which has room; the kernel's own answer stays when it has none. */
function roomFor(program: Assembler, bytes: number): void {
  program.load("double", r1, r6, SocketOption.value).load("double", r2, r6, SocketOption.valueEnd)
    .move(r5, r1).add(r5, bytes).jumpIf(r5, ">", r2, "keep");
}

function answered(program: Assembler, bytes: number): void {
  program.move(r1, bytes).store("word", r6, SocketOption.length, r1)
    .move(r1, 0).store("word", r6, SocketOption.result, r1).exit(ALLOWED);
}
