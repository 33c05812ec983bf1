/**
 * Helm's syntax of `--set`: `a.b=1,c[0].d={x,y}`, with `\` before a character that is meant as
 * itself. What each form gives is Helm's own answer; a test asks the real Helm the same.
 */
import { isRecord, own } from "../../src/json/record.ts";
import { overlay, setMember, type Tree, ValuesError } from "./tree.ts";

/** What the right-hand side becomes. */
export type SetFlag = "--set" | "--set-string" | "--set-json" | "--set-file";

/** Bounds of Helm, without which a single flag could fill the memory. */
const maximumDepth = 30;
const maximumIndex = 65_536;

/**
 * Reads the argument of one flag into a tree.
 *
 * @param flag The flag, which decides what a value becomes.
 * @param argument Its argument.
 * @param base The tree so far; it is left as it is, the result has its members, too.
 * @param readFile Reads the file of a `--set-file`.
 * @throws {ValuesError} naming the flag, the argument and what is wrong.
 */
export function applySet(
  flag: SetFlag,
  argument: string,
  base: Tree,
  readFile: (path: string) => string = () => "",
): Tree {
  const tree = structuredClone(base);
  const fail = (problem: string): never => {
    const shown = argument.length <= 60 ? argument : `${argument.slice(0, 57)}...`;
    throw new ValuesError(`${flag} ${shown}: ${problem}`);
  };
  if (flag === "--set-json" && /^\s*\{/.test(argument)) {
    const whole = parseJson(argument, fail);
    return isRecord(whole) ? overlay(tree, whole) : fail("expected a JSON object");
  }
  const reader = new SetReader(argument, flag, fail, readFile);
  while (!reader.atEnd) reader.readKey(tree, 0);
  return tree;
}

function parseJson(text: string, fail: (problem: string) => never): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return fail(`expected JSON, such as '{"key": "value"}', but it is not`);
  }
}

/** Walks through one argument, character by character. */
class SetReader {
  readonly #characters: readonly string[];
  #position = 0;
  #path = "";

  constructor(
    argument: string,
    readonly flag: SetFlag,
    readonly fail: (problem: string) => never,
    readonly readFile: (path: string) => string,
  ) {
    this.#characters = [...argument];
  }

  get atEnd(): boolean {
    return this.#position >= this.#characters.length;
  }

  /** Reads `key=value`, or the part of it that begins here, into a mapping. */
  readKey(tree: Tree, depth: number): void {
    if (depth > maximumDepth) this.fail(`keys are nested more than ${maximumDepth} deep`);
    if (depth === 0) this.#path = "";
    const { text: key, stop } = this.#until("=[,.");
    this.#path += key;
    if (stop === undefined || stop === ",") {
      this.fail(`"${this.#path}" has no value; write ${this.#path}=VALUE`);
    }
    if (key === "" && stop !== "=") this.fail(`a key is empty; write KEY${stop}…`);
    if (key === "") this.fail("a key is empty; write KEY=VALUE");
    const below = own(tree, key) ?? undefined;
    if (stop === "=") {
      setMember(tree, key, this.#value());
    } else if (stop === "[") {
      const list = below === undefined ? [] : below;
      if (!Array.isArray(list)) this.fail(`"${this.#path}" is not a list, so it has no index`);
      else setMember(tree, key, this.#item(list, depth));
    } else {
      const inner = below === undefined ? {} : below;
      this.#path += ".";
      if (!isRecord(inner)) {
        this.fail(`"${this.#path.slice(0, -1)}" is not a mapping, so nothing is below it`);
      } else {
        this.readKey(inner, depth + 1);
        setMember(tree, key, inner);
      }
    }
  }

  /** Reads the rest of `[index]…` and puts what it says into the list. */
  #item(list: unknown[], depth: number): unknown[] {
    const { text, stop: closing } = this.#until("]");
    const index = /^[0-9]+$/.test(text) ? Number(text) : -1;
    this.#path += `[${text}]`;
    if (closing === undefined || index < 0 || index > maximumIndex) {
      this.fail(`"${this.#path}": expected an index from 0 to ${maximumIndex} in brackets`);
    }
    const { text: rest, stop } = this.#until("[.=");
    if (rest !== "") this.fail(`"${this.#path}": "${rest}" stands behind the index`);
    if (stop === undefined) this.fail(`"${this.#path}" has no value; write ${this.#path}=VALUE`);
    if (stop === "=") return withItem(list, index, this.#value());
    const below = list[index] ?? undefined;
    if (stop === "[") {
      return withItem(list, index, this.#item(Array.isArray(below) ? below : [], depth));
    }
    const inner = isRecord(below) ? below : {};
    this.#path += ".";
    this.readKey(inner, depth + 1);
    return withItem(list, index, inner);
  }

  #value(): unknown {
    if (this.flag === "--set-json") return this.#jsonValue();
    if (this.#characters[this.#position] !== "{") return this.#convert(this.#until(",").text);
    this.#position++;
    const list: unknown[] = [];
    for (;;) {
      const { text, stop } = this.#until(",}");
      if (stop === undefined) this.fail(`the list of "${this.#path}" must end with "}"`);
      list.push(this.#convert(text));
      if (stop === "}") break;
    }
    if (this.#characters[this.#position] === ",") this.#position++;
    return list;
  }

  /** JSON ends where its text does; what follows begins with a comma. */
  #jsonValue(): unknown {
    const rest = this.#characters.slice(this.#position).join("");
    if (rest.trim() === "") return null;
    for (const end of jsonEnds(rest)) {
      try {
        const value: unknown = JSON.parse(rest.slice(0, end));
        this.#position += [...rest.slice(0, end)].length;
        if (!this.atEnd) this.#position++;
        return value;
      } catch {
        // Not the end yet: a comma inside.
      }
    }
    return this.fail(`the value of "${this.#path}" is not JSON; text needs quotes`);
  }

  #convert(text: string): unknown {
    if (this.flag === "--set-string") return text;
    if (this.flag === "--set-file") return this.readFile(text);
    if (/^true$/i.test(text)) return true;
    if (/^false$/i.test(text)) return false;
    if (/^null$/i.test(text)) return null;
    if (text === "0") return 0;
    // A number that JavaScript cannot hold stays text, which is refused by name later.
    const isNumber = /^[+-]?[0-9]+$/.test(text) && !text.startsWith("0");
    return isNumber && Number.isSafeInteger(Number(text)) ? Number(text) : text;
  }

  /** Reads up to one of the characters, which is taken, too; `undefined` at the end. */
  #until(stops: string): { readonly text: string; readonly stop: string | undefined } {
    let text = "";
    while (!this.atEnd) {
      const character = this.#characters[this.#position++]!;
      if (character === "\\") {
        text += this.#characters[this.#position++] ?? "";
      } else if (stops.includes(character)) {
        return { text, stop: character };
      } else {
        text += character;
      }
    }
    return { text, stop: undefined };
  }
}

/** Where a JSON value that begins a text can end: at each comma, and at the end. */
function* jsonEnds(text: string): Generator<number> {
  for (let i = text.indexOf(","); i >= 0; i = text.indexOf(",", i + 1)) yield i;
  yield text.length;
}

function withItem(list: readonly unknown[], index: number, value: unknown): unknown[] {
  const longer = [...list];
  while (longer.length <= index) longer.push(null);
  longer[index] = value;
  return longer;
}
