/** What instructions of nf_tables load into a register, and how values of it are written. */
import { formatAddress } from "../../ip/address.ts";
import { LITTLE_ENDIAN, readText, readU32 } from "../../linux/netlink_message.ts";
import {
  IPPROTO_TCP,
  IPPROTO_UDP,
  NFPROTO_IPV4,
  NFPROTO_IPV6,
  NFT_CT,
  NFT_META,
} from "../../linux/nf_tables.ts";

/** What a register holds: the words for it, and how its values are written. */
export interface Operand {
  readonly words: string;
  readonly kind: "address" | "port" | "name" | "number" | "protocol" | "family" | "state" | "bytes";
  /** Length of the whole value in bytes, where a shorter one is a prefix. */
  readonly length?: number;
  /** Whether a number is in network order. */
  readonly networkOrder?: boolean;
  /** The bits that are looked at. */
  readonly mask?: Uint8Array;
}

const STATES: Readonly<Record<number, string>> = {
  1: "invalid",
  2: "established",
  4: "related",
  8: "new",
  64: "untracked",
};
const META_NAMES: Readonly<Record<number, string>> = { 3: "mark", 4: "iif", 5: "oif", 11: "skgid" };

/** What `meta` loads. */
export function metaOperand(key: number): Operand {
  switch (key) {
    case NFT_META.iifname:
      return { words: "iifname", kind: "name", length: 16 };
    case NFT_META.oifname:
      return { words: "oifname", kind: "name", length: 16 };
    case NFT_META.skuid:
      return { words: "meta skuid", kind: "number" };
    case NFT_META.nfproto:
      return { words: "meta nfproto", kind: "family" };
    case NFT_META.l4proto:
      return { words: "meta l4proto", kind: "protocol" };
    default:
      return { words: `meta ${META_NAMES[key] ?? key}`, kind: "number" };
  }
}

/** What `ct` loads. */
export function ctOperand(key: number): Operand {
  return { words: ctName(key), kind: key === NFT_CT.state ? "state" : "number" };
}

/** The words for a key of connection tracking. */
export function ctName(key: number): string {
  return key === NFT_CT.state ? "ct state" : key === NFT_CT.zone ? "ct zone" : `ct ${key}`;
}

/** The states in a mask of `ct state`. */
export function stateWords(mask: Uint8Array): string {
  const bits = mask.length === 4 ? readU32(mask, 0) : 0;
  return Object.entries(STATES).filter(([bit]) => (bits & Number(bit)) !== 0)
    .map(([, name]) => name).join(",");
}

/** Writes a value that an operand is compared with. */
export function valueText(operand: Operand, value: Uint8Array): string {
  switch (operand.kind) {
    case "address":
      return addressText(operand, value);
    case "port":
      return numberText(value, true);
    case "name": {
      const name = JSON.stringify(readText(value));
      return value.length < operand.length! ? `${name.slice(0, -1)}*"` : name;
    }
    case "protocol":
      return value[0] === IPPROTO_TCP ? "tcp" : value[0] === IPPROTO_UDP ? "udp" : `${value[0]}`;
    case "family":
      return value[0] === NFPROTO_IPV4
        ? "ipv4"
        : value[0] === NFPROTO_IPV6
        ? "ipv6"
        : `${value[0]}`;
    case "number":
      return numberText(value, operand.networkOrder ?? false);
    default:
      return hex(value);
  }
}

function addressText({ length, mask }: Operand, value: Uint8Array): string {
  const full = new Uint8Array(length!);
  full.set(value.subarray(0, length));
  const bits = mask === undefined
    ? value.length * 8
    : Array.from(mask, (byte) => byte.toString(2).padStart(8, "0")).join("").replace(/0*$/, "");
  const prefix = typeof bits === "number" ? bits : bits.length;
  const text = formatAddress(full);
  if (typeof bits === "string" && bits.includes("0")) return `& ${hex(mask!)} ${text}`;
  return prefix === length! * 8 ? text : `${text}/${prefix}`;
}

/** Writes a number of up to four bytes. */
export function numberText(value: Uint8Array, networkOrder: boolean): string {
  if (value.length > 4) return hex(value);
  const bytes = networkOrder || !LITTLE_ENDIAN ? value : value.toReversed();
  return String(bytes.reduce((sum, byte) => sum * 256 + byte, 0));
}

function hex(bytes: Uint8Array): string {
  return `0x${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
