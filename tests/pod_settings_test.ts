import assert from "node:assert/strict";
import { DOCUMENT, withPodSettings } from "../scripts/pod_settings_docs.ts";
import { type PodSetting, podSettings } from "../src/pod/pod_settings.ts";
import {
  allowableSettings,
  CONFIG_ANNOTATION,
  ConfigError,
  guardedSettings,
  redirectConfigOf,
  type RedirectConfigResult,
} from "../src/pod/redirect_config.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { effectiveSettings } from "../src/redirect/describe.ts";

/** For each key a value that asks for something else than the default. */
const values: Record<string, unknown> = {
  "kumaDPUser": 7,
  "ipFamilyMode": "ipv4",
  "redirect.inbound.enabled": false,
  "redirect.inbound.port": 25006,
  "redirect.inbound.includePorts": [80],
  "redirect.inbound.excludePorts": [81],
  "redirect.inbound.excludePortsForIPs": ["10.0.0.0/8"],
  "redirect.inbound.excludePortsForUIDs": ["7"],
  "redirect.inbound.insertRedirectInsteadOfAppend": true,
  "redirect.outbound.enabled": false,
  "redirect.outbound.port": 25001,
  "redirect.outbound.includePorts": [80],
  "redirect.outbound.excludePorts": [81],
  "redirect.outbound.excludePortsForIPs": ["10.0.0.0/8"],
  "redirect.outbound.excludePortsForUIDs": ["7"],
  "redirect.outbound.insertRedirectInsteadOfAppend": true,
  "redirect.dns.enabled": true,
  "redirect.dns.port": 25053,
  "redirect.dns.captureAll": true,
  "redirect.dns.skipConntrackZoneSplit": true,
  "redirect.dns.resolvConfigPath": "/etc/shadow",
  "redirect.vnet.networks": ["eth7:10.0.0.0/8"],
  "dropInvalidPackets": true,
  "log.enabled": true,
  "log.level": 3,
  "comments.disabled": true,
  "iptablesExecutables": { iptables: "/tmp/x" },
  "dryRun": true,
  "wait": 99,
  "waitInterval": 99,
  "retry": { maxRetries: 99 },
  "storeFirewalld": true,
  "ebpf.enabled": true,
  "cniMode": false,
  "verbose": true,
};

/** The same for annotations. */
const annotationValues: Record<string, string> = {
  "kuma.io/sidecar-uid": "7",
  "kuma.io/transparent-proxying-ip-family-mode": "ipv4",
  "kuma.io/transparent-proxying-inbound-v6-port": "15011",
  "kuma.io/gateway": "enabled",
  "kuma.io/transparent-proxying-inbound-port": "25006",
  "traffic.kuma.io/exclude-inbound-ports": "81",
  "kuma.io/application-probe-proxy-port": "82",
  "traffic.kuma.io/exclude-inbound-ips": "10.0.0.0/8",
  "kuma.io/transparent-proxying-outbound-port": "25001",
  "traffic.kuma.io/exclude-outbound-ports": "81",
  "traffic.kuma.io/exclude-outbound-ips": "10.0.0.0/8",
  "traffic.kuma.io/exclude-outbound-ports-for-uids": "7",
  "kuma.io/builtin-dns": "enabled",
  "kuma.io/builtin-dns-port": "25053",
  "traffic.kuma.io/drop-invalid-packets": "true",
  "traffic.kuma.io/iptables-logs": "true",
  "kuma.io/transparent-proxying-ebpf": "enabled",
};

const options = { allowPodSettings: new Set<string>(), resolvers: ["10.96.0.10"] };

function document(key: string): string {
  return JSON.stringify(
    key.split(".").reduceRight<unknown>((value, name) => ({ [name]: value }), values[key]),
  );
}

function effective({ config, origins }: RedirectConfigResult): string {
  return JSON.stringify(effectiveSettings(config, origins).map(({ key, value }) => [key, value]));
}

function keyed(setting: PodSetting): setting is PodSetting & { key: string } {
  return setting.key !== undefined;
}

Deno.test("every declared setting of the config annotation is treated as declared", () => {
  const settings = podSettings().filter(keyed);
  assert.deepEqual(settings.map(({ key }) => key), Object.keys(values));
  const before = effective({ config: defaultRedirectConfig, origins: new Map(), warnings: [] });
  for (const { key, treatment } of settings) {
    const annotations = { [CONFIG_ANNOTATION]: document(key) };
    const refused = key === "redirect.outbound.enabled";
    if (refused) {
      assert.equal(treatment, "guarded");
      assert.throws(() => redirectConfigOf(annotations, options), ConfigError);
    }
    const result = redirectConfigOf(annotations, {
      ...options,
      allowPodSettings: new Set(refused ? [key] : []),
    });
    assert.ok(!result.warnings.some((text) => text.includes("unknown keys")), key);
    if (treatment === "permitted") {
      assert.equal(effective(result), before, key);
      assert.equal(result.ebpf, "not allowed");
      const allowed = { ...options, allowPodSettings: new Set([key]) };
      assert.equal(redirectConfigOf(annotations, allowed).ebpf, "enabled");
    } else if (treatment === "ignored") {
      assert.equal(effective(result), before, key);
      const silent = key === "cniMode" || key === "verbose";
      assert.equal(result.warnings.length, silent ? 0 : 1, key);
    } else {
      const [entry, ...more] = JSON.parse(effective(result)).filter(([name, value]: string[]) =>
        !before.includes(JSON.stringify([name, value]))
      );
      assert.equal(entry?.[0], key);
      if (key !== "redirect.dns.enabled") assert.deepEqual(more, [], key);
      assert.equal(result.origins.get(key), `${CONFIG_ANNOTATION}: ${key}`);
    }
  }
});

Deno.test("every declared annotation changes its setting and is its origin", () => {
  const settings = podSettings().filter(({ annotation }) => annotation !== undefined);
  assert.deepEqual(
    settings.map(({ annotation }) => annotation!).toSorted(),
    Object.keys(annotationValues).toSorted(),
  );
  const before = effective(redirectConfigOf({}, options));
  for (const { key, annotation, treatment } of settings) {
    const result = redirectConfigOf({ [annotation!]: annotationValues[annotation!]! }, options);
    if (treatment === "permitted") {
      assert.equal(effective(result), before, annotation);
      assert.equal(result.ebpf, "not allowed");
      continue;
    }
    assert.notEqual(effective(result), before, annotation);
    assert.notEqual(treatment, "ignored");
    if (key !== undefined) {
      assert.ok(result.origins.get(key)?.startsWith(`annotation ${annotation}`), annotation);
    }
  }
});

Deno.test("guarded settings are those that an administrator can list", () => {
  const guarded = podSettings().filter(({ treatment }) => treatment === "guarded")
    .map(({ key }) => key);
  assert.deepEqual(guarded, guardedSettings);
  const permitted = podSettings().filter(({ treatment }) => treatment === "permitted")
    .map(({ key }) => key);
  assert.deepEqual([...guarded, ...permitted], allowableSettings);
});

Deno.test("the documentation has the declared settings", async () => {
  const document = await Deno.readTextFile(DOCUMENT);
  const command = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--ext", "md", "--line-width", "100", "-"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  await new Blob([withPodSettings(document)]).stream().pipeTo(command.stdin);
  const { stdout, success } = await command.output();
  assert.ok(success);
  assert.equal(
    document,
    new TextDecoder().decode(stdout),
    "Run deno run -A scripts/pod_settings_docs.ts && deno fmt docs",
  );
});
