/** Lines over a byte stream, for both ends of the agent's socket. */
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
  #pending: Uint8Array<ArrayBuffer> = new Uint8Array(0);
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
    let searched = 0;
    while (true) {
      const end = this.#pending.indexOf(10, searched);
      if (end >= 0) {
        const line = new TextDecoder().decode(this.#pending.subarray(0, end));
        this.budget?.resize(this.#pending.length, this.#pending.length - end - 1);
        this.#pending = this.#pending.slice(end + 1);
        return line;
      }
      searched = this.#pending.length;
      if (searched > MAX_LINE_BYTES) {
        throw new RangeError(`Line is longer than ${MAX_LINE_BYTES} bytes`);
      }
      const count = await this.stream.read(this.#chunk);
      if (count === null) return undefined;
      this.budget?.resize(searched, searched + count);
      const grown = new Uint8Array(searched + count);
      grown.set(this.#pending);
      grown.set(this.#chunk.subarray(0, count), searched);
      this.#pending = grown;
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
    this.budget?.resize(this.#pending.length, 0);
    this.#pending = new Uint8Array(0);
    this.#letGo();
  }

  #letGo(): void {
    this.budget?.resize(this.#held, 0);
    this.#held = 0;
    this.#rest = new Uint8Array(0);
  }
}
