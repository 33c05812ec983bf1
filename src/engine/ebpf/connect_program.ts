/**
 * The programs that decide about outgoing traffic: `connect(2)` of TCP and UDP, and `sendmsg(2)` of
 * UDP sockets that are not connected. They run when a process of the pod calls one of these.
 */
import type { IpFamily } from "../../ip/address.ts";
import type { FamilyRuleset } from "../../redirect/ruleset.ts";
import { Assembler, Helper, r0, r1, r2, r3, r6, stack } from "./assembler.ts";
import {
  AF_INET,
  AF_INET6,
  ALLOWED,
  LOCALHOST_WORD,
  MapName,
  MAPPED_WORD,
  Original,
  portWord,
  REFUSED,
  Role,
  Socket,
  SocketAddress,
  SPREAD_WORD,
  Stack,
  TCP,
  UDP,
} from "./layout.ts";
import {
  copyHalves,
  count,
  lookUp,
  originalOf,
  type Place,
  putMapped,
  putWords,
  unlessMapped,
} from "./parts.ts";
import { LOCAL, PORT, type Target, UID, writeRules } from "./rule_code.ts";

/** The rules of each family that there are. */
export interface Families {
  readonly ipv4?: FamilyRuleset | undefined;
  readonly ipv6?: FamilyRuleset | undefined;
}

/** Which call a program is for. */
export interface Call {
  readonly name: "connect" | "sendmsg";
  /** Family of the sockets. IPv6 sockets can also send to IPv4 addresses, mapped. */
  readonly sockets: IpFamily;
}

const PASS = "pass";

/** Writes the program for a call. */
export function connectProgram(families: Families, call: Call): Assembler {
  const program = new Assembler().move(r6, r1);
  const { ipv4, ipv6 } = families;
  if (call.sockets === "ipv4") {
    program.load("word", r2, r6, SocketAddress.ip4);
    writeFamily(program, ipv4, call, "ipv4");
  } else {
    unlessMapped(program, r6, SocketAddress.ip6, "ipv6");
    program.load("word", r2, r6, SocketAddress.ip6 + 12);
    writeFamily(program, ipv4, call, "ipv4");
    program.label("ipv6");
    writeFamily(program, ipv6, call, "ipv6");
  }
  program.label(PASS).remark("goes direct");
  // A socket can be connected anew: what it wanted before must not be told as its peer.
  if (call.name === "connect" && program.reachable) {
    program.loadMap(r1, MapName.original).load("double", r2, r6, SocketAddress.socket)
      .call(Helper.socketStorageDelete);
  }
  return program.exit(ALLOWED);
}

/** Decides by the rules of one family; an IPv4 destination is in r2. */
function writeFamily(
  program: Assembler,
  rules: FamilyRuleset | undefined,
  call: Call,
  family: IpFamily,
): void {
  if (rules === undefined) return void program.jump(PASS);
  if (family === "ipv4") putDestination4(program);
  else putDestination6(program);
  program.load("word", PORT, r6, SocketAddress.port).swapPort(PORT);
  program.call(Helper.currentUidGid).move32(UID, r0);
  const udp = program.freshLabel("udp");
  program.move(LOCAL, 0);
  const targets: [Target, "tcp" | "udp"][] = [];
  const write = (protocol: "tcp" | "udp") => {
    const options = { family: rules, hook: "OUTPUT", protocol, accept: PASS } as const;
    for (const target of writeRules(program, options)) targets.push([target, protocol]);
  };
  if (call.name === "connect") {
    program.load("word", r1, r6, SocketAddress.protocol).jumpIf32(r1, "==", UDP, udp)
      .jumpIf32(r1, "!=", TCP, PASS);
    if (family === "ipv4") findLocal4(program);
    else findLocal6(program);
    write("tcp");
  } else program.jump(udp);
  program.label(udp);
  write("udp");
  for (const [target, protocol] of targets) {
    writeRedirection(program, target, { call, family, protocol });
  }
}

/** Puts destination and source onto the stack; nowhere means the pod itself, as for the kernel. */
function putDestination4(program: Assembler): void {
  const known = program.freshLabel("known");
  program.load("double", r1, r6, SocketAddress.socket).load("word", r3, r1, Socket.sourceIp4);
  putMapped(program, Stack.source, r3);
  program.jumpIf32(r2, "!=", 0, known).move32(r2, r3).jumpIf32(r2, "!=", 0, known)
    .move32(r2, LOCALHOST_WORD).label(known);
  putMapped(program, Stack.destination, r2);
}

function putDestination6(program: Assembler): void {
  const [somewhere, bound] = [program.freshLabel("somewhere"), program.freshLabel("bound")];
  putWords(program, Stack.destination, r6, SocketAddress.ip6);
  program.load("double", r1, stack, Stack.destination).load(
    "double",
    r2,
    stack,
    Stack.destination + 8,
  )
    .or(r1, r2).jumpIf(r1, "!=", 0, somewhere)
    .store("word", stack, Stack.destination + 12, 0x01000000).label(somewhere);
  program.load("double", r2, r6, SocketAddress.socket);
  putWords(program, Stack.source, r2, Socket.sourceIp6);
  // To itself the kernel sends from the same address.
  program.load("double", r1, stack, Stack.source).load("double", r2, stack, Stack.source + 8)
    .or(r1, r2).jumpIf(r1, "!=", 0, bound);
  copyHalves(program, [stack, Stack.source], [stack, Stack.destination]);
  program.label(bound);
}

function findLocal4(program: Assembler): void {
  const [loopback, known] = [program.freshLabel("loopback"), program.freshLabel("known")];
  jumpIfLoopback(program, loopback);
  lookUp(program, MapName.addresses, Stack.destination);
  program.jumpIf(r0, "==", 0, known).label(loopback).move(LOCAL, 1).label(known);
}

/** Jumps when the destination is of 127.0.0.0/8. Destroys r1. */
function jumpIfLoopback(program: Assembler, label: string): void {
  program.load("word", r1, stack, Stack.destination + 12).and32(r1, 0xff)
    .jumpIf32(r1, "==", 127, label);
}

function findLocal6(program: Assembler): void {
  const known = program.freshLabel("known");
  lookUp(program, MapName.addresses, Stack.destination);
  program.jumpIf(r0, "==", 0, known).move(LOCAL, 1).label(known);
}

interface Redirection {
  readonly call: Call;
  readonly family: IpFamily;
  readonly protocol: "tcp" | "udp";
}

/** Keeps where the socket wanted to go and sends it to the sidecar. */
function writeRedirection(program: Assembler, target: Target, redirection: Redirection): void {
  const { call, family, protocol } = redirection;
  const kept = program.freshLabel("kept");
  program.label(target.label);
  originalOf(program, SocketAddress.socket, true);
  // Without it the sidecar would not know where to: better no connection than a wrong one.
  program.jumpIf(r0, "!=", 0, kept).exit(REFUSED).label(kept);
  copyHalves(program, [r0, Original.address], [stack, Stack.destination]);
  program.load("word", r1, r6, SocketAddress.port).store("word", r0, Original.port, r1)
    .store("word", r0, Original.role, Role.client);
  if (protocol === "tcp") bindSource(program, call.sockets, family);
  count(program, protocol === "udp" ? "dns" : target.outbound ? "outbound" : "inbound");
  if (family === "ipv4") {
    if (target.outbound) {
      // All to one address would let a pod have one connection for each of its ports only.
      program.load("word", r1, stack, Stack.destination + 12).and32(r1, 0xffff0000 | 0)
        .or32(r1, SPREAD_WORD);
    } else program.move32(r1, LOCALHOST_WORD);
    const at = call.sockets === "ipv4" ? SocketAddress.ip4 : SocketAddress.ip6 + 12;
    program.store("word", r6, at, r1);
  } else {
    program.move(r1, 0);
    for (const word of [0, 4, 8]) program.store("word", r6, SocketAddress.ip6 + word, r1);
    program.move32(r1, 0x01000000).store("word", r6, SocketAddress.ip6 + 12, r1);
  }
  program.move32(r1, portWord(target.port)).store("word", r6, SocketAddress.port, r1)
    .exit(ALLOWED);
}

/**
 * Gives the connection the address that it would have come from: the sidecar sees it, and the
 * application asks for it. A socket that has an address keeps it.
 */
function bindSource(
  program: Assembler,
  sockets: IpFamily,
  family: IpFamily,
): void {
  const [done, bind] = [program.freshLabel("has_source"), program.freshLabel("bind")];
  program.load("double", r2, r6, SocketAddress.socket);
  if (family === "ipv4") {
    program.load("word", r1, r2, Socket.sourceIp4).jumpIf32(r1, "!=", 0, done);
  } else {
    for (const part of [0, 4, 8, 12]) {
      program.load("word", r1, r2, Socket.sourceIp6 + part).jumpIf32(r1, "!=", 0, done);
    }
  }
  const outside = program.freshLabel("outside");
  program.jumpIf32(LOCAL, "==", 0, outside);
  if (family === "ipv4") jumpIfLoopback(program, done);
  copyAddress(program, sockets, family, [stack, Stack.destination]);
  program.jump(bind).label(outside);
  program.store("double", stack, Stack.key, 0).store("word", stack, Stack.key + 12, 0)
    .store("word", stack, Stack.key + 8, family === "ipv4" ? MAPPED_WORD : 0);
  lookUp(program, MapName.addresses, Stack.key);
  program.jumpIf(r0, "==", 0, done);
  copyAddress(program, sockets, family, [r0, 0]);
  program.label(bind);
  const bytes = sockets === "ipv4" ? 16 : 28;
  program.move(r1, r6).move(r2, stack).add(r2, Stack.socketAddress).move(r3, bytes)
    .call(Helper.bind).label(done);
}

/** Writes a `sockaddr` with an address of 16 bytes, IPv4 mapped, and no port. Destroys r1. */
function copyAddress(
  program: Assembler,
  sockets: IpFamily,
  family: IpFamily,
  [base, offset]: Place,
): void {
  const at = Stack.socketAddress;
  if (sockets === "ipv4") {
    program.store("word", stack, at, AF_INET).load("word", r1, base, offset + 12)
      .store("word", stack, at + 4, r1).store("double", stack, at + 8, 0);
    return;
  }
  program.store("double", stack, at, AF_INET6).store("word", stack, at + 24, 0);
  if (family === "ipv4") {
    program.load("word", r1, base, offset + 12).store("word", stack, at + 20, r1)
      .store("double", stack, at + 8, 0).store("word", stack, at + 16, MAPPED_WORD);
    return;
  }
  putWords(program, at + 8, base, offset);
}
