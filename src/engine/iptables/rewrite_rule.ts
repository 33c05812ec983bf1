/**
 * Rules that were read from a namespace, written again for `iptables-restore`. Whoever may change
 * the pod's rules can have put any text into them, and that tool takes options in a rule that would
 * run a program on the host (`--modprobe`): only what our own rules consist of passes.
 */
import { EngineError } from "../engine.ts";
import { parseOptions } from "./saved_rules.ts";

/** Options of our rules and the reference implementation's; each has exactly one value. */
function isKnownOption(name: string): boolean {
  switch (name) {
    case "-s":
    case "-d":
    case "-i":
    case "-o":
    case "-p":
    case "-m":
    case "-j":
    case "-g":
    case "--sport":
    case "--dport":
    case "--sports":
    case "--dports":
    case "--uid-owner":
    case "--ctstate":
    case "--comment":
    case "--to-ports":
    case "--zone":
    case "--log-prefix":
    case "--log-level":
      return true;
    default:
      return false;
  }
}

/** Names of matches, targets and chains become file names of the tool's modules. */
function isPlainName(name: string): boolean {
  return /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name);
}

/**
 * Writes a rule that was read, option by option.
 *
 * @param place where it is, for messages
 * @param rule its text without `-A CHAIN`
 * @throws {EngineError} when it has anything that no rule of ours can have
 */
export function rewriteRule(place: string, rule: string): string {
  return parseOptions(rule).map(({ negated, name, values }) => {
    const [value] = values;
    const named = name === "-m" || name === "-j" || name === "-g";
    if (
      value === undefined || values.length !== 1 || !isKnownOption(name) ||
      (named && !isPlainName(value)) || hasControlCharacter(value)
    ) {
      throw new EngineError(
        `Cannot remove a rule from ${place}: It is marked as ours but has the option ` +
          `${
            JSON.stringify([name, ...values].join(" "))
          }, which no rule of ours has; remove it by ` +
          `hand: ${JSON.stringify(rule)}`,
        "iptables",
      );
    }
    return `${negated ? "! " : ""}${name} ${quoted(value)}`;
  }).join(" ");
}

/**
 * Passes a chain's name that was read.
 *
 * @throws {EngineError} when it could be taken for something else than a name
 */
export function checkChainName(name: string): string {
  return checkName("chain", name);
}

/**
 * Passes a table's name that was read.
 *
 * @throws {EngineError} when it could be taken for something else than a name
 */
export function checkTableName(name: string): string {
  return checkName("table", name);
}

function checkName(kind: string, name: string): string {
  if (isPlainName(name)) return name;
  throw new EngineError(
    `Cannot remove our rules from the ${kind} ${
      JSON.stringify(name)
    }: No ${kind} of ours has such ` +
      `a name; remove them by hand`,
    "iptables",
  );
}

function hasControlCharacter(text: string): boolean {
  // deno-lint-ignore no-control-regex -- exactly the characters that could start another line
  return /[\u0000-\u001f\u007f]/.test(text);
}

function quoted(value: string): string {
  return /^[A-Za-z0-9_.:,/+][A-Za-z0-9_.:,/+-]*$/.test(value)
    ? value
    : `"${value.replace(/["\\]/g, "\\$&")}"`;
}
