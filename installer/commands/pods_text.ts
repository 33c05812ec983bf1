/** The pods of a node in a table for people. Pure. */
import type { PodRow } from "../ledger/pod_rows.ts";
import type { Style } from "./terminal.ts";

/** Returns the table, and below it each pod that is not as it should be, with the reason. */
export function podsText(rows: readonly PodRow[], wide: boolean, style: Style): string {
  if (rows.length === 0) return "No pods\n";
  const head = ["POD", "MESHED", "ENGINE", "RULES", "REDIRECTED", "AGE"];
  const more = ["CONFIGURATION", "VERSION", "SANDBOX", "NETNS", "WHY"];
  const table = [
    wide ? [...head, ...more] : head,
    ...rows.map((row) => [...cellsOf(row), ...(wide ? moreCellsOf(row) : [])]),
  ];
  const widths = table[0]!.map((_, column) =>
    Math.max(...table.map((line) => line[column]!.length))
  );
  const lines = table.map((line, at) => {
    const text = line.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd();
    return at === 0 ? style.bold(text) : isWrong(rows[at - 1]!) ? style.red(text) : text;
  });
  const reasons = rows.filter((row) => isWrong(row) || row.isOutdated === true).map((row) =>
    `${row.namespace}/${row.name}: ${reasonOf(row)}`
  );
  return [...lines, ...(reasons.length === 0 ? [] : ["", ...reasons])].join("\n") + "\n";
}

/** One pod, each fact in a line. */
export function podText(row: PodRow): string {
  const facts: readonly (readonly [string, string | undefined])[] = [
    ["meshed", `${row.meshed}: ${row.why}`],
    ["engine", row.engine],
    ["rules", row.rules && (row.detail === undefined ? row.rules : `${row.rules}: ${row.detail}`)],
    ["redirected", redirectedText(row)],
    ["age", ageText(row.ageSeconds)],
    ["configuration", row.configuration && configurationOf(row)],
    ["version", row.version],
    ["sandbox", row.sandbox],
    ["netns", row.netns],
  ];
  const lines = facts.flatMap(([name, text]) =>
    text === undefined ? [] : [`  ${name.padEnd(13)}  ${text}`]
  );
  return [`Pod ${row.namespace}/${row.name}`, ...lines].join("\n") + "\n";
}

/** Tells whether somebody should look at the pod. */
export function isWrong({ meshed, rules }: PodRow): boolean {
  return meshed === "unknown" || rules === "drifted";
}

function cellsOf(row: PodRow): string[] {
  const { namespace, name, meshed, engine = "-", rules = "-", ageSeconds } = row;
  return [
    `${namespace}/${name}`,
    meshed,
    engine,
    rules,
    redirectedText(row) ?? "-",
    ageText(ageSeconds),
  ];
}

function moreCellsOf(
  { configuration = "-", version = "-", sandbox = "-", ...row }: PodRow,
): string[] {
  return [configuration, version, sandbox.slice(0, 12), row.netns ?? "-", row.why];
}

function reasonOf(row: PodRow): string {
  if (isWrong(row)) return row.detail ?? row.why;
  return "its annotations or this node's settings ask for other rules than those it started with; " +
    "recreate it";
}

function configurationOf({ configuration, isOutdated }: PodRow): string {
  return isOutdated === true
    ? `${configuration}, and another one is asked for now`
    : `${configuration}`;
}

function redirectedText({ redirected }: PodRow): string | undefined {
  if (redirected === undefined) return undefined;
  const { outbound, inbound, dns } = redirected;
  return `out ${outbound}, in ${inbound}, dns ${dns}`;
}

/** An age as kubectl writes it: `42s`, `7m`, `3h`, `12d`. */
export function ageText(seconds: number | undefined): string {
  if (seconds === undefined) return "-";
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 2 * 3600) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86400)}d`;
}
