/** Seeded damage: the same seed gives the same calls, so that what one run finds another can repeat. */

/** Random numbers of a seed (mulberry32). */
export class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A whole number from 0 to below `end`. */
  below(end: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let value = this.#state;
    value = Math.imul(value ^ (value >>> 15), value | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) % end;
  }

  /** Whether one of `times` throws succeeds. */
  once(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
}

/** Values that programs stumble over. */
const oddValues: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  1e308,
  65536,
  "",
  " ",
  "true",
  "\u0000",
  "\ud800",
  "é\u202e",
  "x".repeat(3000),
  "../../etc",
  "__proto__",
  [],
  {},
  [[]],
  [null],
  { name: "kuma-sidecar" },
  { name: "kuma-init" },
];

/** Damages a copy of a JSON value in one place: something odd, missing, doubled, renamed or moved. */
export function damageJson(value: unknown, dice: Dice): unknown {
  const copy = structuredClone(value);
  const places: { readonly parent: Record<string, unknown>; readonly key: string }[] = [];
  const collect = (current: unknown): void => {
    if (typeof current !== "object" || current === null) return;
    for (const key of Object.keys(current)) {
      places.push({ parent: current as Record<string, unknown>, key });
      collect((current as Record<string, unknown>)[key]);
    }
  };
  collect(copy);
  if (places.length === 0) return dice.pick(oddValues);
  const { parent, key } = dice.pick(places);
  switch (dice.below(5)) {
    case 0:
    case 1:
      parent[key] = structuredClone(dice.pick(oddValues));
      break;
    case 2:
      if (Array.isArray(parent)) parent.splice(Number(key), 1);
      else delete parent[key];
      break;
    case 3:
      if (Array.isArray(parent)) parent.push(structuredClone(parent[Number(key)]));
      else {
        parent[dice.once(2) ? key.toUpperCase() : `${key}x`] = parent[key];
        if (dice.once(2)) delete parent[key];
      }
      break;
    case 4: {
      const other = dice.pick(places);
      parent[key] = structuredClone(other.parent[other.key]);
    }
  }
  return copy;
}

/** Damages bytes: flips, cuts, doubles or inserts. */
export function damageBytes(
  bytes: Uint8Array<ArrayBuffer>,
  dice: Dice,
): Uint8Array<ArrayBuffer> {
  const at = dice.below(bytes.length + 1);
  const to = Math.min(bytes.length, at + 1 + dice.below(40));
  const parts = (...pieces: Uint8Array<ArrayBuffer>[]): Uint8Array<ArrayBuffer> => {
    const all = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
    let offset = 0;
    for (const piece of pieces) {
      all.set(piece, offset);
      offset += piece.length;
    }
    return all;
  };
  const [head, middle, tail] = [bytes.slice(0, at), bytes.slice(at, to), bytes.slice(to)];
  switch (dice.below(4)) {
    case 0:
      return head;
    case 1:
      return parts(head, tail);
    case 2:
      return parts(head, middle, middle, tail);
    default:
      return parts(head, Uint8Array.of(dice.pick([0, 0x22, 0x2c, 0x5b, 0x7b, 0x80, 0xff])), tail);
  }
}

/** Damages a text, without NUL, which no environment can hold. */
export function damageText(text: string, dice: Dice): string {
  const odd = ["", "\n", "=", ";", "é", "K8S_POD_NAME=b;", "IgnoreUnknown=0;", "x".repeat(5000)];
  const at = dice.below(text.length + 1);
  const to = Math.min(text.length, at + dice.below(20));
  return text.slice(0, at) + dice.pick(odd) + text.slice(to);
}
