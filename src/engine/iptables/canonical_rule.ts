/**
 * One form for rules that mean the same: releases of the tools, and their two backends, differ in
 * the order of conditions and in what they leave out.
 */
import { addressBytes } from "../../ip/address.ts";
import { parseOptions, type RuleOption } from "./saved_rules.ts";

/**
 * Brings a rule into its canonical form.
 *
 * @param rule a rule in the syntax of `iptables-save`, without `-A CHAIN`
 * @returns text that is equal for rules of equal meaning, comments aside; not for a tool's input
 */
export function canonicalRule(rule: string): string {
  const options = parseOptions(rule).flatMap(canonicalOption);
  const target = options.findIndex((option) =>
    option.startsWith("-j ") || option.startsWith("-g ")
  );
  // Conditions may come in any order, but options after `-j` belong to the target.
  const conditions = target < 0 ? options : options.slice(0, target);
  return [...conditions.sort(), ...(target < 0 ? [] : options.slice(target).sort())].join(" ");
}

function canonicalOption({ negated, name, values }: RuleOption): string[] {
  const value = values.join(" ");
  const not = negated ? "! " : "";
  switch (name) {
    case "-m":
      // A protocol's match is implied by its options, and comments say nothing to the kernel.
      return value === "tcp" || value === "udp" || value === "comment" ? [] : [`-m ${value}`];
    case "--comment":
      return [];
    case "-s":
    case "-d": {
      const network = canonicalNetwork(value);
      return network.endsWith("/0") && !negated ? [] : [`${not}${name} ${network}`];
    }
    case "-i":
    case "-o":
      return value === "+" && !negated ? [] : [`${not}${name} ${value}`];
    case "-p":
      return [`${not}-p ${value === "6" ? "tcp" : value === "17" ? "udp" : value}`];
    case "--log-level":
      // The default of the LOG target is not saved.
      return value === "4" || value === "warning" ? [] : [`--log-level ${value}`];
    default:
      return [`${not}${name} ${value}`.trimEnd()];
  }
}

function canonicalNetwork(text: string): string {
  const [address = "", suffix] = text.split("/");
  try {
    const bytes = addressBytes(address);
    const hexadecimal = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return `${hexadecimal}/${prefixLength(suffix, bytes.length * 8)}`;
  } catch {
    return text;
  }
}

/** The length of a prefix that is given as a number, as a mask, or not at all. */
function prefixLength(suffix: string | undefined, full: number): string {
  if (suffix === undefined) return `${full}`;
  if (/^\d+$/.test(suffix)) return suffix;
  const bits = Array.from(addressBytes(suffix), (b) => b.toString(2).padStart(8, "0")).join("");
  const ones = bits.indexOf("0") < 0 ? bits.length : bits.indexOf("0");
  return bits.slice(ones).includes("1") ? suffix : `${ones}`;
}
