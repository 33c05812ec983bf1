/** Takes a stream of bytes apart into lines. */
import { ByteBuffer } from "./byte_buffer.ts";

/** Collects lines that come in any pieces; each byte is looked at once. */
export class LineSplitter {
  readonly #rest = new ByteBuffer();

  /** @param longest Most bytes of a line. */
  constructor(readonly longest: number) {}

  /**
   * Takes the next bytes.
   *
   * @returns The lines that they end, without their line feeds.
   * @throws {RangeError} when a line is longer than it may be.
   */
  *push(piece: Uint8Array): Generator<Uint8Array<ArrayBuffer>, void, void> {
    for (let at = 0; at < piece.length;) {
      const end = piece.indexOf(0x0a, at);
      const part = piece.subarray(at, end < 0 ? piece.length : end);
      if (this.#rest.length + part.length > this.longest) {
        throw new RangeError(`A line has more than ${this.longest} bytes`);
      }
      this.#rest.append(part);
      at += part.length + 1;
      if (end >= 0) yield this.#rest.take();
    }
  }

  /** Takes what came behind the last line feed. */
  takeRest(): Uint8Array<ArrayBuffer> {
    return this.#rest.take();
  }
}
