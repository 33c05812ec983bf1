/**
 * Values that the reference refuses or takes otherwise: each row of the table here stands in
 * `docs/differences.md`, under the same name, and holds in the code.
 */
import assert from "node:assert/strict";
import {
  CONFIG_ANNOTATION,
  ConfigError,
  redirectConfigOf,
  type RedirectConfigResult,
} from "../src/pod/redirect_config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";

type Pick = (result: RedirectConfigResult) => unknown;

/** An annotation's value, or the text of the config annotation, and what becomes of it. */
type Row = readonly [annotation: string | undefined, value: string, pick: Pick, expected: unknown];

const uids = "traffic.kuma.io/exclude-outbound-ports-for-uids";
const refused = Symbol("refused");

const table: Readonly<Record<string, readonly Row[]>> = {
  "blanks around a value": [
    ["kuma.io/sidecar-uid", " 5679 ", ({ config }) => config.sidecarUid, 5679],
    ["kuma.io/gateway", " true", ({ config }) => config.inbound.enabled, false],
    [
      "kuma.io/transparent-proxying-outbound-port",
      "15009 ",
      ({ config }) => config.outbound.port,
      15009,
    ],
    [
      "kuma.io/transparent-proxying-ip-family-mode",
      " ipv4 ",
      ({ config }) => config.ipFamilyMode,
      "ipv4",
    ],
    [undefined, 'kumaDPUser: " 5679 "', ({ config }) => config.sidecarUid, 5679],
  ],
  "leading zeros (`005678`)": [
    ["kuma.io/sidecar-uid", "005678", ({ config }) => config.sidecarUid, 5678],
    [undefined, 'kumaDPUser: "005678"', ({ config }) => config.sidecarUid, 5678],
    ["traffic.kuma.io/exclude-outbound-ports", "0080", (r) => r.config.outbound.excludePorts, [80]],
  ],
  "ranges with equal ends (`80-80`)": [
    [uids, "tcp:80-80:1000-1000", ({ config }) => config.outbound.excludeUids, [
      { protocol: "tcp", ports: [{ from: 80, to: 80 }], uids: { from: 1000, to: 1000 } },
    ]],
  ],
  "`null`": [
    [undefined, "redirect: null\nkumaDPUser: null\nlog: {level: ~}", ({ config }) => config, {
      ...defaultRedirectConfig,
      rulesVersion: "3",
    }],
    [
      undefined,
      "redirect: {inbound: {excludePorts: [null, 80]}}",
      ({ config }) => config.inbound.excludePorts,
      [80],
    ],
  ],
  "a text for a list": [
    [
      undefined,
      'redirect: {outbound: {excludePortsForIPs: "10.0.0.1,10.0.0.2"}}',
      ({ config }) => config.outbound.excludeIps.length,
      2,
    ],
    [
      undefined,
      "redirect: {vnet: {networks: 'cni+:10.80.0.0/16'}}",
      ({ config }) => config.virtualNetworks.length,
      1,
    ],
  ],
  "list entries that are neither texts nor whole numbers": [
    [undefined, "redirect: {inbound: {excludePorts: [true]}}", (r) => r, refused],
    [undefined, "redirect: {inbound: {excludePorts: [{}]}}", (r) => r, refused],
    [undefined, "redirect: {inbound: {excludePorts: [80.5]}}", (r) => r, refused],
    [undefined, "redirect: {outbound: {excludePortsForUIDs: [[1000]]}}", (r) => r, refused],
  ],
  "an address as a virtual network": [
    [
      undefined,
      "redirect: {vnet: {networks: ['eth1:10.0.0.7', 'eth1:fd00::7']}}",
      ({ config }) => config.virtualNetworks.map(({ cidr }) => cidr.prefix),
      [32, 128],
    ],
  ],
  "an address twice": [
    [
      "traffic.kuma.io/exclude-outbound-ips",
      "10.0.0.1,10.0.0.1/32,fd00::1,FD00:0::1",
      ({ config }) => config.outbound.excludeIps.map(({ address }) => address),
      ["10.0.0.1", "fd00::1"],
    ],
  ],
  "order of protocols (`udp,tcp:`)": [
    [
      uids,
      "udp,tcp:53:1000",
      ({ config }) => config.outbound.excludeUids.map(({ protocol }) => protocol),
      ["tcp", "udp"],
    ],
  ],
  "negative `wait`, `waitInterval`": [
    [undefined, "wait: -1", ({ config, warnings }) => [config.outbound.port, warnings.length], [
      15001,
      1,
    ]],
    [undefined, "waitInterval: -1", ({ warnings }) => warnings.length, 1],
  ],
};

for (const [name, rows] of Object.entries(table)) {
  Deno.test(`leniency: ${name}`, () => {
    const document = Deno.readTextFileSync(new URL("../docs/differences.md", import.meta.url));
    const documented = document.split("\n").filter((line) => line.startsWith(`| ${name} `));
    assert.equal(documented.length, 1, `docs/differences.md needs one row "${name}"`);
    for (const [annotation, value, pick, expected] of rows) {
      const read = () =>
        pick(redirectConfigOf({ [annotation ?? CONFIG_ANNOTATION]: value }, {
          allowPodSettings: new Set(),
          resolvers: [],
        }));
      if (expected === refused) assert.throws(read, ConfigError, value);
      else assert.deepEqual(read(), expected, value);
    }
  });
}

Deno.test("a gateway keeps the inbound port that it states", () => {
  const { config } = redirectConfigOf({
    "kuma.io/gateway": "enabled",
    "kuma.io/transparent-proxying-inbound-port": "15016",
  }, { allowPodSettings: new Set(), resolvers: [] });
  assert.deepEqual([config.inbound.enabled, config.inbound.port], [false, 15016]);
});
