/** Pieces that several programs have. */
import {
  type Assembler,
  Helper,
  r0,
  r1,
  r2,
  r3,
  r4,
  r6,
  type Register,
  stack,
} from "./assembler.ts";
import { type Counter, COUNTERS, MapName, MAPPED_WORD, Stack } from "./layout.ts";

/** Counts something. Destroys r0 to r5. */
export function count(program: Assembler, counter: Counter): void {
  const done = program.freshLabel("counted");
  program.store("word", stack, Stack.key, 0);
  lookUp(program, MapName.counters, Stack.key);
  program.jumpIf(r0, "==", 0, done).move(r1, 1)
    .atomicAdd(r0, 8 * COUNTERS.indexOf(counter), r1).label(done);
}

/** `r0 =` the entry of a map whose key stands on the stack, or zero. */
export function lookUp(program: Assembler, map: string, key: number): void {
  program.loadMap(r1, map).move(r2, stack).add(r2, key).call(Helper.mapLookup);
}

/**
 * `r0 =` where the socket wanted to go, or zero.
 *
 * @param socket offset of the socket in the context, which r6 has
 * @param create whether to make an empty one
 */
export function originalOf(program: Assembler, socket: number, create: boolean): void {
  program.loadMap(r1, MapName.original).load("double", r2, r6, socket);
  storage(program, create);
}

/** The same for a socket that r2 has. */
export function storage(program: Assembler, create: boolean): void {
  program.move(r3, 0).move(r4, create ? 1 : 0).call(Helper.socketStorage);
}

/** Puts an IPv4 address that a register has onto the stack, mapped. */
export function putMapped(program: Assembler, at: number, word: Register): void {
  program.store("double", stack, at, 0).store("word", stack, at + 8, MAPPED_WORD)
    .store("word", stack, at + 12, word);
}

/** Copies an address of 16 bytes from memory to the stack, word by word. Destroys r1. */
export function putWords(program: Assembler, at: number, base: Register, offset: number): void {
  copyWords(program, [stack, at], [base, offset]);
}

/** A place in memory. */
export type Place = readonly [base: Register, offset: number];

/**
 * Copies an address of 16 bytes word by word, as the kernel's structures are read and written.
 *
 * @param by register that is destroyed
 */
export function copyWords(
  program: Assembler,
  [to, at]: Place,
  [from, offset]: Place,
  by: Register = r1,
): void {
  for (const word of [0, 4, 8, 12]) {
    program.load("word", by, from, offset + word).store("word", to, at + word, by);
  }
}

/** Copies an address of 16 bytes between the stack and entries of maps. Destroys r1. */
export function copyHalves(program: Assembler, [to, at]: Place, [from, offset]: Place): void {
  for (const half of [0, 8]) {
    program.load("double", r1, from, offset + half).store("double", to, at + half, r1);
  }
}

/** Jumps unless the four words in memory are a mapped IPv4 address. Destroys r1. */
export function unlessMapped(
  program: Assembler,
  base: Register,
  offset: number,
  label: string,
): void {
  program.load("word", r1, base, offset).jumpIf32(r1, "!=", 0, label)
    .load("word", r1, base, offset + 4).jumpIf32(r1, "!=", 0, label)
    .load("word", r1, base, offset + 8).jumpIf32(r1, "!=", MAPPED_WORD, label);
}
