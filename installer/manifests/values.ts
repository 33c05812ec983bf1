/** Values of one installation: laid over the defaults and checked against their declarations. */
import { isRecord, own } from "../../src/json/record.ts";
import { nearestName } from "../../src/text/nearest.ts";
import { declaredValues, valueDeclarations, type ValueName, type ValueOf } from "./declarations.ts";
import { elsewhere } from "./value_declaration.ts";
import { type Condition, type ValueRule, valueRules } from "./value_rules.ts";
import { problemText } from "./kinds.ts";
import { describeValue, overlay, setMember, type Tree, ValuesError, withoutNulls } from "./tree.ts";

/** Checked values. */
export class Values {
  /** @param tree All values, checked; see {@linkcode resolveValues}. */
  constructor(readonly tree: Tree) {}

  /** Reads one value. */
  get<N extends ValueName>(name: N): ValueOf<N> {
    const { kind } = valueDeclarations[name];
    return (memberAt(this.tree, name) ?? kind.empty) as ValueOf<N>;
  }
}

/** Returns the defaults of all values. */
export function defaultValues(): Tree {
  const tree: Tree = {};
  for (const [name, declaration] of declaredValues()) {
    setAt(tree, name, structuredClone(declaration.default));
  }
  return tree;
}

/**
 * Lays what a user gave over the defaults and checks it.
 *
 * @param given Values of the user; a null takes a default away.
 * @throws {ValuesError} with the first thing that is wrong.
 */
export function resolveValues(given: Tree): Values {
  const wrong = keyProblem(given, "");
  if (wrong !== undefined) throw new ValuesError(wrong);
  const tree = withoutNulls(overlay(defaultValues(), given));
  for (const [name, { kind }] of declaredValues()) {
    const actual = memberAt(tree, name);
    if (actual === undefined && kind.empty !== undefined) continue;
    const problem = kind.problem(actual, name);
    if (problem !== undefined) throw new ValuesError(problemText(problem));
  }
  const broken = valueRules.find((rule) => isBroken(rule, tree));
  if (broken !== undefined) {
    const { path, expected } = broken;
    throw new ValuesError(problemText({ path, actual: memberAt(tree, path), expected }));
  }
  return new Values(tree);
}

/** Returns the full names of what was given although nothing here has a place for it. */
export function valuesForElsewhere(given: Tree): string[] {
  return declaredValues()
    .filter(([, { goesTo }]) => goesTo === elsewhere)
    .flatMap(([name]) => leavesOf(memberAt(given, name), name));
}

function leavesOf(value: unknown, path: string): string[] {
  if (value === undefined || value === null) return [];
  if (!isRecord(value)) return [path];
  return Object.entries(value).flatMap(([key, below]) => leavesOf(below, `${path}.${key}`));
}

/** Reads the member that a full name leads to. */
export function memberAt(tree: Tree, path: string): unknown {
  let current: unknown = tree;
  for (const key of path.split(".")) {
    if (!isRecord(current)) return undefined;
    current = own(current, key);
  }
  return current;
}

/** Sets the member that a full name leads to, and the mappings on the way. */
export function setAt(tree: Tree, path: string, value: unknown): void {
  const keys = path.split(".");
  const last = keys.pop()!;
  let current = tree;
  for (const key of keys) {
    const below = own(current, key);
    const next: Tree = isRecord(below) ? below : {};
    setMember(current, key, next);
    current = next;
  }
  setMember(current, last, value);
}

function isBroken({ brokenBy }: ValueRule, tree: Tree): boolean {
  const holds = (condition: Condition, actual: unknown) =>
    "is" in condition
      ? actual === condition.is
      : typeof actual === "string" && new RegExp(condition.fits, "u").test(actual);
  return Object.entries(brokenBy).every(([path, condition]) =>
    holds(condition, memberAt(tree, path))
  );
}

/** Finds a key that no declaration has, or one above others that is no mapping. */
function keyProblem(tree: Tree, prefix: string): string | undefined {
  for (const [key, value] of Object.entries(tree)) {
    const path = `${prefix}${key}`;
    if (Object.hasOwn(valueDeclarations, path)) continue;
    const below = declaredValues().find(([name]) => name.startsWith(`${path}.`))?.[0];
    if (below === undefined) {
      // Helm hands all of "global" to each chart, whoever its keys are for.
      if (prefix === "global.") continue;
      const nearest = nearestValue(path);
      return `${path} is not a value of kuma-cni` +
        (nearest === undefined ? "; --help lists all" : `, did you mean ${nearest}?`);
    }
    if (value === null) continue;
    if (!isRecord(value)) {
      return `${path} is ${
        describeValue(value)
      }, expected a mapping; write ${below}=VALUE with --set`;
    }
    const problem = keyProblem(value, `${path}.`);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** A right key in the wrong place is as likely as a mistyped one. */
function nearestValue(path: string): string | undefined {
  const names = declaredValues().map(([name]) => name);
  const lastPart = (name: string) => name.slice(name.lastIndexOf(".") + 1);
  const byLastPart = new Map(names.map((name) => [lastPart(name), name]));
  const found = nearestName(lastPart(path), byLastPart.keys());
  return nearestName(path, names) ?? (found === undefined ? undefined : byLastPart.get(found));
}
