/** Lines over a byte stream, for both ends of the agent's socket. */
import { LineSplitter } from "../bytes/lines.ts";
import { MAX_LINE_BYTES } from "./messages.ts";

/** A stream that lines can be read from and written to, such as a `Deno.Conn`. */
export interface ByteStream {
  read(buffer: Uint8Array): Promise<number | null>;
  write(data: Uint8Array): Promise<number>;
}

/** Reads and writes lines that end with a line feed. */
export class LineStream {
  readonly #splitter = new LineSplitter(MAX_LINE_BYTES);
  readonly #chunk = new Uint8Array(16 * 1024);
  readonly #complete: string[] = [];

  constructor(readonly stream: ByteStream) {}

  /**
   * Reads the next line without its line feed, or `undefined` at the end of the stream.
   *
   * @throws {RangeError} when a line is longer than `MAX_LINE_BYTES`.
   */
  async readLine(): Promise<string | undefined> {
    for (;;) {
      const line = this.#complete.shift();
      if (line !== undefined) return line;
      const count = await this.stream.read(this.#chunk);
      if (count === null) return undefined;
      for (const bytes of this.#splitter.push(this.#chunk.subarray(0, count))) {
        this.#complete.push(new TextDecoder().decode(bytes));
      }
    }
  }

  /** Writes one value as a JSON line. */
  async writeLine(value: unknown): Promise<void> {
    let rest = new TextEncoder().encode(JSON.stringify(value) + "\n");
    while (rest.length > 0) rest = rest.subarray(await this.stream.write(rest));
  }
}
