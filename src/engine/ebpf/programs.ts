/** The programs of a ruleset: which there are, and where each is attached. */
import type { IpFamily } from "../../ip/address.ts";
import type { FamilyRuleset, Ruleset } from "../../redirect/ruleset.ts";
import type { Assembler } from "./assembler.ts";
import { originalDestinationProgram, peerNameProgram, receiveProgram } from "./answer_programs.ts";
import { connectProgram, type Families } from "./connect_program.ts";
import type { InboundWay } from "./interface.ts";
import { lookupProgram } from "./lookup_program.ts";
import { natRules } from "./rule_code.ts";
import { socketProgram } from "./socket_program.ts";

/** Where a program is attached, with the numbers of `linux/bpf.h`. */
export interface Hook {
  /** Name of the program in the kernel. */
  readonly name: string;
  readonly type: number;
  readonly attachType: number;
}

const ADDRESS = 18;

/** All places at a pod's cgroup that this engine ever uses. */
export const CGROUP_HOOKS = {
  connect4: { name: "kuma_connect4", type: ADDRESS, attachType: 10 },
  connect6: { name: "kuma_connect6", type: ADDRESS, attachType: 11 },
  sendmsg4: { name: "kuma_sendmsg4", type: ADDRESS, attachType: 14 },
  sendmsg6: { name: "kuma_sendmsg6", type: ADDRESS, attachType: 15 },
  recvmsg4: { name: "kuma_recvmsg4", type: ADDRESS, attachType: 19 },
  recvmsg6: { name: "kuma_recvmsg6", type: ADDRESS, attachType: 20 },
  peerName4: { name: "kuma_peername4", type: ADDRESS, attachType: 29 },
  peerName6: { name: "kuma_peername6", type: ADDRESS, attachType: 30 },
  sockets: { name: "kuma_sockets", type: 13, attachType: 3 },
  originalDestination: { name: "kuma_getsockopt", type: 25, attachType: 21 },
} as const satisfies Record<string, Hook>;

/** The place at a network namespace. */
export const LOOKUP_HOOK = { name: "kuma_sk_lookup", type: 30, attachType: 36 } as const;

/** Programs whose absence only shows a process another peer: kernels before 5.8 do not have them. */
export const OPTIONAL_HOOKS: ReadonlySet<Hook> = new Set([
  CGROUP_HOOKS.peerName4,
  CGROUP_HOOKS.peerName6,
]);

/** A program and its place. */
export interface PlannedProgram {
  readonly hook: Hook;
  readonly program: Assembler;
}

/** All programs of a ruleset. */
export interface ProgramPlan {
  readonly cgroup: readonly PlannedProgram[];
  /** For incoming connections; none when the rules redirect none, or nftables does it. */
  readonly lookup?: PlannedProgram;
}

/** Writes the programs. */
export function planPrograms(ruleset: Ruleset, inbound: InboundWay): ProgramPlan {
  if (ruleset.families.length === 0) return { cgroup: [] };
  const of = (family: IpFamily) => ruleset.families.find((one) => one.family === family);
  const families: Families = { ipv4: of("ipv4"), ipv6: of("ipv6") };
  // Where questions go, and applications' outgoing connections.
  const dns = portOf(ruleset.families, "O5");
  const outbound = portOf(ruleset.families, "D2") ?? 0;
  const { program: lookup, inbound4, inbound6 } = lookupProgram(families);
  const redirectsInbound = inbound4 !== undefined || inbound6 !== undefined;
  const lookedUp = inbound === "sk_lookup" && redirectsInbound;

  const cgroup: PlannedProgram[] = [];
  for (const sockets of ["ipv4", "ipv6"] as const) {
    // IPv6 sockets can speak IPv4, not the other way round.
    if (sockets === "ipv4" && families.ipv4 === undefined) continue;
    const four = sockets === "ipv4";
    const add = (hook: Hook, program: Assembler) => cgroup.push({ hook, program });
    const { connect4, connect6, sendmsg4, sendmsg6, recvmsg4, recvmsg6, peerName4, peerName6 } =
      CGROUP_HOOKS;
    add(four ? connect4 : connect6, connectProgram(families, { name: "connect", sockets }));
    if (dns !== undefined) {
      add(four ? sendmsg4 : sendmsg6, connectProgram(families, { name: "sendmsg", sockets }));
      add(four ? recvmsg4 : recvmsg6, receiveProgram(sockets, dns));
    }
    add(four ? peerName4 : peerName6, peerNameProgram(sockets));
  }
  const program = socketProgram({
    redirected: redirectedPorts(ruleset.families),
    ...(lookedUp ? { inbound4, inbound6 } : {}),
  });
  cgroup.push({ hook: CGROUP_HOOKS.sockets, program });
  cgroup.push({
    hook: CGROUP_HOOKS.originalDestination,
    program: originalDestinationProgram(outbound),
  });
  return lookedUp ? { cgroup, lookup: { hook: LOOKUP_HOOK, program: lookup } } : { cgroup };
}

function redirectedPorts(families: readonly FamilyRuleset[]): number[] {
  const ports = families.flatMap(natRules)
    .flatMap(({ verdict }) => verdict.kind === "redirect" ? verdict.port : []);
  return [...new Set(ports)];
}

/** Port to which a rule sends connections, when there is that rule. */
function portOf(families: readonly FamilyRuleset[], rule: string): number | undefined {
  const verdict = families.flatMap(natRules).find(({ id }) => id === rule)?.verdict;
  return verdict?.kind === "redirect" ? verdict.port : undefined;
}

/** All programs as text, each behind its name. */
export function listPrograms(ruleset: Ruleset): string {
  const { cgroup, lookup } = planPrograms(ruleset, "sk_lookup");
  return [...cgroup, ...lookup === undefined ? [] : [lookup]]
    .map(({ hook, program }) => `program ${hook.name}\n${program.listing()}`).join("\n");
}
