/** The sections of docs/verification.md, each written by the run of a tier (pure). */

/** One check that a run has made. */
export interface Check {
  readonly name: string;
  readonly passed: boolean;
  readonly milliseconds: number;
}

/** What a run of a tier has to say. */
export interface Run {
  readonly checks: readonly Check[];
  readonly seconds: number;
  /** What it ran on: versions and figures, a line each. */
  readonly facts: readonly string[];
}

/**
 * Reads the checks out of the JUnit report of `deno test`.
 *
 * @param xml The report; its steps stand behind their test.
 * @param success Whether the process has ended well: if not, at least one check has failed.
 */
export function checksOf(xml: string, success: boolean): Check[] {
  const checks: Check[] = [];
  const cases = xml.matchAll(
    /<testcase name="([^"]*)"[^>]*?time="([^"]*)"[^>]*?(\/>|>[\s\S]*?<\/testcase>)/g,
  );
  for (const [, name = "", time, body = ""] of cases) {
    if (/<skipped/.test(body)) continue;
    const failed = /<(failure|error)\b/.test(body);
    checks.push({ name: unescaped(name), passed: !failed, milliseconds: Number(time) * 1000 });
  }
  // A test that has passed is told by its steps; one that failed may have done so outside of them.
  const shown = checks.filter(({ name, passed }) =>
    !passed || !checks.some((other) => other.name.startsWith(`${name} > `))
  );
  if (!success && checks.every(({ passed }) => passed)) {
    shown.push({ name: "the process of the tests ends well", passed: false, milliseconds: 0 });
  }
  return shown;
}

function unescaped(text: string): string {
  return text.replaceAll("&quot;", '"').replaceAll("&apos;", "'").replaceAll("&lt;", "<")
    .replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

/** The Markdown of a tier's section. */
export function sectionOf({ checks, seconds, facts }: Run): string {
  const good = checks.filter(({ passed }) => passed).length;
  const rows = checks.map(({ name, passed, milliseconds }) =>
    `| ${name.replaceAll("|", "\\|")} | ${passed ? "passed" : "**failed**"} | ${
      (milliseconds / 1000).toFixed(1)
    } s |`
  );
  return [
    `${good} of ${checks.length} checks passed in ${(seconds / 60).toFixed(1)} minutes.`,
    "",
    ...facts.map((fact) => `- ${fact}`),
    "",
    "| check | result | time |",
    "| --- | --- | --- |",
    ...rows,
  ].join("\n");
}

/**
 * Puts a section into the document, in place of the tier's older one or at the end.
 *
 * @param text The document; a section stands between two comments that name the tier.
 */
export function withSection(text: string, tier: string, section: string): string {
  const [begin, end] = [`<!-- begin of ${tier} -->`, `<!-- end of ${tier} -->`];
  const whole = `${begin}\n\n${section}\n\n${end}`;
  const from = text.indexOf(begin);
  const to = text.indexOf(end);
  if (from >= 0 && to > from) return text.slice(0, from) + whole + text.slice(to + end.length);
  return `${text.trimEnd()}\n\n## \`${tier}\`\n\n${whole}\n`;
}

/** What begins the line about a part that a run had to make, before its name and two times. */
export const madePart = "made";

/**
 * Reads what a run's tests have noted, a line each: facts, and the parts that were made for it.
 *
 * @returns The facts, each once, and one more about these parts.
 */
export function factsIn(text: string): string[] {
  const lines = [...new Set(text.split("\n").filter((line) => line !== ""))];
  const made = lines.map((line) => line.split(" ")).filter(([first]) => first === madePart)
    .map(([, name, begin, end]) => ({ name, begin: Number(begin), end: Number(end) }))
    .sort((a, b) => a.begin - b.begin);
  const facts = lines.filter((line) => !line.startsWith(`${madePart} `));
  if (made.length === 0) return facts;
  // One part is made while another waits for it.
  let milliseconds = 0;
  let covered = 0;
  for (const { begin, end } of made) {
    milliseconds += Math.max(0, end - Math.max(begin, covered));
    covered = Math.max(covered, end);
  }
  const names = made.map(({ name }) => name).join(", ");
  const minutes = (milliseconds / 60_000).toFixed(1);
  return [...facts, `${minutes} minutes of it to fetch and build what the cache had not: ${names}`];
}
