/**
 * Reads `traffic.kuma.io/transparent-proxy-config` (Kuma 2.9 and later): YAML or JSON text, decoded
 * over the defaults. What a pod's author may set, and what becomes of the rest, is declared in
 * `pod_settings.ts`.
 */
// @ts-types="../types/std_yaml_parse.d.ts"
import { parse } from "@std/yaml/parse";
import type { DirectionConfig, IpFamilyMode, RedirectConfig } from "../redirect/config.ts";
import { defaultRedirectConfig, SIDECAR_UID } from "../redirect/defaults.ts";
import { messageOf } from "../text/message_of.ts";
import { quote } from "../text/quote.ts";
import { ConfigError } from "./config_error.ts";
import { readIgnored } from "./ignored_settings.ts";
import { parseCidrs, parseResolvers, parseVirtualNetworks } from "./networks.ts";
import { findResolvers, type KnownResolvers } from "./resolvers.ts";
import { MAX_UID, parseDecimal } from "./scalars.ts";
import { type Diagnostics, Section } from "./section.ts";
import { parseUidExclusions } from "./uid_exclusions.ts";

/** Longest text that is parsed, in UTF-16 code units; real ones have about 700. */
const MAX_TEXT = 65536;

/** Deepest nesting of brackets that is parsed; real ones have 4. */
const MAX_DEPTH = 32;

/** What the document alone cannot tell. */
export interface TransparentProxyOptions extends KnownResolvers {
  /** Key paths of guarded settings that the administrator leaves to pods. */
  readonly allowPodSettings: ReadonlySet<string>;
}

/** A configuration without the form of the DNS-over-TCP rules, which the document does not hold. */
export type ParsedConfig = Omit<RedirectConfig, "rulesVersion">;

/**
 * Parses the document.
 *
 * @param text The annotation's value.
 * @param source Its name for messages and origins.
 * @param options What an administrator and the container runtime say.
 * @param diagnostics Receives origins and warnings.
 * @throws {ConfigError} when it is malformed, or states what a pod may not.
 */
export function parseTransparentProxyConfig(
  text: string,
  source: string,
  options: TransparentProxyOptions,
  diagnostics: Diagnostics,
): ParsedConfig {
  const root = new Section(parseYaml(text, source), "", source, diagnostics);
  const redirect = root.section("redirect");
  const config: ParsedConfig = {
    sidecarUid: readSidecarUid(root.text("kumaDPUser"), root.name("kumaDPUser"), options),
    ipFamilyMode: parseFamilyMode(root.text("ipFamilyMode") ?? "", root.name("ipFamilyMode")),
    inbound: readDirection(redirect.section("inbound"), "inbound", options),
    outbound: readDirection(redirect.section("outbound"), "outbound", options),
    dns: readDns(redirect.section("dns"), options),
    virtualNetworks: readVirtualNetworks(redirect.section("vnet")),
    dropInvalidPackets: root.boolean("dropInvalidPackets", false),
    log: readLog(root.section("log")),
    comments: readComments(root.section("comments")),
  };
  redirect.finish();
  readIgnored(root);
  root.finish();
  return config;
}

function parseYaml(text: string, source: string): unknown {
  if (text.length > MAX_TEXT) {
    throw new ConfigError(`${source} is ${text.length} characters long, more than ${MAX_TEXT}`);
  }
  checkDepth(text, source);
  try {
    return parse(text, { schema: "core", onWarning: () => {} });
  } catch (error) {
    const reason = messageOf(error).split(/:?\n/)[0]!;
    throw new ConfigError(`${source} cannot be parsed as YAML or JSON: ${printable(reason)}`);
  }
}

/** The parser's message may hold pieces of the text. */
function printable(text: string): string {
  return text.slice(0, 300).replace(/[^ -~]/g, "?");
}

/** The parser recurses once per level, so that deep nesting would exhaust its stack. */
function checkDepth(text: string, source: string): void {
  let depth = 0;
  let indicators = 0;
  for (const character of text) {
    if (character === "[" || character === "{") depth++;
    else if (character === "]" || character === "}") depth = Math.max(0, depth - 1);
    // A line of `- - - -` or `? ? ?` nests one level per mark.
    if (character === "\n") indicators = 0;
    else if (character === "-" || character === "?") indicators++;
    else if (character !== " ") indicators = Number.NEGATIVE_INFINITY;
    if (depth > MAX_DEPTH || indicators > MAX_DEPTH) {
      throw new ConfigError(`${source} is nested more than ${MAX_DEPTH} levels deep`);
    }
  }
}

/**
 * Reads the sidecar's UID.
 *
 * @param text Decimal digits; nothing means the default.
 * @param setting The setting's name for messages.
 * @throws {ConfigError} when it is a user's name, which nothing on the host can resolve, or 0 and
 * the administrator does not allow that.
 */
export function readSidecarUid(
  text: string | undefined,
  setting: string,
  { allowPodSettings }: Pick<TransparentProxyOptions, "allowPodSettings">,
): number {
  if (text === undefined || text.trim() === "") return SIDECAR_UID;
  const uid = parseDecimal(text.trim(), 0, MAX_UID);
  if (uid === undefined) {
    throw new ConfigError(
      `${setting} is ${
        quote(text)
      } where a numeric UID 1-${MAX_UID} is expected: the names of the ` +
        `users in a pod's images are not known on the host`,
    );
  }
  if (uid === 0 && !allowPodSettings.has("kumaDPUser")) {
    throw new ConfigError(
      `${setting} is 0, so that no traffic of root would be redirected; ${allowHint("kumaDPUser")}`,
    );
  }
  return uid;
}

/** Tells an administrator how to leave a guarded setting to pods. */
function allowHint(key: string): string {
  return `an administrator can permit it with "${key}" in allow_pod_settings of the network ` +
    `configuration`;
}

/** Reads the families; nothing means both. @throws {ConfigError} for any other word. */
export function parseFamilyMode(text: string, setting: string): IpFamilyMode {
  switch (text.trim().toLowerCase()) {
    case "":
    case "dualstack":
      return "dualstack";
    case "ipv4":
      return "ipv4";
    case "ipv6":
      return "ipv6";
    default:
      throw new ConfigError(
        `${setting} is ${quote(text)} where "dualstack", "ipv4" or "ipv6" is expected`,
      );
  }
}

function readDirection(
  section: Section,
  direction: "inbound" | "outbound",
  options: TransparentProxyOptions,
): DirectionConfig {
  const enabled = section.boolean("enabled", true);
  if (!enabled && direction === "outbound") {
    const key = "redirect.outbound.enabled";
    if (!options.allowPodSettings.has(key)) {
      throw new ConfigError(
        `${section.name("enabled")} is false, so that the pod's outgoing traffic would leave the ` +
          `mesh; ${allowHint(key)}`,
      );
    }
  }
  const uidEntries = section.texts("excludePortsForUIDs");
  if (direction === "inbound" && uidEntries.length > 0) {
    section.diagnostics.warnings.push(
      `${section.name("excludePortsForUIDs")} has no effect: a packet that comes in has no UID`,
    );
  }
  const config: DirectionConfig = {
    enabled,
    port: section.number("port", defaultRedirectConfig[direction].port, 1, 65535),
    includePorts: section.ports("includePorts"),
    excludePorts: section.ports("excludePorts"),
    excludeIps: parseCidrs(
      section.texts("excludePortsForIPs"),
      section.name("excludePortsForIPs"),
    ),
    excludeUids: direction === "inbound"
      ? []
      : parseUidExclusions(uidEntries, section.name("excludePortsForUIDs")),
    insertInsteadOfAppend: section.boolean("insertRedirectInsteadOfAppend", false),
  };
  section.finish();
  return config;
}

function readDns(section: Section, options: TransparentProxyOptions): RedirectConfig["dns"] {
  const { origins, warnings } = section.diagnostics;
  const enabled = section.boolean("enabled", false);
  const captureAll = section.boolean("captureAll", false);
  // A control plane without the DNS feature writes port 0.
  const port = section.number("port", defaultRedirectConfig.dns.port, enabled ? 1 : 0, 65535);
  const skipConntrackZoneSplit = section.boolean("skipConntrackZoneSplit", false);
  const path = section.text("resolvConfigPath") ?? "";
  if (path !== "" && path !== "/etc/resolv.conf") {
    warnings.push(
      `${section.name("resolvConfigPath")} has no effect: the pod's resolvers are known from the ` +
        `container runtime, and a pod chooses no file of the host`,
    );
  }
  origins.delete("redirect.dns.resolvConfigPath");
  section.finish();
  let servers: RedirectConfig["dns"]["servers"] = [];
  if (enabled && !captureAll) {
    const found = findResolvers(options);
    const parsed = parseResolvers(found.resolvers);
    servers = parsed.servers;
    origins.set("redirect.dns.servers", found.origin);
    if (parsed.unusable.length > 0) {
      const unusable = parsed.unusable.slice(0, 5).map((text) => quote(text));
      warnings.push(`DNS to ${unusable} is not redirected: not an IP address`);
    }
    if (found.gap !== undefined) warnings.push(found.gap);
    else if (servers.length === 0) {
      warnings.push(
        `DNS is not redirected: captureAll is off, and ${found.origin} names no server; set captureAll`,
      );
    }
  }
  return {
    enabled,
    port: port === 0 ? defaultRedirectConfig.dns.port : port,
    captureAll,
    servers,
    skipConntrackZoneSplit,
  };
}

function readVirtualNetworks(section: Section): RedirectConfig["virtualNetworks"] {
  const networks = parseVirtualNetworks(section.texts("networks"), section.name("networks"));
  section.finish();
  return networks;
}

function readLog(section: Section): RedirectConfig["log"] {
  const enabled = section.boolean("enabled", false);
  const level = section.number("level", defaultRedirectConfig.log.level, 0, 65535);
  section.finish();
  if (level <= 7) return { enabled, level };
  section.diagnostics.warnings.push(
    `${section.name("level")} is ${level}; taken as 7, the highest`,
  );
  return { enabled, level: 7 };
}

function readComments(section: Section): boolean {
  const disabled = section.boolean("disabled", false);
  section.finish();
  return !disabled;
}
