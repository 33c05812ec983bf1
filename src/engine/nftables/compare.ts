/** Compares encoded tables with what is installed. */
import type { NetlinkSocket } from "../../linux/netlink.ts";
import { sameBytes } from "../../linux/netlink_message.ts";
import type { Difference } from "../engine.ts";
import { NF_ACCEPT } from "../../linux/nf_tables.ts";
import { describeExpressions, type SetResolver } from "./describe.ts";
import { type EncodedChain, type EncodedRule, type EncodedTable, hookNumber } from "./encode.ts";
import {
  describePortSet,
  type InstalledChain,
  type InstalledTable,
  readChains,
  readSet,
  readTables,
} from "./read_back.ts";
import type { NftFamily } from "./plan.ts";
import { ruleWords } from "./words.ts";

/**
 * Reads back and compares; an empty list means that exactly the expected tables are there.
 *
 * @throws {LinuxError} when the kernel refuses.
 */
export function compareTables(
  socket: NetlinkSocket,
  expected: readonly EncodedTable[],
  installed: readonly InstalledTable[] = readTables(socket),
): Difference[] {
  const differences: Difference[] = [];
  for (const table of installed) {
    if (!expected.some(({ family }) => family === table.family)) {
      differences.push({ kind: "unexpected", object: `table ${table.family} ${table.name}` });
    }
  }
  for (const table of expected) {
    const object = `table ${table.family} ${table.name}`;
    const found = installed.find(({ family }) => family === table.family);
    if (found === undefined) {
      differences.push({ kind: "missing", object });
      continue;
    }
    if (found.flags !== 0) {
      const actual = `flags ${found.flags}${(found.flags & 1) === 0 ? "" : " (dormant)"}`;
      differences.push({ kind: "changed", object, expected: "flags 0", actual });
    }
    differences.push(...compareChains(socket, table));
  }
  return differences;
}

function compareChains(socket: NetlinkSocket, table: EncodedTable): Difference[] {
  const installed = new Map(readChains(socket, table.family).map((chain) => [chain.name, chain]));
  const place = `${table.family} ${table.name}`;
  const differences: Difference[] = [];
  const resolve = setReader(socket, table);
  for (const chain of table.chains) {
    const object = `${place} ${chain.name}`;
    const found = installed.get(chain.name);
    installed.delete(chain.name);
    if (found === undefined) {
      differences.push({ kind: "missing", object, expected: describeExpected(chain) });
      continue;
    }
    const [expected, actual] = [describeExpected(chain), describeInstalled(found)];
    if (expected !== actual) differences.push({ kind: "changed", object, expected, actual });
    differences.push(...compareRules(object, table.family, chain.rules, found.rules, resolve));
  }
  for (const [name, chain] of installed) {
    const object = `${place} ${name}`;
    differences.push({ kind: "unexpected", object, actual: describeInstalled(chain) });
  }
  return differences;
}

/** Length of the text of others' sets that is read beside that of ours. */
const othersSets = 16 * 1024;

/**
 * Reads each set once, and no more of them all than anybody needs: whoever may write to the table can
 * fill large sets, and name each in many rules.
 */
function setReader(socket: NetlinkSocket, { family, chains }: EncodedTable): SetResolver {
  const known = new Map<string, string>();
  const ours = () => chains.flatMap(({ rules }) => rules).flatMap(({ sets }) => sets);
  let left: number | undefined;
  return (name) => {
    const before = known.get(name);
    if (before !== undefined) return before;
    left ??= ours().reduce((sum, set) => sum + describePortSet(set).length, othersSets);
    const text = left > 0 ? readSet(socket, family, name) : "more than is read";
    left -= text.length;
    const kept = left > 0 ? text : "more than is read";
    known.set(name, kept);
    return kept;
  };
}

function describeExpected({ hook }: EncodedChain): string {
  if (hook === undefined) return "regular chain";
  return describeBase(hook.type, hookNumber(hook.hook), hook.priority, NF_ACCEPT);
}

function describeInstalled({ hook, type, policy }: InstalledChain): string {
  if (hook === undefined) return "regular chain";
  return describeBase(type ?? "?", hook.number, hook.priority, policy);
}

function describeBase(
  type: string,
  hook: number,
  priority: number,
  policy: number | undefined,
): string {
  const policies: Record<number, string> = { 0: "drop", 1: "accept" };
  return `type ${type} hook ${hook} priority ${priority} policy ${
    policies[policy ?? -1] ?? policy
  }`;
}

function compareRules(
  chain: string,
  family: NftFamily,
  expected: readonly EncodedRule[],
  installed: readonly Uint8Array[],
  resolve: SetResolver,
): Difference[] {
  // What the kernel gives back is nearly always byte for byte what was sent.
  if (
    expected.length === installed.length &&
    expected.every((rule, index) => isAsSent(rule, installed[index]!, resolve))
  ) return [];
  const want = expected.map((rule) =>
    describeExpressions(rule.expressions, setsOf(rule)).join("; ")
  );
  const have = installed.map((rule) => describeExpressions(rule, resolve).join("; "));
  const expectedWords = (index: number) =>
    ruleWords(expected[index]!.expressions, family, setsOf(expected[index]!));
  const actualWords = (index: number) => ruleWords(installed[index]!, family, resolve);
  const differences: Difference[] = [];
  const at = (index: number) => `${chain} rule ${index + 1} (${expected[index]!.id})`;
  let [i, j] = [0, 0];
  while (i < want.length || j < have.length) {
    const [next, found] = [want[i], have[j]];
    if (next === found) {
      i++, j++;
    } else if (next === undefined || (found !== undefined && have.indexOf(next, j) !== -1)) {
      const object = `${chain} at position ${j + 1}`;
      differences.push({ kind: "unexpected", object, actual: actualWords(j) });
      j++;
    } else if (found === undefined || want.indexOf(found, i) !== -1) {
      differences.push({ kind: "missing", object: at(i), expected: expectedWords(i) });
      i++;
    } else {
      const [words, actual] = [expectedWords(i), actualWords(j)];
      // Somebody may have changed what these words do not say.
      const more = withoutCounter(words) === withoutCounter(actual)
        ? " and something that has no words"
        : "";
      differences.push({ kind: "changed", object: at(i), expected: words, actual: actual + more });
      i++, j++;
    }
  }
  return differences;
}

/** A redirection that does not count is no difference, so it is not the one to be told. */
function withoutCounter(words: string): string {
  return words.replace("counter redirect ", "redirect ");
}

/**
 * A rule with sets is compared by its words, since the kernel gives the sets their names; so is one
 * that has counted meanwhile.
 */
function isAsSent(rule: EncodedRule, installed: Uint8Array, resolve: SetResolver): boolean {
  if (rule.sets.length === 0 && sameBytes(rule.expressions, installed)) return true;
  return describeExpressions(rule.expressions, setsOf(rule)).join("; ") ===
    describeExpressions(installed, resolve).join("; ");
}

/** Sets of a rule that is to be sent have no names yet. */
function setsOf({ sets }: EncodedRule): SetResolver {
  return (name, id) => {
    const set = sets.find((candidate) => candidate.id === id);
    return set === undefined ? name : describePortSet(set);
  };
}
