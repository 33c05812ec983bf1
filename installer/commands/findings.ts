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

/**
 * Returns the lines that tell people: a mark, the subject, what was found, and what to do.
 *
 * @param named Whether each finding's name is told, by which docs/doctor.md has it.
 */
export function findingsText(
  findings: readonly Finding[],
  style: Style,
  named = false,
): string {
  const colors = {
    ok: style.green,
    note: style.dim,
    unknown: style.dim,
    warning: style.yellow,
    failure: style.red,
  };
  const width = Math.max(...findings.map(({ subject }) => subject.length));
  const name = (code: Finding["code"]) =>
    named && code !== undefined && code !== "not-seen" ? style.dim(` [${code}]`) : "";
  return findings.flatMap(({ subject, grade, text, fix, code }) => [
    `${colors[grade](marks[grade])} ${subject.padEnd(width)}  ${text}${name(code)}\n`,
    ...(fix === undefined ? [] : [`  ${" ".repeat(width)}  ${style.dim(`→ ${fix}`)}\n`]),
  ]).join("");
}
