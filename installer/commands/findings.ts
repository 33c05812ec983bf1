/** What a look at a node has found, one finding for each fact, and how people are told. */
import type { Style } from "./terminal.ts";

/** How good a fact is. */
export type Grade = "ok" | "warning" | "failure";

/** One fact about the node. */
export interface Finding {
  /** What was looked at, in a few words: a stable name for machines, too. */
  readonly subject: string;
  readonly grade: Grade;
  /** What was found. */
  readonly text: string;
  /** What to do about it. */
  readonly fix?: string;
}

const marks: Readonly<Record<Grade, string>> = { ok: "✓", warning: "!", failure: "✗" };

/** Returns the lines that tell people: a mark, the subject, what was found, and what to do. */
export function findingsText(findings: readonly Finding[], style: Style): string {
  const colors = { ok: style.green, warning: style.yellow, failure: style.red };
  const width = Math.max(...findings.map(({ subject }) => subject.length));
  return findings.flatMap(({ subject, grade, text, fix }) => [
    `${colors[grade](marks[grade])} ${subject.padEnd(width)}  ${text}\n`,
    ...(fix === undefined ? [] : [`  ${" ".repeat(width)}  ${style.dim(`→ ${fix}`)}\n`]),
  ]).join("");
}
