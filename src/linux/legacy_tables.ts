/**
 * Looks at the tables of the older of iptables' two kernel interfaces, without any tool: whether
 * they hold rules, and which chains. Nothing is changed, and no table comes into being by looking.
 *
 * Needs `CAP_NET_ADMIN` and `--allow-ffi`, `--allow-read`. Facts:
 * `linux/netfilter_ipv4/ip_tables.h`, `linux/netfilter_ipv6/ip6_tables.h`, `linux/netfilter/x_tables.h`.
 */
import { LinuxError } from "./errno.ts";
import { readKernelFile } from "./kernel_file.ts";
import { checked, FileDescriptor, libc as commonLibc } from "./libc.ts";
import { readU16, readU32 } from "./netlink_message.ts";

/** One table of the calling thread's network namespace. */
export interface LegacyTable {
  readonly name: string;
  /** Names of the chains that are not built in. */
  readonly chains: readonly string[];
  /** Number of rules, policies and chain headers left out. */
  readonly ruleCount: number;
  /** Everything that the kernel holds about the table. */
  readonly bytes: Uint8Array;
}

const symbols = {
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
} as const;

let library: Deno.DynamicLibrary<typeof symbols>["symbols"] | undefined;

function libc(): Deno.DynamicLibrary<typeof symbols>["symbols"] {
  return library ??= Deno.dlopen("libc.so.6", symbols).symbols;
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
const INFO_HOOK_COUNT_AT = 32;
const INFO_ENTRY_COUNT_AT = 76;
const INFO_SIZE_AT = 80;
const ENTRIES_AT = 40;
/** Offset of `target_offset` in `struct ipt_entry` and `struct ip6t_entry`; `next_offset` follows. */
const TARGET_OFFSET_AT = { ipv4: 88, ipv6: 140 } as const;
/** Length of `struct xt_entry_target`; an ERROR target's text follows it. */
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
 * @throws {LinuxError} when the kernel refuses
 */
export function readLegacyTables(family: "ipv4" | "ipv6"): LegacyTable[] {
  const names = legacyTableNames(family);
  if (names.length === 0) return [];
  const domain = family === "ipv4" ? AF_INET : AF_INET6;
  using socket = new FileDescriptor(
    checked(
      "Cannot create a socket to read legacy iptables tables",
      () => commonLibc().socket(domain, SOCK_RAW_CLOEXEC, IPPROTO_RAW),
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
    const entries = new Uint8Array(ENTRIES_AT + size);
    new Uint32Array(entries.buffer, NAME_LENGTH, 1)[0] = size;
    try {
      get(GET_ENTRIES, entries);
    } catch (error) {
      if (error instanceof LinuxError && error.code === "EAGAIN" && left > 0) continue;
      throw error;
    }
    const bytes = entries.subarray(ENTRIES_AT);
    const chains = chainNames(bytes, TARGET_OFFSET_AT[family]);
    const builtIn = bitCount(readU32(info, INFO_HOOK_COUNT_AT));
    // Each chain of ours has a header and a final RETURN; a built-in one has its policy; and one
    // more header ends the table.
    const ruleCount = readU32(info, INFO_ENTRY_COUNT_AT) - builtIn - 2 * chains.length - 1;
    return { name, chains, ruleCount, bytes };
  }
}

function chainNames(bytes: Uint8Array, targetOffsetAt: number): string[] {
  const names: string[] = [];
  for (let at = 0; at + targetOffsetAt + 4 <= bytes.length;) {
    const target = at + readU16(bytes, at + targetOffsetAt);
    const next = readU16(bytes, at + targetOffsetAt + 2);
    if (text(bytes, target + 2) === "ERROR") names.push(text(bytes, target + TARGET_LENGTH));
    if (next === 0) break;
    at += next;
  }
  // The last header stands for the end of the table and is named "ERROR" itself.
  return names.slice(0, -1);
}

function text(bytes: Uint8Array, at: number): string {
  const end = bytes.indexOf(0, at);
  return new TextDecoder().decode(bytes.subarray(at, end < 0 ? bytes.length : end));
}

function bitCount(mask: number): number {
  return mask.toString(2).replaceAll("0", "").length;
}
