/**
 * The ledger's entries: what one call of the plugin did to one attachment of a sandbox. The plugin
 * reports it to the node agent, which keeps it in a folder of its own; the file is the report.
 */
import { isRecord, own } from "../json/record.ts";
import type { NamespaceIdentity } from "../linux/namespace_identity.ts";
import type { RedirectConfig } from "../redirect/config.ts";
import { parseRedirectConfig } from "./redirect_config_word.ts";

/** One attachment of one sandbox, as the plugin left it. */
export interface LedgerEntry {
  /** `CNI_CONTAINERID`. */
  readonly sandbox: string;
  /** `CNI_IFNAME`. */
  readonly interfaceName: string;
  /** Name of the network configuration; GC is about the attachments of one network. */
  readonly network: string;
  readonly podNamespace: string;
  readonly podName: string;
  /** Absent where the runtime does not tell it. */
  readonly podUid?: string;
  /** Path of the network namespace on the host. */
  readonly netns: string;
  /** Milliseconds since 1970. */
  readonly time: number;
  /** Version of the program that did it. */
  readonly version: string;
  readonly outcome: Redirected | Skipped;
}

/** The pod's traffic was redirected. */
export interface Redirected {
  readonly result: "redirected";
  /** Name of an engine; may be one that this version does not know. */
  readonly engine: string;
  readonly namespace: NamespaceIdentity;
  /** What the rules were made from. */
  readonly config: RedirectConfig;
  /** Who installed the rules when it was not the plugin's ADD. */
  readonly by?: "repair" | "adoption";
}

/** The pod was left alone. */
export interface Skipped {
  readonly result: "skipped";
  /** Code of the reason. */
  readonly reason: string;
}

/** Longest text of an entry that is read, in bytes; a real one has some 2 KiB. */
export const MAX_ENTRY_BYTES = 256 * 1024;

/** Returns an entry's text. */
export function formatEntry(entry: LedgerEntry): string {
  return JSON.stringify({ format: 1, ...entry }) + "\n";
}

/**
 * Reads an entry.
 *
 * @throws {TypeError} when it is not one, or one of a later format.
 */
export function parseEntry(value: unknown): LedgerEntry {
  if (!isRecord(value)) throw new TypeError("Entry must be an object");
  if (own(value, "format") !== undefined && own(value, "format") !== 1) {
    throw new TypeError(`Format ${JSON.stringify(own(value, "format"))} is not known, expected 1`);
  }
  const time = own(value, "time");
  // The range of dates in JavaScript; others have no text form.
  if (typeof time !== "number" || !(Math.abs(time) <= 8.64e15)) {
    throw new TypeError('"time" must be milliseconds since 1970');
  }
  const podUid = optionalText(value, "podUid");
  return {
    sandbox: matching(value, "sandbox", /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$/),
    interfaceName: matching(value, "interfaceName", /^(?!\.\.?$)[^/:\s\0]{1,15}$/),
    network: text(value, "network"),
    podNamespace: text(value, "podNamespace"),
    podName: text(value, "podName"),
    ...(podUid === undefined ? {} : { podUid }),
    netns: text(value, "netns"),
    time,
    version: text(value, "version"),
    outcome: parseOutcome(own(value, "outcome")),
  };
}

function parseOutcome(value: unknown): Redirected | Skipped {
  if (!isRecord(value)) throw new TypeError('"outcome" must be an object');
  const result = own(value, "result");
  if (result === "skipped") return { result, reason: text(value, "reason") };
  if (result !== "redirected") {
    throw new TypeError(`"result" is ${JSON.stringify(result)}, expected redirected or skipped`);
  }
  const by = own(value, "by");
  return {
    result,
    engine: matching(value, "engine", /^[a-z][a-z0-9-]{0,31}$/),
    namespace: parseNamespace(own(value, "namespace")),
    config: parseRedirectConfig(own(value, "config")),
    ...(by === "repair" || by === "adoption" ? { by } : {}),
  };
}

function parseNamespace(value: unknown): NamespaceIdentity {
  if (!isRecord(value)) throw new TypeError('"namespace" must be an object');
  const number = (key: string): number => {
    const found = own(value, key);
    if (typeof found === "number" && Number.isSafeInteger(found) && found >= 0) return found;
    throw new TypeError(`"${key}" must be a whole number, 0 or more`);
  };
  const cookie = own(value, "cookie") === undefined
    ? undefined
    : matching(value, "cookie", /^[0-9]{1,20}$/);
  return {
    device: number("device"),
    inode: number("inode"),
    ...(cookie === undefined ? {} : { cookie }),
    boot: matching(value, "boot", /^[0-9a-f-]{36}$/),
  };
}

/** Longest text of a field: the longest path of Linux. */
const longestText = 4096;

function text(values: Record<string, unknown>, key: string): string {
  const found = own(values, key);
  if (typeof found === "string" && found.length <= longestText) return found;
  throw new TypeError(`"${key}" must be a string of at most ${longestText} characters`);
}

function optionalText(values: Record<string, unknown>, key: string): string | undefined {
  return own(values, key) === undefined ? undefined : text(values, key);
}

function matching(values: Record<string, unknown>, key: string, pattern: RegExp): string {
  const found = text(values, key);
  if (pattern.test(found)) return found;
  throw new TypeError(`"${key}" is ${JSON.stringify(found.slice(0, 80))}, expected ${pattern}`);
}
