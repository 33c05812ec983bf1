/** Lines over a byte stream, for both ends of the agent's socket. */
import { LineSplitter } from "../bytes/lines.ts";
import { MAX_LINE_BYTES } from "./messages.ts";

/** A stream that lines can be read from and written to, such as a `Deno.Conn`. */
export interface ByteStream {
  read(buffer: Uint8Array): Promise<number | null>;
  write(data: Uint8Array): Promise<number>;
}

/** Most bytes of one write: the runtime keeps these for as long as nobody reads them. */
const PART_BYTES = 64 * 1024;

/** What several streams may hold in memory together. */
export interface LineBudget {
  /**
   * Notes that a stream holds another number of bytes than before.
   *
   * @throws when all of them together would hold too many; nothing is noted then.
   */
  resize(from: number, to: number): void;
}

/** Reads and writes lines that end with a line feed. */
export class LineStream {
  readonly #splitter = new LineSplitter(MAX_LINE_BYTES);
  /** Lines that came together with another one. */
  #lines: Uint8Array[] = [];
  /** How many bytes were read and not given away. */
  #pending = 0;
  /** What is still to be written, of how many bytes that count. */
  #rest: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #held = 0;
  readonly #chunk = new Uint8Array(16 * 1024);

  /** @param budget What this stream shares with others; without it each has its own bound alone. */
  constructor(readonly stream: ByteStream, private readonly budget?: LineBudget) {}

  /**
   * Reads the next line without its line feed, or `undefined` at the end of the stream.
   *
   * @throws {RangeError} when a line is longer than `MAX_LINE_BYTES`.
   */
  async readLine(): Promise<string | undefined> {
    for (;;) {
      const line = this.#lines.shift();
      if (line !== undefined) {
        this.#keep(this.#pending - line.length - 1);
        return new TextDecoder().decode(line);
      }
      const count = await this.stream.read(this.#chunk);
      if (count === null) return undefined;
      this.#keep(this.#pending + count);
      this.#lines.push(...this.#splitter.push(this.#chunk.subarray(0, count)));
    }
  }

  /** Writes one value as a JSON line. */
  async writeLine(value: unknown): Promise<void> {
    const line = new TextEncoder().encode(JSON.stringify(value) + "\n");
    this.budget?.resize(0, line.length);
    this.#held = line.length;
    this.#rest = line;
    try {
      while (this.#rest.length > 0) {
        const written = await this.stream.write(this.#rest.slice(0, PART_BYTES));
        this.#rest = this.#rest.subarray(written);
      }
    } finally {
      this.#letGo();
    }
  }

  /** Lets go of what was read and is not a whole line, and of what nobody has read. */
  discard(): void {
    this.#splitter.takeRest();
    this.#lines = [];
    this.#keep(0);
    this.#letGo();
  }

  #keep(bytes: number): void {
    this.budget?.resize(this.#pending, bytes);
    this.#pending = bytes;
  }

  #letGo(): void {
    this.budget?.resize(this.#held, 0);
    this.#held = 0;
    this.#rest = new Uint8Array(0);
  }
}
