/**
 * Looks at the tables of the older of iptables' two kernel interfaces, without any tool: whether
 * they hold rules, and which chains. Nothing is changed, and no table comes into being by looking.
 *
 * Needs `CAP_NET_ADMIN` and `--allow-ffi`, `--allow-read`. Facts:
 * `linux/netfilter_ipv4/ip_tables.h`, `linux/netfilter_ipv6/ip6_tables.h`, `linux/netfilter/x_tables.h`.
 */
import { EMSGSIZE, LinuxError } from "./errno.ts";
import { readKernelFile } from "./kernel_file.ts";
import { checked, FileDescriptor, libc } from "./libc.ts";
import { readU16, readU32 } from "./netlink_message.ts";

/** One table of the calling thread's network namespace. */
export interface LegacyTable {
  readonly name: string;
  /** Names of the chains that are not built in. */
  readonly chains: readonly string[];
  /** Rules in the kernel's order, policies and the ends of chains left out. */
  readonly rules: readonly LegacyRule[];
}

/** One rule of a table. */
export interface LegacyRule {
  /** The chain that holds it, `undefined` for a built-in one. */
  readonly chain: string | undefined;
  /** The chain that it sends packets to. */
  readonly target: string | undefined;
  /** The rule as the kernel holds it: conditions and their texts, then the target. */
  readonly bytes: Uint8Array;
}

/** Where the 16 bytes of counters stand in `struct ipt_entry` and `struct ip6t_entry`. */
const COUNTERS_AT = { ipv4: 96, ipv6: 152 } as const;
const COUNTERS_LENGTH = 16;

/** What of a rule only somebody's change of it changes: all but its counters, in two parts. */
export function legacyRuleWithoutCounters(
  { bytes }: LegacyRule,
  family: "ipv4" | "ipv6",
): readonly [Uint8Array, Uint8Array] {
  const at = COUNTERS_AT[family];
  return [bytes.subarray(0, at), bytes.subarray(at + COUNTERS_LENGTH)];
}

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_RAW_CLOEXEC = 3 | 0x80000;
const IPPROTO_RAW = 255;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const GET_INFO = 64;
const GET_ENTRIES = 65;
const NAME_LENGTH = 32;
const INFO_LENGTH = 84;
const INFO_HOOKS_AT = 32;
const INFO_UNDERFLOW_AT = 56;
const INFO_SIZE_AT = 80;
const HOOKS = 5;
const ENTRIES_AT = 40;
/** Largest table that is read, in bytes; as for netlink's dumps, a pod must not cost the node its memory. */
const MAX_TABLE_SIZE = 8 * 1024 * 1024;
/** Offset of `target_offset` in `struct ipt_entry` and `struct ip6t_entry`; `next_offset` follows. */
const TARGET_OFFSET_AT = { ipv4: 88, ipv6: 140 } as const;
/** Length of `struct xt_entry_target`; an ERROR target's text, or a verdict, follows it. */
const TARGET_LENGTH = 32;

/**
 * Names of the tables that exist in the thread's network namespace.
 *
 * @returns none when the kernel does not have this interface
 */
export function legacyTableNames(family: "ipv4" | "ipv6"): string[] {
  const file = family === "ipv4" ? "ip_tables_names" : "ip6_tables_names";
  try {
    return readKernelFile(`/proc/thread-self/net/${file}`).split("\n")
      .filter((name) => name !== "");
  } catch (error) {
    if (error instanceof LinuxError && error.code === "ENOENT") return [];
    throw error;
  }
}

/**
 * Reads the tables that exist in the thread's network namespace.
 *
 * @param found called before the first one is read
 * @throws {LinuxError} when the kernel refuses, or `EMSGSIZE` when a table has more than 8 MiB
 */
export function readLegacyTables(
  family: "ipv4" | "ipv6",
  found: () => void = () => {},
): LegacyTable[] {
  const names = legacyTableNames(family);
  if (names.length === 0) return [];
  found();
  const domain = family === "ipv4" ? AF_INET : AF_INET6;
  using socket = new FileDescriptor(
    checked(
      "Cannot create a socket to read legacy iptables tables",
      () => libc().socket(domain, SOCK_RAW_CLOEXEC, IPPROTO_RAW),
    ),
  );
  return names.map((name) => readTable(socket.number, family, name));
}

function readTable(socket: number, family: "ipv4" | "ipv6", name: string): LegacyTable {
  const attempt = `Cannot read the legacy ${family === "ipv4" ? "IPv4" : "IPv6"} table "${name}"`;
  const level = family === "ipv4" ? SOL_IP : SOL_IPV6;
  const get = (option: number, value: Uint8Array<ArrayBuffer>): void => {
    value.set(new TextEncoder().encode(name).subarray(0, NAME_LENGTH - 1));
    const length = new Uint8Array(new Uint32Array([value.length]).buffer);
    checked(attempt, () => libc().getsockopt(socket, level, option, value, length));
  };
  // A writer in between changes the size, which the kernel then refuses with EAGAIN.
  for (let left = 5;; left--) {
    const info = new Uint8Array(INFO_LENGTH);
    get(GET_INFO, info);
    const size = readU32(info, INFO_SIZE_AT);
    if (size > MAX_TABLE_SIZE) {
      throw new LinuxError(attempt, EMSGSIZE, `It has ${size} bytes, at most ${MAX_TABLE_SIZE}`);
    }
    const entries = new Uint8Array(ENTRIES_AT + size);
    new Uint32Array(entries.buffer, NAME_LENGTH, 1)[0] = size;
    try {
      get(GET_ENTRIES, entries);
    } catch (error) {
      if (error instanceof LinuxError && error.code === "EAGAIN" && left > 0) continue;
      throw error;
    }
    return { name, ...parseEntries(entries.subarray(ENTRIES_AT), policies(info), family) };
  }
}

/** Offsets of the entries that are the policies of the built-in chains. */
function policies(info: Uint8Array): Set<number> {
  const hooks = readU32(info, INFO_HOOKS_AT);
  const offsets = Array.from(
    { length: HOOKS },
    (_, i) => hooks & 1 << i ? [readU32(info, INFO_UNDERFLOW_AT + 4 * i)] : [],
  );
  return new Set(offsets.flat());
}

function parseEntries(
  bytes: Uint8Array,
  policies: ReadonlySet<number>,
  family: "ipv4" | "ipv6",
): Pick<LegacyTable, "chains" | "rules"> {
  const targetOffsetAt = TARGET_OFFSET_AT[family];
  const chainAt = new Map<number, string>();
  const rules: { chain: string | undefined; verdict: number | undefined; bytes: Uint8Array }[] = [];
  let chain: string | undefined;
  let endOfChain = false;
  for (let at = 0; at + targetOffsetAt + 4 <= bytes.length;) {
    const target = at + readU16(bytes, at + targetOffsetAt);
    const next = at + readU16(bytes, at + targetOffsetAt + 2);
    if (next <= at || next > bytes.length || target + TARGET_LENGTH + 4 > next) {
      throw new RangeError(`Cannot read a legacy table: The entry at ${at} has wrong lengths`);
    }
    const kind = text(bytes, target + 2);
    if (kind === "ERROR") {
      // The entry before a chain's header, or before the end, is the former chain's final RETURN.
      if (chain !== undefined) rules.pop();
      chain = text(bytes, target + TARGET_LENGTH);
      chainAt.set(next, chain);
      endOfChain = next === bytes.length;
    } else if (!policies.has(at)) {
      // A standard target has no name and holds a verdict: where to go on, or a negative number.
      const verdict = kind === "" ? readU32(bytes, target + TARGET_LENGTH) : undefined;
      rules.push({ chain, verdict, bytes: bytes.subarray(at, next) });
    }
    at = next;
  }
  if (!endOfChain) throw new RangeError("Cannot read a legacy table: It has no end");
  // The last header stands for the end of the table and is named "ERROR" itself.
  chainAt.delete(bytes.length);
  return {
    chains: [...chainAt.values()],
    rules: rules.map(({ chain, verdict, bytes }) => ({
      chain,
      target: verdict === undefined ? undefined : chainAt.get(verdict),
      bytes,
    })),
  };
}

function text(bytes: Uint8Array, at: number): string {
  const end = bytes.indexOf(0, at);
  return new TextDecoder().decode(bytes.subarray(at, end < 0 ? bytes.length : end));
}
