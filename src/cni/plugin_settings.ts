/**
 * The plugin's entry as another program reads it that is about to write it: by the plugin's own
 * reader, and with the keys that the plugin would ignore. Apart from the rest, since a call of the
 * plugin does not need it.
 */
import { isRecord, own } from "../json/record.ts";
import { nearestName } from "../text/nearest.ts";
import { wrongValue } from "./json_value.ts";
import { type NetworkSettings, networkSettings, readSettings, SETTINGS_HINT } from "./settings.ts";

/** A key that has no effect. */
export interface UnknownKey {
  /** Where it stands, for example `kubernetes.exclude_namespace`. */
  readonly key: string;
  /** The known key that is probably meant, with its place. */
  readonly nearest?: string;
}

/** What an entry says. */
export interface PluginSettings {
  readonly settings: NetworkSettings;
  /** In the order of the entry. */
  readonly unknown: readonly UnknownKey[];
}

/** Keys of an entry that the CNI specification and libcni give a meaning (CNI 1.1.0, section 1). */
const standardKeys: readonly string[] = [
  "cniVersion",
  "name",
  "type",
  "args",
  "capabilities",
  "ipMasq",
  "ipam",
  "dns",
  "prevResult",
  "runtimeConfig",
];

/**
 * Reads the plugin's entry of a network configuration.
 *
 * @param entry The entry as `JSON.parse` makes it.
 * @returns The settings, and the keys without effect.
 * @throws {CniError} code 7: a setting, or a type of a standard key, that the plugin would refuse;
 * the message names the key, what is allowed there and what was found.
 */
export function readPluginSettings(entry: unknown): PluginSettings {
  if (!isRecord(entry)) {
    throw wrongValue("the plugin's entry", "a JSON object", entry, SETTINGS_HINT);
  }
  for (const key of ["cniVersion", "name", "type"]) {
    const value = own(entry, key) ?? "";
    if (typeof value !== "string") throw wrongValue(key, "a string", value, SETTINGS_HINT);
  }
  return { settings: readSettings(entry), unknown: unknownKeysOf(entry) };
}

function unknownKeysOf(entry: Readonly<Record<string, unknown>>): UnknownKey[] {
  const paths = Object.values(networkSettings()).map(({ path }) => path)
    .filter((path) => !path.startsWith("runtimeConfig."));
  const sections = paths.filter((path) => path.includes(".")).map((path) => path.split(".")[0]!);
  const known = new Set([...standardKeys, ...paths, ...sections]);
  const keys = Object.keys(entry).flatMap((key) => {
    const section = own(entry, key);
    return sections.includes(key) && isRecord(section)
      ? Object.keys(section).map((inner) => `${key}.${inner}`)
      : [key];
  });
  return keys.filter((key) => !known.has(key)).map((key) => {
    const nearest = nearestKey(key, paths, [...standardKeys, ...sections]);
    return { key, ...(nearest === undefined ? {} : { nearest }) };
  });
}

/** A right key in the wrong place is as likely as a mistyped one. */
function nearestKey(
  key: string,
  paths: readonly string[],
  others: readonly string[],
): string | undefined {
  const lastPart = (path: string) => path.slice(path.lastIndexOf(".") + 1);
  const byLastPart = new Map(paths.map((path) => [lastPart(path), path]));
  const found = nearestName(lastPart(key), [...byLastPart.keys(), ...others]);
  return found === undefined ? nearestName(key, paths) : byLastPart.get(found) ?? found;
}
