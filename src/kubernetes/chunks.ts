/** The chunked transfer coding (RFC 9112 §7.1). */
import { quote } from "../text/quote.ts";
import type { ByteBuffer } from "../bytes/byte_buffer.ts";

/** Longest line with a chunk's size; extensions that nobody uses can make it longer. */
const longestLine = 1024;
/**
 * Bytes that frame a body, for each byte of it and altogether: chunks of one byte are allowed, more
 * frame than that is only there to keep a client busy.
 */
const mostFramePerByte = 8;
const freeFrame = 64 * 1024;

/** Decodes a chunked body that arrives in any pieces; each byte is looked at once. */
export class ChunkDecoder {
  /** What is expected next. */
  #state: "size" | "data" | "line end" = "size";
  /** The part of a line that has come. */
  #line = "";
  /** Bytes of the chunk that have not come. */
  #left = 0;
  #frame = 0;
  #body = 0;

  /**
   * Takes the next bytes.
   *
   * @param into Gets what belongs to the body.
   * @returns Whether the last chunk has come; trailers behind it are not waited for.
   * @throws {Error} when this is not the chunked coding.
   */
  decode(bytes: Uint8Array, into: ByteBuffer): boolean {
    for (let at = 0; at < bytes.length;) {
      if (this.#state === "data") {
        const part = bytes.subarray(at, at + this.#left);
        into.append(part);
        at += part.length;
        this.#body += part.length;
        this.#left -= part.length;
        if (this.#left === 0) this.#state = "line end";
        continue;
      }
      const byte = bytes[at++]!;
      if (++this.#frame > freeFrame + mostFramePerByte * this.#body) {
        throw new Error("Answer has far more chunk headers than body");
      }
      if (byte !== 0x0a) {
        if (this.#line.length >= longestLine) {
          throw new Error(`Answer has a chunk header of more than ${longestLine} bytes`);
        }
        this.#line += String.fromCharCode(byte);
        continue;
      }
      const line = this.#line.endsWith("\r") ? this.#line.slice(0, -1) : this.#line;
      this.#line = "";
      if (this.#state === "line end") {
        if (line !== "") throw new Error("Answer has a chunk longer than it says");
        this.#state = "size";
      } else if (this.#begin(line)) return true;
    }
    return false;
  }

  /** Begins a chunk; returns whether it is the last one. */
  #begin(line: string): boolean {
    const size = /^([0-9a-f]{1,8})[ \t]*(?:;|$)/i.exec(line)?.[1];
    if (size === undefined) throw new Error(`Answer has a malformed chunk size: ${quote(line)}`);
    this.#left = Number.parseInt(size, 16);
    this.#state = "data";
    return this.#left === 0;
  }
}
