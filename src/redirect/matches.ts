/** Short constructors of rules and their parts, so that the compiler reads like the rule table. */
import type { Range } from "./config.ts";
import type { Cidr } from "../ip/cidr.ts";
import type { IpFamily } from "../ip/address.ts";
import type { Chain, Match, Rule, Verdict } from "./ruleset.ts";

/** Condition: TCP. */
export const tcp: Match = { kind: "protocol", protocol: "tcp" };

/** Condition: UDP. */
export const udp: Match = { kind: "protocol", protocol: "udp" };

/** Condition: to this port. */
export function toPort(port: number): Match {
  return {
    kind: "destination-port",
    ports: [{ from: port, to: port }],
    negated: false,
    multiport: false,
  };
}

/** Condition: to any other port than this one. */
export function notToPort(port: number): Match {
  return {
    kind: "destination-port",
    ports: [{ from: port, to: port }],
    negated: true,
    multiport: false,
  };
}

/** Condition: to one of these ports, in the form of iptables' `multiport` match. */
export function toPorts(ports: readonly Range[]): Match {
  return { kind: "destination-port", ports, negated: false, multiport: true };
}

/** Condition: from this port. */
export function fromPort(port: number): Match {
  return {
    kind: "source-port",
    ports: [{ from: port, to: port }],
    negated: false,
    multiport: false,
  };
}

/** Condition: from this network. */
export function from(cidr: Cidr): Match {
  return { kind: "source-address", cidr, negated: false };
}

/** Condition: to this network. */
export function to(cidr: Cidr): Match {
  return { kind: "destination-address", cidr, negated: false };
}

/** Condition: not to this network. */
export function notTo(cidr: Cidr): Match {
  return { kind: "destination-address", cidr, negated: true };
}

/** Condition: received on this interface; a trailing `+` matches every name with that beginning. */
export function receivedOn(name: string): Match {
  return { kind: "input-interface", name };
}

/** Condition: leaves by this interface. */
export function leavesBy(name: string): Match {
  return { kind: "output-interface", name };
}

/** Condition: the socket's owner is one of these UIDs. */
export function ownedBy(uids: Range): Match {
  return { kind: "owner", uids, negated: false };
}

/** Condition: the socket's owner is none of these UIDs, or there is no socket. */
export function notOwnedBy(uids: Range): Match {
  return { kind: "owner", uids, negated: true };
}

/** Verdict: leave the chain; in a built-in chain that means accept. */
export const leave: Verdict = { kind: "return" };

/** Verdict: go on in another chain. */
export function jump(chain: string): Verdict {
  return { kind: "jump", chain };
}

/** Verdict: send the connection to a port of this namespace. */
export function redirect(port: number): Verdict {
  return { kind: "redirect", port };
}

/** Verdict: track the packet in a conntrack zone of its own. */
export function zone(number: number): Verdict {
  return { kind: "conntrack-zone", zone: number };
}

/** The network that holds a single address. */
export function host(family: IpFamily, address: string): Cidr {
  return { family, address, prefix: family === "ipv4" ? 32 : 128 };
}

/** Makes a rule; `append` unless told otherwise. */
export function rule(
  id: string,
  comment: string,
  matches: readonly Match[],
  verdict: Verdict,
  placement: Rule["placement"] = "append",
): Rule {
  return { id, comment, matches, verdict, placement };
}

/** Makes a built-in chain from rules in the order of the table: inserted ones come first. */
export function baseChain(name: "PREROUTING" | "OUTPUT", rules: readonly Rule[]): Chain {
  return {
    name,
    base: true,
    rules: [
      ...rules.filter((rule) => rule.placement === "insert"),
      ...rules.filter((rule) => rule.placement === "append"),
    ],
  };
}
