/** How people are told what a look at a node has found. */
import type { Finding, Grade } from "../doctor/finding.ts";
import type { Style } from "./terminal.ts";

const marks: Readonly<Record<Grade, string>> = {
  ok: "✓",
  note: "·",
  unknown: "?",
  warning: "!",
  failure: "✗",
};

/** Returns the lines that tell people: a mark, the subject, what was found, and what to do. */
export function findingsText(findings: readonly Finding[], style: Style): string {
  const colors = {
    ok: style.green,
    note: style.dim,
    unknown: style.dim,
    warning: style.yellow,
    failure: style.red,
  };
  const width = Math.max(...findings.map(({ subject }) => subject.length));
  return findings.flatMap(({ subject, grade, text, fix }) => [
    `${colors[grade](marks[grade])} ${subject.padEnd(width)}  ${text}\n`,
    ...(fix === undefined ? [] : [`  ${" ".repeat(width)}  ${style.dim(`→ ${fix}`)}\n`]),
  ]).join("");
}
