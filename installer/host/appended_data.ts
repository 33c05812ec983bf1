/**
 * What `deno compile` appends to its runtime to make a program: the program itself. An image has the
 * runtime once, in a file of which both programs are names, and what makes it the plugin of a host
 * beside it.
 */

/** Bytes at the end of a compiled program that tell how much was appended. */
export const trailerSize = 16;
const magic = 0x501e;

/**
 * Tells how much was appended to the runtime. A compiled program ends with 16 bytes: `u32` 0x501e,
 * `u32` hash of the section's name, `u64` length of all that was appended, trailer included, all
 * little-endian.
 *
 * @param trailer The last {@linkcode trailerSize} bytes of a program.
 * @param size Size of the whole program, in bytes.
 * @returns Length of the appended data in bytes; undefined when `deno compile` did not make the program.
 */
export function appendedLength(trailer: Uint8Array, size: number): number | undefined {
  if (trailer.length !== trailerSize) return undefined;
  const view = new DataView(trailer.buffer, trailer.byteOffset, trailer.byteLength);
  const length = Number(view.getBigUint64(8, true));
  const valid = view.getUint32(0, true) === magic && length >= trailerSize && length < size;
  return valid ? length : undefined;
}
