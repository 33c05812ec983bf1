/**
 * What a value may be. A kind is at once the check that the command makes, the words of its message
 * and the JSON schema that Helm checks the same value by.
 */
import { isRecord } from "../../src/json/record.ts";
import { describeValue, type Tree } from "./tree.ts";

/** What is wrong with a value, and where in it. */
export interface Problem {
  /** Full name of the key, for example `cni.podAnnotations.team`. */
  readonly path: string;
  readonly actual: unknown;
  readonly expected: string;
  /** What to do about it, when that is more than to write what is expected. */
  readonly fix?: string;
}

/** What a value may be; `T` is what it then is in TypeScript. */
export interface Kind<T = unknown> {
  /** Completes "expected …". */
  readonly words: string;
  /** JSON schema of draft 7, with patterns that RE2 and JavaScript understand alike. */
  readonly schema: Tree;
  /** What stands for a value that a null has removed; scalars have nothing of the kind. */
  readonly empty?: T;
  /** Finds the first problem of a value. */
  problem(value: unknown, path: string): Problem | undefined;
}

/** Says what is wrong, in one line. */
export function problemText({ path, actual, expected, fix }: Problem): string {
  return `${path} is ${describeValue(actual)}, expected ${expected}${fix ? `; ${fix}` : ""}`;
}

function kind<T>(
  words: string,
  schema: Tree,
  holds: (value: unknown) => boolean,
  fixOf: (value: unknown) => string | undefined = () => undefined,
): Kind<T> {
  return {
    words,
    schema,
    problem(actual, path) {
      if (holds(actual)) return undefined;
      const fix = fixOf(actual);
      return { path, actual, expected: words, ...(fix === undefined ? {} : { fix }) };
    },
  };
}

/** `--set` makes numbers and booleans of what looks like one. */
function quoteFix(value: unknown): string | undefined {
  return typeof value === "number" || typeof value === "boolean"
    ? "use --set-string, or quote it in the file"
    : undefined;
}

/** True or false. */
export const truth: Kind<boolean> = kind(
  "true or false",
  { type: "boolean" },
  (value) => typeof value === "boolean",
  (value) => typeof value === "string" ? "without quotes" : undefined,
);

/** Any text. */
export const text: Kind<string> = textLike("text", "^[^\\x00]*$");

/** Text of a certain form. */
export function textLike(words: string, pattern: string): Kind<string> {
  const expression = new RegExp(pattern, "u");
  return kind(
    words,
    { type: "string", pattern },
    (value) => typeof value === "string" && expression.test(value),
    quoteFix,
  );
}

/** One of several texts. */
export function oneOf<T extends string>(...choices: readonly T[]): Kind<T> {
  const words = choices.length === 1
    ? choices[0]!
    : `${choices.slice(0, -1).join(", ")} or ${choices.at(-1)}`;
  return kind(words, { enum: [...choices] }, (value) => choices.some((choice) => choice === value));
}

/** A whole number in a range. */
export function wholeNumber(least: number, most: number): Kind<number> {
  return kind(
    `a whole number from ${least} to ${most}`,
    { type: "integer", minimum: least, maximum: most },
    (value) => Number.isInteger(value) && Number(value) >= least && Number(value) <= most,
    (value) => typeof value === "string" && /^[0-9]+$/.test(value) ? "without quotes" : undefined,
  );
}

/** A whole number above 0, or a percentage. */
export const countOrPercentage: Kind<number | string> = kind(
  "a whole number above 0, or a percentage such as 10%",
  {
    anyOf: [
      { type: "integer", minimum: 1, maximum: 100_000 },
      { type: "string", pattern: "^([1-9][0-9]?|100)%$" },
    ],
  },
  (value) =>
    typeof value === "string"
      ? /^([1-9][0-9]?|100)%$/.test(value)
      : Number.isInteger(value) && Number(value) >= 1 && Number(value) <= 100_000,
);

/** An absolute path that a hostPath volume may have: without `..` as a part. */
export const path: Kind<string> = textLike(
  "an absolute path, such as /etc/cni/net.d",
  "^(/(\\.?[^./\\x00-\\x1f][^/\\x00-\\x1f]*|\\.\\.[^/\\x00-\\x1f]+))+/?$",
);

/** Name of a namespace, or of something else that follows RFC 1123. */
export const label: Kind<string> = textLike(
  "a name of small letters, digits and -, at most 63",
  "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$",
);

/** The same, or nothing. */
export const optionalLabel: Kind<string> = textLike(
  "a name of small letters, digits and -, at most 40, or nothing",
  "^([a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?)?$",
);

/** A list of one kind of items. */
export function listOf<T>(item: Kind<T>, words: string): Kind<readonly T[]> {
  return {
    words,
    schema: { type: "array", items: item.schema },
    empty: [],
    problem(actual, path) {
      if (!Array.isArray(actual)) {
        return { path, actual, expected: words, fix: "write {A,B} with --set, or - A in a file" };
      }
      return firstProblem(actual, (value, i) => item.problem(value, `${path}[${i}]`));
    },
  };
}

/** A mapping with any keys, whose values are of one kind. */
export function mappingOf<T>(item: Kind<T>, words: string): Kind<Readonly<Record<string, T>>> {
  return {
    words,
    schema: { type: "object", additionalProperties: item.schema },
    empty: {},
    problem(actual, path) {
      if (!isRecord(actual)) return mappingProblem(actual, path, words);
      return firstProblem(
        Object.entries(actual),
        ([key, value]) => item.problem(value, `${path}.${key}`),
      );
    },
  };
}

/** A mapping with certain keys, none of which must be there. */
export function fields(words: string, known: Readonly<Record<string, Kind>>): Kind<Tree> {
  return {
    words,
    schema: {
      type: "object",
      properties: Object.fromEntries(
        Object.entries(known).map(([key, { schema }]) => [key, schema]),
      ),
      additionalProperties: false,
    },
    empty: {},
    problem(actual, path) {
      if (!isRecord(actual)) return mappingProblem(actual, path, words);
      return firstProblem(Object.entries(actual), ([key, value]): Problem | undefined => {
        const at = `${path}.${key}`;
        if (Object.hasOwn(known, key)) return known[key]!.problem(value, at);
        const expected = `none of that name: ${words} has ${Object.keys(known).join(", ")}`;
        return { path: at, actual: value, expected };
      });
    },
  };
}

/** A mapping that nothing is checked of. */
export const anyMapping: Kind<Tree> = {
  words: "a mapping",
  schema: { type: "object" },
  empty: {},
  problem: (actual, path) =>
    isRecord(actual) ? undefined : mappingProblem(actual, path, "a mapping"),
};

function mappingProblem(actual: unknown, path: string, words: string): Problem {
  return { path, actual, expected: words, fix: `write ${path}.KEY=VALUE with --set` };
}

function firstProblem<T>(
  items: readonly T[],
  problemOf: (item: T, index: number) => Problem | undefined,
): Problem | undefined {
  for (const [index, item] of items.entries()) {
    const problem = problemOf(item, index);
    if (problem !== undefined) return problem;
  }
  return undefined;
}
