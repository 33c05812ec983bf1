/**
 * Writes programs for the kernel's BPF machine: eleven registers, a stack of 512 bytes, jumps that
 * only go forward here. Facts: `Documentation/bpf/standardization/instruction-set.rst`, `linux/bpf.h`.
 */

/** A register. */
export interface Register {
  readonly index: number;
}

const register = (index: number): Register => ({ index });

/** The result of a call, and of the program. */
export const r0 = register(0);
/** Arguments of calls; calls destroy them. */
export const r1 = register(1);
export const r2 = register(2);
export const r3 = register(3);
export const r4 = register(4);
export const r5 = register(5);
/** Kept by calls. */
export const r6 = register(6);
export const r7 = register(7);
export const r8 = register(8);
export const r9 = register(9);
/** The end of the stack: all places have negative offsets. */
export const stack = register(10);

/** Functions of the kernel, by their numbers. */
export const Helper = {
  mapLookup: 1,
  mapUpdate: 2,
  mapDelete: 3,
  currentUidGid: 15,
  sockMapUpdate: 53,
  sockOpsCallbackFlags: 59,
  bind: 64,
  socketRelease: 86,
  socketStorage: 107,
  socketStorageDelete: 108,
  socketAssign: 124,
} as const;

/** Widths of memory accesses. */
const WIDTH = { byte: 0x10, half: 0x08, word: 0x00, double: 0x18 } as const;
type Width = keyof typeof WIDTH;

const CONDITION = { "==": 0x10, ">": 0x20, "!=": 0x50, "<": 0xa0 } as const;
/** Comparisons are unsigned. */
export type Condition = keyof typeof CONDITION;

const ARITHMETIC = { add: 0x00, or: 0x40, and: 0x50, shiftRight: 0x70, move: 0xb0 } as const;
type Arithmetic = keyof typeof ARITHMETIC;

const ALU64 = 0x07;
const ALU32 = 0x04;
const JUMP64 = 0x05;
const JUMP32 = 0x06;
const FROM_REGISTER = 0x08;
const TO_BIG_ENDIAN = 0xdc;
const LOAD = 0x61;
const STORE = 0x63;
const STORE_NUMBER = 0x62;
const ATOMIC_DOUBLE = 0xdb;
const LOAD_MAP = 0x18;
const MAP_BY_DESCRIPTOR = 1;
const JUMP_ALWAYS = 0x05;
const CALL = 0x85;
const EXIT = 0x95;

const FARTHEST_JUMP = 0x7fff;
const INSTRUCTION_BYTES = 8;

interface Instruction {
  readonly code: number;
  readonly destination: number;
  readonly source: number;
  readonly offset: number;
  readonly number: number;
  /** Where it jumps to. */
  readonly label?: string;
  /** Which map it loads. */
  readonly map?: string;
  readonly text: string;
}

/** A program has more instructions than a jump can cross. */
export class ProgramTooLongError extends Error {
  override readonly name = "ProgramTooLongError";
}

/**
 * Collects instructions. What cannot be reached is left out, since the kernel refuses programs with
 * such instructions: behind a jump or an exit nothing counts until a label that is jumped to.
 */
export class Assembler {
  readonly #instructions: Instruction[] = [];
  readonly #labels = new Map<string, number>();
  readonly #targets = new Set<string>();
  readonly #remarks = new Map<number, string[]>();
  #reachable = true;
  #fresh = 0;

  /** Returns the name of a label that nobody else uses. */
  freshLabel(what: string): string {
    return `${what}_${++this.#fresh}`;
  }

  /** Whether the next instruction can be reached. */
  get reachable(): boolean {
    return this.#reachable;
  }

  /** Whether anything reachable jumps to a label. */
  isTarget(label: string): boolean {
    return this.#targets.has(label);
  }

  /** Puts a label before the next instruction. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new TypeError(`There are two labels "${name}"`);
    if (this.#targets.has(name)) this.#reachable = true;
    this.#labels.set(name, this.#instructions.length);
    return this;
  }

  /** Says something about the next instruction, for {@linkcode listing}. */
  remark(text: string): this {
    if (!this.#reachable) return this;
    const at = this.#instructions.length;
    this.#remarks.set(at, [...this.#remarks.get(at) ?? [], text]);
    return this;
  }

  /** `to = from`, all 64 bits. */
  move(to: Register, from: Register | number): this {
    return this.#arithmetic(ALU64, "move", to, from);
  }

  /** `to = from`, the lower 32 bits; the others become zero. */
  move32(to: Register, from: Register | number): this {
    return this.#arithmetic(ALU32, "move", to, from);
  }

  add(to: Register, number: Register | number): this {
    return this.#arithmetic(ALU64, "add", to, number);
  }

  or(to: Register, number: Register | number): this {
    return this.#arithmetic(ALU64, "or", to, number);
  }

  or32(to: Register, number: Register | number): this {
    return this.#arithmetic(ALU32, "or", to, number);
  }

  and32(to: Register, number: Register | number): this {
    return this.#arithmetic(ALU32, "and", to, number);
  }

  shiftRight32(to: Register, number: number): this {
    return this.#arithmetic(ALU32, "shiftRight", to, number);
  }

  /** Turns a port of the network's byte order into the machine's, or back. */
  swapPort(port: Register): this {
    return this.#emit({
      ...{ code: TO_BIG_ENDIAN, destination: port.index, source: 0, offset: 0, number: 16 },
      text: `${name(port)} = be16 ${name(port)}`,
    });
  }

  /** `to = *(width*)(base + offset)` */
  load(width: Width, to: Register, base: Register, offset: number): this {
    return this.#emit({
      ...{ code: LOAD | WIDTH[width], destination: to.index, source: base.index, offset },
      number: 0,
      text: `${name(to)} = ${place(width, base, offset)}`,
    });
  }

  /** `*(width*)(base + offset) = value` */
  store(width: Width, base: Register, offset: number, value: Register | number): this {
    const number = typeof value === "number";
    return this.#emit({
      code: (number ? STORE_NUMBER : STORE) | WIDTH[width],
      destination: base.index,
      source: number ? 0 : value.index,
      offset,
      number: number ? value : 0,
      text: `${place(width, base, offset)} = ${operand(value)}`,
    });
  }

  /** Adds to 64 bits of memory as one step for all processors. */
  atomicAdd(base: Register, offset: number, value: Register): this {
    return this.#emit({
      ...{ code: ATOMIC_DOUBLE, destination: base.index, source: value.index, offset, number: 0 },
      text: `lock ${place("double", base, offset)} += ${name(value)}`,
    });
  }

  /** Jumps when a comparison of all 64 bits holds, for example of a pointer with zero. */
  jumpIf(left: Register, condition: Condition, right: Register | number, label: string): this {
    return this.#jump(JUMP64, left, condition, right, label);
  }

  /** Jumps when a comparison of the lower 32 bits holds. */
  jumpIf32(left: Register, condition: Condition, right: Register | number, label: string): this {
    return this.#jump(JUMP32, left, condition, right, label);
  }

  /** Jumps. */
  jump(label: string): this {
    if (!this.#reachable) return this;
    this.#targets.add(label);
    this.#emit({
      ...{ code: JUMP_ALWAYS, destination: 0, source: 0, offset: 0, number: 0, label },
      text: `goto ${label}`,
    });
    this.#reachable = false;
    return this;
  }

  /** Loads the address of a map, which the loader knows by its name. */
  loadMap(to: Register, map: string): this {
    this.#emit({
      ...{ code: LOAD_MAP, destination: to.index, source: MAP_BY_DESCRIPTOR, offset: 0, number: 0 },
      map,
      text: `${name(to)} = map ${map}`,
    });
    // The upper half of the number is an instruction of its own.
    return this.#emit({ code: 0, destination: 0, source: 0, offset: 0, number: 0, text: "" });
  }

  /** Calls a function of the kernel. */
  call(helper: number): this {
    const known = Object.entries(Helper).find(([, number]) => number === helper)?.[0];
    return this.#emit({
      ...{ code: CALL, destination: 0, source: 0, offset: 0, number: helper },
      text: `call ${known ?? helper}`,
    });
  }

  /** Ends with a result. */
  exit(result: number): this {
    if (!this.#reachable) return this;
    this.move(r0, result);
    this.#emit({ code: EXIT, destination: 0, source: 0, offset: 0, number: 0, text: "exit" });
    this.#reachable = false;
    return this;
  }

  /** Number of instructions. */
  get length(): number {
    return this.#instructions.length;
  }

  /** The maps that the program uses. */
  get maps(): readonly string[] {
    return [...new Set(this.#instructions.flatMap(({ map }) => map ?? []))];
  }

  /**
   * Encodes the program.
   *
   * @param maps file descriptor of each map
   * @throws {TypeError} for a label or a map that is missing.
   * @throws {ProgramTooLongError} when a jump goes too far.
   */
  assemble(maps: ReadonlyMap<string, number>): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(this.#instructions.length * INSTRUCTION_BYTES);
    const view = new DataView(bytes.buffer);
    for (const [index, instruction] of this.#instructions.entries()) {
      const at = index * INSTRUCTION_BYTES;
      view.setUint8(at, instruction.code);
      view.setUint8(at + 1, instruction.destination | instruction.source << 4);
      view.setInt16(at + 2, this.#distance(instruction, index), true);
      view.setInt32(at + 4, this.#numberOf(instruction, maps) | 0, true);
    }
    return bytes;
  }

  /** The program as text, one instruction in a line, with its remarks. */
  listing(): string {
    const lines: string[] = [];
    const labels = Map.groupBy(
      [...this.#labels].filter(([label]) => this.#targets.has(label)),
      ([, at]) => at,
    );
    for (const [index, { text }] of this.#instructions.entries()) {
      for (const [label] of labels.get(index) ?? []) lines.push(`${label}:`);
      for (const remark of this.#remarks.get(index) ?? []) lines.push(`  ; ${remark}`);
      if (text !== "") lines.push(`  ${text}`);
    }
    return lines.join("\n") + "\n";
  }

  #distance({ label, offset }: Instruction, index: number): number {
    if (label === undefined) return offset;
    const target = this.#labels.get(label);
    if (target === undefined) throw new TypeError(`There is no label "${label}"`);
    const distance = target - index - 1;
    if (distance > FARTHEST_JUMP) {
      throw new ProgramTooLongError(
        `A jump to "${label}" crosses ${distance} instructions, of which ${FARTHEST_JUMP} can be`,
      );
    }
    return distance;
  }

  #numberOf({ map, number }: Instruction, maps: ReadonlyMap<string, number>): number {
    if (map === undefined) return number;
    const descriptor = maps.get(map);
    if (descriptor === undefined) throw new TypeError(`There is no map "${map}"`);
    return descriptor;
  }

  #arithmetic(
    kind: number,
    operation: Arithmetic,
    to: Register,
    from: Register | number,
  ): this {
    const number = typeof from === "number";
    const [wide, sign] = [kind === ALU64 ? "" : "32", SIGNS[operation]];
    return this.#emit({
      code: kind | ARITHMETIC[operation] | (number ? 0 : FROM_REGISTER),
      destination: to.index,
      source: number ? 0 : from.index,
      offset: 0,
      number: number ? from : 0,
      text: `${name(to)} ${sign}${wide} ${operand(from)}`,
    });
  }

  #jump(
    kind: number,
    left: Register,
    condition: Condition,
    right: Register | number,
    label: string,
  ): this {
    if (!this.#reachable) return this;
    this.#targets.add(label);
    const number = typeof right === "number";
    return this.#emit({
      code: kind | CONDITION[condition] | (number ? 0 : FROM_REGISTER),
      destination: left.index,
      source: number ? 0 : right.index,
      offset: 0,
      number: number ? right : 0,
      label,
      text: `if ${name(left)} ${condition}${kind === JUMP64 ? "" : "32"} ${operand(right)} ` +
        `goto ${label}`,
    });
  }

  #emit(instruction: Instruction): this {
    if (this.#reachable) this.#instructions.push(instruction);
    return this;
  }
}

const SIGNS: Readonly<Record<Arithmetic, string>> = {
  ...{ add: "+=", or: "|=", and: "&=", shiftRight: ">>=", move: "=" },
};

function name({ index }: Register): string {
  return index === stack.index ? "stack" : `r${index}`;
}

function operand(value: Register | number): string {
  return typeof value === "number" ? `${value}` : name(value);
}

function place(width: Width, base: Register, offset: number): string {
  return `${width} [${name(base)}${offset < 0 ? "" : "+"}${offset}]`;
}
