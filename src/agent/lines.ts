/** Lines over a byte stream, for both ends of the agent's socket. */
import { MAX_LINE_BYTES } from "./messages.ts";

/** A stream that lines can be read from and written to, such as a `Deno.Conn`. */
export interface ByteStream {
  read(buffer: Uint8Array): Promise<number | null>;
  write(data: Uint8Array): Promise<number>;
}

/** Reads and writes lines that end with a line feed. */
export class LineStream {
  #pending: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  readonly #chunk = new Uint8Array(16 * 1024);

  constructor(readonly stream: ByteStream) {}

  /**
   * Reads the next line without its line feed, or `undefined` at the end of the stream.
   *
   * @throws {RangeError} when a line is longer than `MAX_LINE_BYTES`.
   */
  async readLine(): Promise<string | undefined> {
    let searched = 0;
    while (true) {
      const end = this.#pending.indexOf(10, searched);
      if (end >= 0) {
        const line = new TextDecoder().decode(this.#pending.subarray(0, end));
        this.#pending = this.#pending.slice(end + 1);
        return line;
      }
      searched = this.#pending.length;
      if (searched > MAX_LINE_BYTES) {
        throw new RangeError(`Line is longer than ${MAX_LINE_BYTES} bytes`);
      }
      const count = await this.stream.read(this.#chunk);
      if (count === null) return undefined;
      const grown = new Uint8Array(searched + count);
      grown.set(this.#pending);
      grown.set(this.#chunk.subarray(0, count), searched);
      this.#pending = grown;
    }
  }

  /** Writes one value as a JSON line. */
  async writeLine(value: unknown): Promise<void> {
    let rest = new TextEncoder().encode(JSON.stringify(value) + "\n");
    while (rest.length > 0) rest = rest.subarray(await this.stream.write(rest));
  }
}
