import assert from "node:assert/strict";
import fc from "fast-check";
import { planTables } from "../src/engine/nftables/plan.ts";
import {
  CONFIG_ANNOTATION,
  ConfigError,
  redirectConfigOf,
  type RedirectConfigOptions,
} from "../src/pod/redirect_config.ts";
import { MAX_UID } from "../src/pod/scalars.ts";
import { parseUidExclusions } from "../src/pod/uid_exclusions.ts";
import { parseCidr } from "../src/ip/cidr.ts";
import { formatAddress, parseAddress } from "../src/ip/address.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { describeRules } from "../src/redirect/describe.ts";
import { evaluate, type Packet } from "../src/redirect/evaluate.ts";
import { explainPacket } from "../src/redirect/explain.ts";
import { restoreText, saveText } from "../src/redirect/iptables_text.ts";
import { nftText } from "../src/redirect/nft_text.ts";
import type { NamespaceFacts } from "../src/redirect/ruleset.ts";

const options: RedirectConfigOptions = {
  allowPodSettings: new Set(["kumaDPUser", "redirect.outbound.enabled"]),
  resolvers: ["10.96.0.10", "fd00:10:96::a", "127.0.0.11"],
};

/** Texts that could break out of an annotation, a YAML document, a restore file or a script. */
const hostile = fc.oneof(
  fc.string({ unit: "binary", maxLength: 30 }),
  fc.array(
    fc.constantFrom(
      ..."0123456789,;:-/+*!&|{}[]#'\"%@`\\ \n\t",
      "tcp",
      "udp",
      "true",
      "10.0.0.1",
      "fd00::1",
      "-A OUTPUT -j ACCEPT",
      "$(id)",
      "__proto__",
      "null",
      "65535",
      "4294967294",
    ),
    { maxLength: 12 },
  ).map((parts) => parts.join("")),
);

const port = fc.integer({ min: 1, max: 65535 });
const ports = fc.array(port, { maxLength: 8 });
const cidr = fc.oneof(
  fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 32 })),
  fc.tuple(fc.ipV6(), fc.integer({ min: 96, max: 128 })),
).map(([address, prefix]) => `${address}/${prefix}`);
const range = (max: number) =>
  fc.tuple(fc.integer({ min: 1, max }), fc.integer({ min: 1, max }))
    .map((pair) => pair.sort((a, b) => a - b).join("-"));
const uidExclusion = fc.tuple(
  fc.constantFrom("", "*", "tcp", "udp", "udp,tcp"),
  fc.oneof(fc.constantFrom("", "*"), fc.array(range(65535), { minLength: 1, maxLength: 12 })),
  fc.oneof(fc.integer({ min: 0, max: MAX_UID }).map(String), range(MAX_UID)),
).map((parts) => parts.join(":"));
const direction = fc.record({
  enabled: fc.boolean(),
  includePorts: fc.oneof(fc.constant([]), ports),
  excludePorts: ports,
  excludePortsForIPs: fc.array(cidr, { maxLength: 4 }),
  excludePortsForUIDs: fc.array(uidExclusion, { maxLength: 4 }),
  insertRedirectInsteadOfAppend: fc.boolean(),
}, { requiredKeys: [] });

/** Documents that are right. */
const document = fc.record({
  kumaDPUser: fc.integer({ min: 0, max: MAX_UID }),
  ipFamilyMode: fc.constantFrom("", "dualstack", "ipv4", "ipv6", "IPv4"),
  redirect: fc.record({
    inbound: direction,
    outbound: direction,
    dns: fc.record({
      enabled: fc.boolean(),
      captureAll: fc.boolean(),
      skipConntrackZoneSplit: fc.boolean(),
    }, { requiredKeys: [] }),
    vnet: fc.record({
      networks: fc.uniqueArray(
        fc.tuple(fc.constantFrom("eth7", "cni+", "a", "tap.1", "b-c+"), cidr)
          .map((parts) => parts.join(":")),
        { selector: (text) => text.split(":")[0]!, maxLength: 3 },
      ),
    }),
  }, { requiredKeys: [] }),
  dropInvalidPackets: fc.boolean(),
  log: fc.record({ enabled: fc.boolean(), level: fc.nat(9) }),
  comments: fc.record({ disabled: fc.boolean() }),
}, { requiredKeys: [] });

const facts: fc.Arbitrary<NamespaceFacts> = fc.record({
  loopback: fc.constantFrom("lo", "lo0", "l'o"),
  ipv6: fc.boolean(),
  dockerOutput: fc.record({ ipv4: fc.boolean(), ipv6: fc.boolean() }),
  conntrackZones: fc.boolean(),
});

const packet: fc.Arbitrary<Packet> = fc.constantFrom("ipv4" as const, "ipv6" as const).chain(
  (family): fc.Arbitrary<Packet> => {
    const address = family === "ipv4"
      ? fc.oneof(fc.ipV4(), fc.constantFrom("127.0.0.1", "127.0.0.6", "10.96.0.10"))
      : fc.oneof(fc.ipV6(), fc.constantFrom("::1", "::6", "fd00:10:96::a"));
    return fc.record({
      family: fc.constant(family),
      direction: fc.constantFrom("outbound" as const, "inbound" as const),
      protocol: fc.constantFrom("tcp", "udp", "icmp"),
      source: address,
      destination: address,
      sourcePort: fc.oneof(port, fc.constantFrom(53, 15053)),
      destinationPort: fc.oneof(port, fc.constantFrom(53, 80, 15001)),
      uid: fc.oneof(fc.nat(), fc.constantFrom(5678, 0)),
      conntrackState: fc.constantFrom("new" as const, "established" as const, "invalid" as const),
    }, { requiredKeys: ["family", "direction", "protocol", "source", "destination"] });
  },
);

Deno.test("annotations of any text are read or refused with a ConfigError", () => {
  const names = [
    CONFIG_ANNOTATION,
    "kuma.io/sidecar-uid",
    "kuma.io/transparent-proxying-inbound-port",
    "kuma.io/transparent-proxying-outbound-port",
    "kuma.io/transparent-proxying-inbound-v6-port",
    "kuma.io/transparent-proxying-ip-family-mode",
    "kuma.io/gateway",
    "kuma.io/builtin-dns",
    "kuma.io/builtin-dns-port",
    "kuma.io/application-probe-proxy-port",
    "traffic.kuma.io/exclude-inbound-ports",
    "traffic.kuma.io/exclude-outbound-ports",
    "traffic.kuma.io/exclude-inbound-ips",
    "traffic.kuma.io/exclude-outbound-ips",
    "traffic.kuma.io/exclude-outbound-ports-for-uids",
    "traffic.kuma.io/drop-invalid-packets",
    "traffic.kuma.io/iptables-logs",
  ];
  let read = 0;
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom(...names), hostile, { maxKeys: 3 }),
      facts,
      (annotations, facts) => {
        let result;
        try {
          result = redirectConfigOf(annotations, options);
        } catch (error) {
          assert.ok(error instanceof ConfigError, `${error}`);
          assert.ok(!/[\n\r]/.test(error.message) && error.message.length < 1000, error.message);
          return;
        }
        read++;
        check(result, facts);
      },
    ),
    { numRuns: 2000 },
  );
  assert.ok(read > 50, `only ${read} were read`);
});

Deno.test("values of any kind at any place of the document are read or refused", () => {
  const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), hostile);
  const section = fc.dictionary(
    fc.constantFrom(
      "enabled",
      "PORT",
      "includePorts",
      "excludePorts",
      "excludePortsForIPs",
      "excludePortsForUIDs",
      "captureAll",
      "resolvConfigPath",
      "networks",
      "__proto__",
    ),
    value,
    { maxKeys: 3 },
  );
  const any = fc.record({
    kumaDPUser: value,
    ipFamilyMode: value,
    redirect: fc.oneof(
      value,
      fc.record({ inbound: section, outbound: section, dns: section, vnet: section }, {
        requiredKeys: [],
      }),
    ),
    log: value,
    comments: value,
    retry: value,
    iptablesExecutables: value,
    ebpf: value,
    wait: value,
  }, { requiredKeys: [] });
  fc.assert(
    fc.property(any, facts, (document, facts) => {
      let result;
      try {
        result = redirectConfigOf({ [CONFIG_ANNOTATION]: JSON.stringify(document) }, options);
      } catch (error) {
        assert.ok(error instanceof ConfigError, `${error}`);
        return;
      }
      check(result, facts);
    }),
    { numRuns: 1000 },
  );
});

Deno.test("right documents compile, and every packet has an end", () => {
  fc.assert(
    fc.property(document, facts, packet, (document, facts, packet) => {
      const result = redirectConfigOf({ [CONFIG_ANNOTATION]: JSON.stringify(document) }, options);
      const ruleset = check(result, facts);
      const evaluation = evaluate(ruleset, packet, facts.loopback);
      assert.match(explainPacket(packet, evaluation, result.config), /ends at|goes direct|dropped/);
      const { steps, verdict } = evaluation;
      if (verdict.kind === "redirect") {
        assert.equal(steps.at(-1)?.rule.verdict.kind, "redirect");
        assert.ok(packet.conntrackState === "new" || packet.conntrackState === undefined);
      }
      // The sidecar's own calls must never come back to its outbound listener.
      const sidecar = packet.uid === result.config.sidecarUid && packet.direction === "outbound";
      if (sidecar && packet.protocol === "tcp" && verdict.kind === "redirect") {
        assert.notEqual(verdict.port, result.config.outbound.port);
      }
    }),
    { numRuns: 1500 },
  );
});

/** What holds for every configuration that was accepted. */
function check(result: ReturnType<typeof redirectConfigOf>, facts: NamespaceFacts) {
  const { config, origins, warnings } = result;
  const ruleset = compileRuleset(config, facts);
  for (const family of ruleset.families) {
    const rules = family.tables.flatMap(({ chains }) => chains.flatMap(({ rules }) => rules));
    for (const rule of rules) {
      if (rule.id === "O2") {
        assert.ok(rule.matches.some(({ kind }) => kind === "owner"), "exclusion of everyone");
      }
      assert.match(rule.comment, /^[ -!#-~]{1,200}$/);
    }
    const count = rules.length;
    for (const text of [saveText(family, { comments: true }), restoreText(family)]) {
      const lines = text.split("\n").filter((line) => /^-[AI] /.test(line));
      assert.equal(lines.length, count, "a rule is one line");
      for (const line of text.trimEnd().split("\n")) {
        assert.match(line, /^(\*(raw|nat|mangle)|:[A-Z_]+ (ACCEPT|-) \[0:0\]|-[AIN] .*|COMMIT)$/);
      }
    }
  }
  const script = nftText(planTables(ruleset, "inet"), { comments: true });
  for (const line of script.trimEnd().split("\n")) {
    assert.match(line, /^(table \w+ kuma_mesh \{| {2}chain \w+ \{| {4}[a-z].*| {2}\}|\})$/);
    assert.equal((line.match(/"/g) ?? []).length % 2, 0, line);
  }
  assert.ok(describeRules({ title: "x", config, origins, warnings, ruleset }).length > 100);
  return ruleset;
}

Deno.test("UID exclusions always name UIDs", () => {
  fc.assert(
    fc.property(fc.array(hostile, { maxLength: 3 }), (entries) => {
      let exclusions;
      try {
        exclusions = parseUidExclusions(entries, "x");
      } catch (error) {
        assert.ok(error instanceof ConfigError);
        return;
      }
      for (const { ports, uids } of exclusions) {
        assert.ok(uids.from >= 0 && uids.from <= uids.to && uids.to <= MAX_UID);
        assert.ok(ports.length > 0);
        for (const { from, to } of ports) assert.ok(1 <= from && from <= to && to <= 65535);
      }
    }),
    { numRuns: 3000 },
  );
});

Deno.test("an address survives being written and read again", () => {
  fc.assert(fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
    const address = parseAddress(text);
    assert.ok(address, text);
    const canonical = formatAddress(address.bytes);
    assert.deepEqual(parseAddress(canonical), address);
    assert.equal(formatAddress(parseAddress(canonical)!.bytes), canonical);
  }));
  fc.assert(fc.property(cidr, (text) => {
    const network = parseCidr(text);
    assert.ok(network, text);
    assert.deepEqual(parseCidr(`${network.address}/${network.prefix}`), network);
  }));
});
