/**
 * The program that decides about incoming TCP connections: it runs where the kernel looks for the
 * listener of a SYN in the pod's network namespace. No address is translated.
 */
import { Assembler, Helper, r0, r1, r2, r3, r6, r7, r8, stack } from "./assembler.ts";
import type { Families } from "./connect_program.ts";
import { AF_INET, AF_INET6, LISTENER_SLOTS, MapName, SocketLookup, Stack, TCP } from "./layout.ts";
import { count, lookUp, putMapped, putWords } from "./parts.ts";
import { PORT, type Target, writeRules } from "./rule_code.ts";

const PASS = 1;
const DROP = 0;

/**
 * Writes the program.
 *
 * @returns the program, and the listener's port of each family that the rules redirect
 */
export function lookupProgram({ ipv4, ipv6 }: Families): {
  readonly program: Assembler;
  readonly inbound4?: number | undefined;
  readonly inbound6?: number | undefined;
} {
  const program = new Assembler().move(r6, r1)
    .load("word", r1, r6, SocketLookup.protocol).jumpIf32(r1, "!=", TCP, "pass")
    .load("word", PORT, r6, SocketLookup.localPort)
    .load("word", r1, r6, SocketLookup.family).jumpIf32(r1, "==", AF_INET6, "ipv6")
    .jumpIf32(r1, "!=", AF_INET, "pass");
  const write = (family: NonNullable<typeof ipv4>): Target | undefined =>
    writeRules(program, { family, hook: "PREROUTING", protocol: "tcp", accept: "pass" })[0];

  let target4: Target | undefined;
  if (ipv4 !== undefined) {
    // What the pod sends to itself was decided about when it was sent.
    for (const end of [SocketLookup.remoteIp4, SocketLookup.localIp4]) {
      program.load("word", r2, r6, end).move32(r1, r2).and32(r1, 0xff)
        .jumpIf32(r1, "==", 127, "pass");
    }
    program.load("word", r2, r6, SocketLookup.remoteIp4);
    putMapped(program, Stack.source, r2);
    lookUp(program, MapName.addresses, Stack.source);
    program.jumpIf(r0, "!=", 0, "pass");
    target4 = write(ipv4);
  } else program.jump("pass");

  program.label("ipv6");
  let target6: Target | undefined;
  if (ipv6 !== undefined) {
    putWords(program, Stack.source, r6, SocketLookup.remoteIp6);
    lookUp(program, MapName.addresses, Stack.source);
    program.jumpIf(r0, "!=", 0, "pass");
    target6 = write(ipv6);
  } else program.jump("pass");

  if (target4 !== undefined) {
    program.label(target4.label);
    // A listener of both families is an IPv6 socket.
    const slots = target6?.port === target4.port ? 2 * LISTENER_SLOTS : LISTENER_SLOTS;
    assignListener(program, 0, slots);
  }
  if (target6 !== undefined) {
    program.label(target6.label);
    assignListener(program, LISTENER_SLOTS, 2 * LISTENER_SLOTS);
  }
  program.label("refuse").remark("the sidecar does not listen: never to the application instead");
  if (program.reachable) count(program, "refused");
  program.exit(DROP).label("assigned");
  if (program.reachable) count(program, "inbound");
  program.label("pass").exit(PASS);
  return { program, inbound4: target4?.port, inbound6: target6?.port };
}

function assignListener(program: Assembler, first: number, end: number): void {
  for (let slot = first; slot < end; slot++) {
    const next = program.freshLabel("next_slot");
    program.store("word", stack, Stack.key, slot);
    lookUp(program, MapName.listeners, Stack.key);
    program.jumpIf(r0, "==", 0, next).move(r7, r0).move(r1, r6).move(r2, r7).move(r3, 0)
      .call(Helper.socketAssign).move(r8, r0).move(r1, r7).call(Helper.socketRelease)
      .jumpIf(r8, "==", 0, "assigned").label(next);
  }
  program.jump("refuse");
}
