/** "Traffic to these ports by these UIDs is not redirected": `<protocol:>?<ports:>?<uids>`. */
import type { Range, UidExclusion } from "../redirect/config.ts";
import { quote } from "../text/quote.ts";
import { ConfigError } from "./config_error.ts";
import { checkLength, MAX_UID, parseDecimal, splitList } from "./scalars.ts";

/**
 * Parses entries of the grammar: one part is UIDs, two are ports and UIDs, three are protocol,
 * ports and UIDs. Protocol is `tcp`, `udp`, both with a comma, or `*` or nothing for both; ports
 * are numbers and ranges with commas, or `*` or nothing for all; UIDs are one number or one range.
 * Entries of nothing but blanks are skipped. An entry without a UID is an error: it would exclude
 * the traffic of everyone.
 *
 * @param entries The entries, for example `tcp:80,443:1000-1010`.
 * @param setting The setting's name for messages.
 * @throws {ConfigError} when an entry does not follow the grammar.
 */
export function parseUidExclusions(entries: readonly string[], setting: string): UidExclusion[] {
  const exclusions = entries
    .map((entry) => entry.trim())
    .filter((entry) => entry !== "")
    .flatMap((entry) => parseEntry(entry, setting));
  checkLength(exclusions.reduce((sum, { ports }) => sum + ports.length, 0), setting);
  return exclusions;
}

function parseEntry(entry: string, setting: string): UidExclusion[] {
  const fail = (problem: string) =>
    new ConfigError(
      `${setting} holds the entry ${quote(entry)}, ${problem}; ` +
        `expected is "[protocol:][ports:]uids", for example "tcp:80,443:1000-1010"`,
    );
  const parts = entry.split(":").map((part) => part.trim());
  if (parts.length > 3) throw fail("which has more than three parts");
  const uidPart = parts.at(-1)!;
  const portPart = parts.at(-2) ?? "";
  const protocolPart = (parts.at(-3) ?? "").toLowerCase();
  if (uidPart === "") throw fail("which names no UID and so would exclude everyone");
  const uids = parseRange(uidPart, 0, MAX_UID);
  if (uids === undefined) throw fail(`whose UIDs are not one number or range 0-${MAX_UID}`);
  const protocols = parseProtocols(protocolPart, setting);
  if (protocols === undefined) throw fail(`whose protocol is not "tcp", "udp" or "*"`);
  const ports: Range[] = [];
  for (const text of isAny(portPart) ? ["1-65535"] : splitList(portPart, ",", setting)) {
    const range = parseRange(text, 0, 65535);
    if (range === undefined || range.to === 0) throw fail("whose ports are not within 1-65535");
    ports.push({ from: Math.max(1, range.from), to: range.to });
  }
  if (ports.length === 0) throw fail("which names no port");
  return protocols.map((protocol) => ({ protocol, ports, uids }));
}

function isAny(text: string): boolean {
  return text === "" || text === "*";
}

function parseProtocols(text: string, setting: string): ("tcp" | "udp")[] | undefined {
  const names = isAny(text) ? ["tcp", "udp"] : splitList(text, ",", setting);
  if (names.includes("*")) return names.length === 1 ? ["tcp", "udp"] : undefined;
  if (names.length === 0 || names.some((name) => name !== "tcp" && name !== "udp")) {
    return undefined;
  }
  return (["tcp", "udp"] as const).filter((protocol) => names.includes(protocol));
}

function parseRange(text: string, min: number, max: number): Range | undefined {
  const [first = "", second = first, ...more] = text.split("-").map((part) => part.trim());
  const from = parseDecimal(first, min, max);
  const to = parseDecimal(second, min, max);
  if (from === undefined || to === undefined || from > to || more.length > 0) return undefined;
  return { from, to };
}
