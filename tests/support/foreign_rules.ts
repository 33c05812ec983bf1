/** Rules of other programs in a pod's nat table: as text for iptables and as what they do. */
import type { IpFamily } from "../../src/ip/address.ts";
import {
  baseChain,
  host,
  jump,
  leave,
  redirect,
  rule,
  tcp,
  to,
  toPort,
  udp,
} from "../../src/redirect/matches.ts";
import type { Table } from "../../src/redirect/ruleset.ts";
import { type TestBackend, tool, toolName } from "./iptables.ts";

/** Whose rules there are. */
export type Foreigner = "nobody" | "translator" | "docker";

/** Where the foreign rules send connections. */
export const FOREIGN_PORTS = { translator: 7070, dockerTcp: 24001, dockerUdp: 24002 };

/** Docker's resolver, as every container of a user-defined Docker network has it. */
export const DOCKER_RESOLVER = "127.0.0.11";

const FAMILIES: Readonly<Record<Foreigner, readonly IpFamily[]>> = {
  nobody: [],
  translator: ["ipv4", "ipv6"],
  docker: ["ipv4"],
};

const TEXT = {
  translator: `*nat
-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports ${FOREIGN_PORTS.translator}
-A PREROUTING -p tcp -m tcp --dport 8080 -j ACCEPT
-A OUTPUT -p tcp -m tcp --dport 80 -j ACCEPT
-A OUTPUT -p tcp -m tcp --dport 9001 -j REDIRECT --to-ports ${FOREIGN_PORTS.translator}
-A OUTPUT -p udp -m udp --dport 9001 -j REDIRECT --to-ports ${FOREIGN_PORTS.translator}
COMMIT
`,
  docker: `*nat
:DOCKER_OUTPUT - [0:0]
:DOCKER_POSTROUTING - [0:0]
-A OUTPUT -d ${DOCKER_RESOLVER}/32 -j DOCKER_OUTPUT
-A POSTROUTING -d ${DOCKER_RESOLVER}/32 -j DOCKER_POSTROUTING
-A DOCKER_OUTPUT -d ${DOCKER_RESOLVER}/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination ${DOCKER_RESOLVER}:${FOREIGN_PORTS.dockerTcp}
-A DOCKER_OUTPUT -d ${DOCKER_RESOLVER}/32 -p udp -m udp --dport 53 -j DNAT --to-destination ${DOCKER_RESOLVER}:${FOREIGN_PORTS.dockerUdp}
-A DOCKER_POSTROUTING -s ${DOCKER_RESOLVER}/32 -p tcp -m tcp --sport ${FOREIGN_PORTS.dockerTcp} -j SNAT --to-source :53
-A DOCKER_POSTROUTING -s ${DOCKER_RESOLVER}/32 -p udp -m udp --sport ${FOREIGN_PORTS.dockerUdp} -j SNAT --to-source :53
COMMIT
`,
};

/** Puts the rules into the calling thread's network namespace. */
export function installForeignRules(foreigner: Foreigner, backend: TestBackend): void {
  if (foreigner === "nobody") return;
  for (const family of FAMILIES[foreigner]) {
    tool(toolName(family, backend, "restore"), ["--noflush"], TEXT[foreigner]);
  }
}

/** The same rules for the evaluator; a translation of the destination is a redirection there. */
export function foreignNatTable(foreigner: Foreigner, family: IpFamily): Table | undefined {
  if (!FAMILIES[foreigner].includes(family)) return undefined;
  const foreign = (
    ...[matches, verdict]: [Parameters<typeof rule>[2], Parameters<typeof rule>[3]]
  ) => rule("foreign", "foreign", matches, verdict);
  if (foreigner === "translator") {
    const translated = redirect(FOREIGN_PORTS.translator);
    return {
      name: "nat",
      chains: [
        baseChain("PREROUTING", [
          foreign([tcp, toPort(80)], translated),
          foreign([tcp, toPort(8080)], leave),
        ]),
        baseChain("OUTPUT", [
          foreign([tcp, toPort(80)], leave),
          foreign([tcp, toPort(9001)], translated),
          foreign([udp, toPort(9001)], translated),
        ]),
      ],
    };
  }
  const resolver = to(host(family, DOCKER_RESOLVER));
  return {
    name: "nat",
    chains: [
      baseChain("PREROUTING", []),
      baseChain("OUTPUT", [foreign([resolver], jump("DOCKER_OUTPUT"))]),
      {
        name: "DOCKER_OUTPUT",
        base: false,
        rules: [
          foreign([resolver, tcp, toPort(53)], redirect(FOREIGN_PORTS.dockerTcp)),
          foreign([resolver, udp, toPort(53)], redirect(FOREIGN_PORTS.dockerUdp)),
        ],
      },
    ],
  };
}
