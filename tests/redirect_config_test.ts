import assert from "node:assert/strict";
import {
  CONFIG_ANNOTATION,
  ConfigError,
  redirectConfigOf,
  type RedirectConfigOptions,
  type RedirectConfigResult,
} from "../src/pod/redirect_config.ts";
import type { RedirectConfig } from "../src/redirect/config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { readVectors, vectorConfig } from "./support/vectors.ts";

const nobody: RedirectConfigOptions = { allowPodSettings: new Set(), resolvers: [] };

function fromConfig(text: string, options = nobody): RedirectConfigResult {
  return redirectConfigOf({ [CONFIG_ANNOTATION]: text }, options);
}

function failure(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof ConfigError, `not a ConfigError: ${error}`);
    assert.match(error.message, /^[^\n]{20,600}[^.\n]$/);
    return error.message;
  }
  assert.fail("nothing was thrown");
}

Deno.test("the annotations of every vector give its configuration, in both forms", () => {
  for (const vector of readVectors()) {
    for (const rulesVersion of ["2.9", "3"] as const) {
      const options: RedirectConfigOptions = {
        rulesVersion,
        allowPodSettings: new Set(["redirect.outbound.enabled"]),
        resolvers: vector.resolvers,
      };
      const annotations = vector.annotations ??
        { [CONFIG_ANNOTATION]: JSON.stringify(vector.transparentProxyConfig) };
      const { config, warnings } = redirectConfigOf(annotations, options);
      assert.deepEqual(config, vectorConfig(vector, rulesVersion), vector.name);
      assert.deepEqual(warnings, [], vector.name);
    }
  }
});

Deno.test("a pod without settings gets the legacy defaults", () => {
  const { config, origins } = redirectConfigOf({}, nobody);
  assert.deepEqual(config, {
    ...defaultRedirectConfig,
    rulesVersion: "2.9",
    inbound: { ...defaultRedirectConfig.inbound, excludePorts: [9901] },
    outbound: { ...defaultRedirectConfig.outbound, excludePorts: [9901] },
    dns: { ...defaultRedirectConfig.dns, captureAll: true },
  });
  assert.deepEqual(
    [...origins].filter(([, origin]) => origin !== "default"),
    [["rulesVersion", "the kind of annotation"]],
  );
});

Deno.test("an injected value of a Kuma 3 control plane is read without a warning", () => {
  const { config, warnings, origins } = fromConfig(`
cniMode: true
ipFamilyMode: dualstack
kumaDPUser: "5678"
redirect:
  dns:
    captureAll: true
    enabled: true
    port: 15053
    resolvConfigPath: /etc/resolv.conf
    skipConntrackZoneSplit: false
  inbound:
    enabled: true
    excludePorts: [9001, 9902]
    port: 15006
  outbound:
    enabled: true
    port: 15001
retry:
  maxRetries: 4
  sleepBetweenRetries: 2s
wait: 5
waitInterval: 0
`);
  assert.deepEqual(warnings, []);
  assert.deepEqual(config, vectorConfig(readVectors()[2]!, "3"));
  assert.equal(
    origins.get("redirect.inbound.excludePorts"),
    `${CONFIG_ANNOTATION}: redirect.inbound.excludePorts`,
  );
  assert.equal(origins.get("redirect.outbound.excludePorts"), "default");
});

type Change = (config: RedirectConfig) => unknown;

const good: [name: string, annotations: Record<string, string>, pick: Change, wanted: unknown][] = [
  [
    "the config annotation is the only source",
    { [CONFIG_ANNOTATION]: "{}", "kuma.io/sidecar-uid": "7", "kuma.io/gateway": "true" },
    (c) => c,
    defaultRedirectConfig,
  ],
  [
    "an empty config annotation does not count",
    { [CONFIG_ANNOTATION]: "", "kuma.io/sidecar-uid": "7" },
    (c) => c.sidecarUid,
    7,
  ],
  [
    "Kuma 2.9 and 2.10 write both kinds",
    { [CONFIG_ANNOTATION]: "{}", "kuma.io/transparent-proxying": "enabled" },
    (c) => c.rulesVersion,
    "2.9",
  ],
  ["a text of blanks is a document of defaults", { [CONFIG_ANNOTATION]: " \n# nothing\n" }, (
    c,
  ) => c, defaultRedirectConfig],
  [
    "null keeps the default",
    {
      [CONFIG_ANNOTATION]: "redirect: {dns: null, inbound: {port: ~, excludePorts: null}}",
    },
    (c) => c,
    defaultRedirectConfig,
  ],
  [
    "keys in any case, YAML 1.1 truth, numbers as text",
    {
      [CONFIG_ANNOTATION]:
        `KUMADPUSER: 1001\nRedirect: {DNS: {ENABLED: yes, captureall: "on", Port: "25053"}}`,
    },
    (c) => [c.sidecarUid, c.dns.enabled, c.dns.captureAll, c.dns.port],
    [1001, true, true, 25053],
  ],
  [
    "JSON",
    {
      [CONFIG_ANNOTATION]: `{\n\t"redirect": {"inbound": {"excludePorts": "80, 81 ,,82,"}}}`,
    },
    (c) => c.inbound.excludePorts,
    [80, 81, 82],
  ],
  [
    "a single port, and ports once each",
    { [CONFIG_ANNOTATION]: "redirect: {inbound: {includePorts: 8080, excludePorts: [1, '1,2']}}" },
    (c) => [c.inbound.includePorts, c.inbound.excludePorts],
    [[8080], [1, 2]],
  ],
  [
    "DNS port 0 when DNS is off",
    { [CONFIG_ANNOTATION]: "redirect: {dns: {port: 0}}" },
    (c) => c.dns.port,
    15053,
  ],
  [
    "family mode in any case",
    { [CONFIG_ANNOTATION]: "ipFamilyMode: IPv4" },
    (c) => c.ipFamilyMode,
    "ipv4",
  ],
  [
    "empty user means the default",
    { [CONFIG_ANNOTATION]: 'kumaDPUser: ""' },
    (c) => c.sidecarUid,
    5678,
  ],
  [
    "UIDs up to 2^32-2",
    {
      [CONFIG_ANNOTATION]:
        "kumaDPUser: 4294967294\nredirect: {outbound: {excludePortsForUIDs: ['1000660000-4294967294']}}",
    },
    (c) => [c.sidecarUid, c.outbound.excludeUids.map((e) => e.uids)],
    [4294967294, [
      { from: 1000660000, to: 4294967294 },
      { from: 1000660000, to: 4294967294 },
    ]],
  ],
  [
    "an anchor used twice",
    {
      [CONFIG_ANNOTATION]:
        "redirect: {inbound: {excludePorts: &p [1, 2]}, outbound: {excludePorts: *p}}",
    },
    (c) => c.outbound.excludePorts,
    [1, 2],
  ],
  [
    "log level is bounded",
    { [CONFIG_ANNOTATION]: "log: {enabled: true, level: 65535}" },
    (c) => c.log,
    { enabled: true, level: 7 },
  ],
  ["comments", { [CONFIG_ANNOTATION]: "comments: {disabled: true}" }, (c) => c.comments, false],
  [
    "a port list with blanks",
    { "traffic.kuma.io/exclude-inbound-ports": " 8080, 9090 ,," },
    (c) => c.inbound.excludePorts,
    [8080, 9090],
  ],
  [
    "a probe proxy of Kuma 2.9 and later",
    { "kuma.io/application-probe-proxy-port": "9001" },
    (c) => c.inbound.excludePorts,
    [9901, 9001],
  ],
  [
    "Kuma 2.7 and 2.8 have no probe proxy",
    { "kuma.io/transparent-proxying": "enabled", "kuma.io/virtual-probes-port": "9000" },
    (c) => c.inbound.excludePorts,
    [9901],
  ],
  [
    "the config annotation holds the probe proxy's port itself",
    { [CONFIG_ANNOTATION]: "{}", "kuma.io/application-probe-proxy-port": "9001" },
    (c) => c.inbound.excludePorts,
    [],
  ],
  [
    "empty port lists",
    {
      "traffic.kuma.io/exclude-inbound-ports": "",
      "traffic.kuma.io/exclude-outbound-ports": " ",
      "kuma.io/application-probe-proxy-port": "0",
    },
    (c) => [c.inbound.excludePorts, c.outbound.excludePorts],
    [[], []],
  ],
  [
    "the probe port follows",
    {
      "traffic.kuma.io/exclude-inbound-ports": "3355",
      "kuma.io/application-probe-proxy-port": "19988",
    },
    (c) => c.inbound.excludePorts,
    [3355, 19988],
  ],
  [
    "port 0 in a list",
    { "traffic.kuma.io/exclude-outbound-ports": "0,1" },
    (c) => c.outbound.excludePorts,
    [1],
  ],
  [
    "IP lists",
    {
      "traffic.kuma.io/exclude-inbound-ips": "10.1.2.3, 192.168.50.7/24,2001:DB8::1/32,",
      "traffic.kuma.io/exclude-outbound-ips": "",
    },
    (c) => [c.inbound.excludeIps, c.outbound.excludeIps],
    [[
      { family: "ipv4", address: "10.1.2.3", prefix: 32 },
      { family: "ipv4", address: "192.168.50.0", prefix: 24 },
      { family: "ipv6", address: "2001:db8::", prefix: 32 },
    ], []],
  ],
  [
    "booleans that the injector takes",
    {
      "kuma.io/gateway": "Yes",
      "traffic.kuma.io/drop-invalid-packets": "no",
      "traffic.kuma.io/iptables-logs": " ",
    },
    (c) => [c.inbound.enabled, c.dropInvalidPackets, c.log.enabled],
    [false, false, false],
  ],
  [
    "UID exclusions with a trailing separator",
    {
      "traffic.kuma.io/exclude-outbound-ports-for-uids": "TCP : 80, 443-450 : 5 - 6 ; ;",
    },
    (c) => c.outbound.excludeUids,
    [{
      protocol: "tcp",
      ports: [{ from: 80, to: 80 }, { from: 443, to: 450 }],
      uids: { from: 5, to: 6 },
    }],
  ],
  [
    "ports 0-65535 of UID 0",
    {
      "traffic.kuma.io/exclude-outbound-ports-for-uids": "udp:0-65535:0",
    },
    (c) => c.outbound.excludeUids,
    [{
      protocol: "udp",
      ports: [{ from: 1, to: 65535 }],
      uids: { from: 0, to: 0 },
    }],
  ],
  [
    "Kuma 2.8: IPv6 off",
    { "kuma.io/transparent-proxying-inbound-v6-port": "0" },
    (c) => c.ipFamilyMode,
    "ipv4",
  ],
  [
    "Kuma 2.8: the mode counts more than port 0",
    {
      "kuma.io/transparent-proxying-inbound-v6-port": "0",
      "kuma.io/transparent-proxying-ip-family-mode": "dualstack",
    },
    (c) => [c.ipFamilyMode, c.inbound.ipv6Port],
    ["dualstack", undefined],
  ],
  [
    "Kuma 2.8: the unused IPv6 port",
    {
      "kuma.io/transparent-proxying-inbound-v6-port": "15010",
    },
    (c) => c.inbound.ipv6Port,
    undefined,
  ],
  [
    "Kuma 2.8: an IPv6 port",
    { "kuma.io/transparent-proxying-inbound-v6-port": "15016" },
    (c) => c.inbound.ipv6Port,
    15016,
  ],
  [
    "Kuma 2.9: an old IPv6 port",
    {
      "kuma.io/transparent-proxying-inbound-v6-port": "15016",
      "kuma.io/application-probe-proxy-port": "9001",
    },
    (c) => c.inbound.ipv6Port,
    undefined,
  ],
  [
    "mode ipv6",
    { "kuma.io/transparent-proxying-ip-family-mode": "ipv6" },
    (c) => c.ipFamilyMode,
    "ipv6",
  ],
];

for (const [name, annotations, pick, wanted] of good) {
  Deno.test(`pod settings: ${name}`, () => {
    assert.deepEqual(pick(redirectConfigOf(annotations, nobody).config), wanted);
  });
}

const config = (text: string) => ({ [CONFIG_ANNOTATION]: text });
const outboundUids = (text: string) => ({
  "traffic.kuma.io/exclude-outbound-ports-for-uids": text,
});

const bad: [annotations: Record<string, string>, message: RegExp][] = [
  [config("["), /cannot be parsed as YAML or JSON/],
  [config("a: 1\na: 2"), /duplicated key/],
  [config("redirect: {dns: {enabled: true, Enabled: false}}"), /"Enabled" twice/],
  [config("a: !!js/function x"), /tag/],
  [config("- 1"), /is a list where a mapping is expected/],
  [config("just text"), /is "just text" where a mapping is expected/],
  [config("redirect: [1]"), /redirect is a list where a mapping/],
  [config("redirect: {inbound: {port: 0}}"), /inbound\.port is 0 where a whole number 1-65535/],
  [config("redirect: {inbound: {port: 65536}}"), /inbound\.port is 65536/],
  [config("redirect: {inbound: {port: 1.5}}"), /inbound\.port is 1\.5/],
  [config("redirect: {inbound: {port: .nan}}"), /inbound\.port is NaN/],
  [config("redirect: {inbound: {port: [1]}}"), /inbound\.port is a list/],
  [config("redirect: {dns: {enabled: true, port: 0}}"), /dns\.port is 0/],
  [config("redirect: {dns: {enabled: maybe}}"), /dns\.enabled is "maybe" where "true" or "false"/],
  [config("redirect: {inbound: {excludePorts: [0]}}"), /"0" where a port 1-65535 is expected/],
  [config("redirect: {inbound: {excludePorts: [[1]]}}"), /is a list where a list of texts/],
  [config("redirect: {inbound: {excludePorts: &p [*p]}}"), /is a list where a list of texts/],
  [config("redirect: {inbound: {excludePorts: [1-2]}}"), /"1-2" where a port/],
  [config("redirect: {inbound: {excludePortsForIPs: [10.0.0.0/33]}}"), /"10\.0\.0\.0\/33"/],
  [config("redirect: {inbound: {excludePortsForIPs: [010.0.0.1]}}"), /"010\.0\.0\.1"/],
  [config("redirect: {inbound: {excludePortsForIPs: ['fe80::1%eth0']}}"), /"fe80::1%eth0"/],
  [config("redirect: {inbound: {port: 15001}}"), /outbound and the inbound port .* both 15001/],
  [config("redirect: {dns: {enabled: true, port: 15006}}"), /inbound and the DNS port/],
  [config("redirect: {outbound: {enabled: false}}"), /leave the mesh; an administrator can/],
  [config("kumaDPUser: kuma-dp"), /"kuma-dp" where a numeric UID/],
  [config("kumaDPUser: 4294967295"), /"4294967295" where a numeric UID/],
  [config("kumaDPUser: 0"), /no traffic of root would be redirected; an administrator can/],
  [config("kumaDPUser: '-1'"), /"-1" where a numeric UID/],
  [config("ipFamilyMode: both"), /"both" where "dualstack", "ipv4" or "ipv6"/],
  [config("redirect: {vnet: {networks: [eth7]}}"), /"eth7" where "interface:network"/],
  [config("redirect: {vnet: {networks: ['+:10.0.0.0/8']}}"), /"\+:10/],
  [config(`redirect: {vnet: {networks: ['a"b:10.0.0.0/8']}}`), /where "interface:network"/],
  [config("redirect: {vnet: {networks: [abcdefghijklmnop:10.0.0.0/8]}}"), /abcdefghijklmnop/],
  [config("redirect: {vnet: {networks: [e:10.0.0.0/8, e:11.0.0.0/8]}}"), /"e" twice/],
  [config("x".repeat(65537)), /65537 characters long, more than 65536/],
  [config("[".repeat(60000)), /more than 32 levels deep/],
  [config("- ".repeat(30000)), /more than 32 levels deep/],
  [config(`redirect: {inbound: {excludePorts: [${"1,".repeat(501)}]}}`), /501 entries/],
  [outboundUids("tcp:80:"), /"tcp:80:", which names no UID and so would exclude everyone/],
  [outboundUids(":"), /names no UID/],
  [outboundUids("1:2:3:4"), /more than three parts/],
  [outboundUids("sctp:80:1"), /protocol is not/],
  [outboundUids("tcp,:80:*"), /UIDs are not one number or range/],
  [outboundUids("1,2"), /UIDs are not one number or range/],
  [outboundUids("4294967295"), /UIDs are not one number or range/],
  [outboundUids("90-80:1"), /ports are not within/],
  [outboundUids("0:1"), /ports are not within/],
  [outboundUids("1-2-3:1"), /ports are not within/],
  [outboundUids(",:1"), /names no port/],
  [outboundUids("5-4"), /UIDs are not one number or range/],
  [{ "kuma.io/sidecar-uid": "5678\n-A OUTPUT -j ACCEPT" }, /"5678\\n-A OUTPUT -j ACCEPT" where/],
  [{ "kuma.io/sidecar-uid": "0" }, /no traffic of root/],
  [{ "kuma.io/transparent-proxying-inbound-port": "15006,15007" }, /"15006,15007" where a port/],
  [{ "kuma.io/transparent-proxying-outbound-port": "0" }, /"0" where a port/],
  [{ "kuma.io/transparent-proxying-ip-family-mode": "ip4" }, /"ip4" where "dualstack"/],
  [{ "kuma.io/gateway": "perhaps" }, /Annotation "kuma.io\/gateway" is "perhaps" where "enabled"/],
  [{ "kuma.io/builtin-dns": "true", "kuma.io/builtin-dns-port": "0" }, /"0" where a port/],
  [{ "traffic.kuma.io/exclude-inbound-ports": "80;81" }, /"80;81" where a port/],
  [{ "traffic.kuma.io/exclude-inbound-ips": "10.0.0.0/8/8" }, /where an IP address or a network/],
  [{ "traffic.kuma.io/exclude-inbound-ports": "1".repeat(70000) }, /70000 characters long/],
  [{ "kuma.io/application-probe-proxy-port": "9001,9002" }, /"9001,9002" where a port/],
];

Deno.test("what a pod may not or cannot state is refused with the setting, the value and the fix", () => {
  for (const [annotations, message] of bad) {
    assert.match(failure(() => redirectConfigOf(annotations, nobody)), message);
  }
});

Deno.test("an administrator can leave guarded settings to pods", () => {
  const options = {
    ...nobody,
    allowPodSettings: new Set(["kumaDPUser", "redirect.outbound.enabled"]),
  };
  const { config } = fromConfig("{kumaDPUser: 0, redirect: {outbound: {enabled: false}}}", options);
  assert.equal(config.sidecarUid, 0);
  assert.equal(config.outbound.enabled, false);
});

const ignored: [text: string, warning: RegExp][] = [
  ["dryRun: true", /dryRun has no effect/],
  ["iptablesExecutables: {iptables: /tmp/evil}", /iptablesExecutables has no effect/],
  ["redirect: {dns: {resolvConfigPath: /etc/shadow}}", /resolvConfigPath has no effect/],
  ["wait: 100000", /wait has no effect/],
  ["waitInterval: 100000", /waitInterval has no effect/],
  ["retry: {maxRetries: 100000}", /retry has no effect/],
  ["retry: nonsense", /retry has no effect/],
  ["storeFirewalld: true", /storeFirewalld has no effect/],
  ["redirect: {inbound: {excludePortsForUIDs: ['']}}", /a packet that comes in has no UID/],
  ["redirect: {inbound: {excludeports: [], port: 15006, prot: 1}}", /unknown keys.*"prot"/],
  ['{"__proto__": {"redirect": {"outbound": {"enabled": false}}}}', /unknown keys.*"__proto__"/],
  ["constructor: 1\nprototype: 2\ntoString: 3", /unknown keys.*"constructor","prototype"/],
  ["log: {level: 8}", /taken as 7/],
  ["ipFamilyMode: ipv6", /IPv4 traffic is not redirected/],
  ["redirect: {dns: {enabled: true}}", /is not redirected: captureAll is off/],
];

Deno.test("what is ignored or bounded leaves one warning and changes nothing else", () => {
  for (const [text, warning] of ignored) {
    const { config, warnings } = fromConfig(text);
    assert.equal(warnings.length, 1, text);
    assert.match(warnings[0]!, warning);
    const wanted = {
      ...defaultRedirectConfig,
      ipFamilyMode: config.ipFamilyMode,
      dns: { ...defaultRedirectConfig.dns, enabled: config.dns.enabled },
    };
    assert.deepEqual(config, wanted, text);
  }
});

Deno.test("cniMode, verbose and harmless host settings leave no warning", () => {
  const { config, warnings } = fromConfig(
    "{cniMode: false, verbose: true, dryRun: false, ebpf: {enabled: false, bpffsPath: /x}, " +
      "iptablesExecutables: {iptables: ''}, retry: {sleepBetweenRetries: 2000000000}}",
  );
  assert.deepEqual([config, warnings], [defaultRedirectConfig, []]);
});

Deno.test("resolvers of the runtime are used only without captureAll", () => {
  const options = {
    ...nobody,
    resolvers: ["10.96.0.10", "FD00::A", "10.96.0.10", "fe80::1%eth0", "x"],
  };
  const some = fromConfig("redirect: {dns: {enabled: true}}", options);
  assert.deepEqual(some.config.dns.servers, [
    { family: "ipv4", address: "10.96.0.10" },
    { family: "ipv6", address: "fd00::a" },
  ]);
  assert.equal(some.warnings.length, 1);
  assert.match(some.warnings[0]!, /"fe80::1%eth0","x" is not redirected/);
  const all = fromConfig("redirect: {dns: {enabled: true, captureAll: true}}", options);
  assert.deepEqual([all.config.dns.servers, all.warnings], [[], []]);
});

Deno.test("annotations inherited from a prototype do not count", () => {
  const annotations = Object.create({ "kuma.io/sidecar-uid": "7", [CONFIG_ANNOTATION]: "a" });
  assert.equal(redirectConfigOf(annotations, nobody).config.sidecarUid, 5678);
});

Deno.test("hostile YAML is refused or read in bounded time", () => {
  const lines = ["a: &a [x,x,x,x,x,x,x,x,x]"];
  for (let level = 1; level < 20; level++) {
    const [name, before] = [level, level - 1].map((n) => String.fromCharCode(97 + n));
    lines.push(`${name}: &${name} [${new Array(9).fill(`*${before}`)}]`);
  }
  lines.push("redirect: {inbound: {excludePorts: *t}}");
  const texts = [
    lines.join("\n"),
    "a".repeat(60000),
    `"${"\\u0041".repeat(10000)}"`,
    `{${Array.from({ length: 9000 }, (_, i) => `k${i}: 1`)}}`,
    "? ".repeat(15) + "x\n".repeat(10000),
    "a: |\n" + " \n".repeat(30000),
    "'".repeat(60000),
    "#\n".repeat(30000),
    "&a ".repeat(20000),
    "!a ".repeat(20000),
    " ".repeat(65000) + "a: 1",
    Array.from({ length: 300 }, (_, i) => " ".repeat(i) + "a:").join("\n"),
  ];
  for (const text of texts) {
    const start = performance.now();
    try {
      fromConfig(text);
    } catch (error) {
      assert.ok(error instanceof ConfigError, `${text.slice(0, 20)}: ${error}`);
    }
    const time = performance.now() - start;
    assert.ok(time < 1500, `${Math.round(time)} ms for ${JSON.stringify(text.slice(0, 30))}`);
  }
});
