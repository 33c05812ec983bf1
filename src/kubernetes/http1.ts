/**
 * Reads HTTP/1.1 answers (RFC 9112) from a connection. Everything but the body is bounded, and what
 * arrives in tiny pieces costs no more memory than what arrives at once.
 */
import { quote } from "../text/quote.ts";
import { ByteBuffer } from "../bytes/byte_buffer.ts";
import { ChunkDecoder } from "./chunks.ts";
import type { Turns } from "./turns.ts";

/** Where bytes come from, for example a `Deno.Conn`. */
export interface ByteSource {
  /** Puts bytes into the buffer; returns their number, `null` at the end. */
  read(buffer: Uint8Array): Promise<number | null>;
}

const longestLine = 16 * 1024;
/** All header lines of an answer and of interim answers before it. */
const longestHead = 64 * 1024;
const mostHeaders = 200;
/** RFC 9110 §15.2 sets no bound; no API server sends any. */
const mostInterimAnswers = 16;

/** Takes bytes from a source by line or as they come. */
export class ByteReader {
  readonly #buffer = new Uint8Array(64 * 1024);
  #start = 0;
  #end = 0;

  /** @param turns Gives others their turn between two reads. */
  constructor(private readonly source: ByteSource, private readonly turns: Turns) {}

  /** Reads up to the next line end, which is left out. */
  async line(): Promise<string> {
    for (let searched = this.#start;;) {
      const end = this.#buffer.subarray(0, this.#end).indexOf(0x0a, searched);
      const length = (end < 0 ? this.#end : end) - this.#start;
      if (length > longestLine) {
        throw new Error(`Answer has a header line of more than ${longestLine} bytes`);
      }
      if (end >= 0) {
        const line = new TextDecoder().decode(this.#buffer.subarray(this.#start, end));
        this.#start = end + 1;
        return line.endsWith("\r") ? line.slice(0, -1) : line;
      }
      if (!await this.#fill()) throw new Error("Connection closed before the answer was complete");
      searched = this.#start + length;
    }
  }

  /**
   * Returns the bytes that are there, or else the next that come; valid until the next call.
   * `undefined` at the end of the source.
   */
  async some(): Promise<Uint8Array | undefined> {
    if (this.#start === this.#end && !await this.#fill()) return undefined;
    const part = this.#buffer.subarray(this.#start, this.#end);
    this.#start = this.#end;
    return part;
  }

  /** A line is far shorter than the buffer, so there is room behind what is left of one. */
  async #fill(): Promise<boolean> {
    const turn = this.turns.next();
    if (turn !== undefined) await turn;
    this.#buffer.copyWithin(0, this.#start, this.#end);
    this.#end -= this.#start;
    this.#start = 0;
    const length = await this.source.read(this.#buffer.subarray(this.#end));
    if (length === null) return false;
    this.#end += length;
    return true;
  }
}

/** Header fields by their names in any case; far cheaper at first use than `Headers`. */
export class HeaderFields {
  /** By name in lower case. */
  readonly #values = new Map<string, string>();

  /** Adds a field; values of the same name are joined (RFC 9110 §5.3). */
  append(name: string, value: string): void {
    const key = name.toLowerCase();
    const earlier = this.#values.get(key);
    this.#values.set(key, earlier === undefined ? value : `${earlier}, ${value}`);
  }

  /** Returns a field's value, `null` when there is none, as `Headers` does. */
  get(name: string): string | null {
    return this.#values.get(name.toLowerCase()) ?? null;
  }
}

/** An answer without its body. */
export interface Head {
  readonly status: number;
  readonly headers: HeaderFields;
}

/**
 * Reads an answer's head, past interim answers.
 *
 * @throws {Error} when it is not HTTP, is too long, or the source ends too early.
 */
export async function readHead(reader: ByteReader): Promise<Head> {
  let bytes = 0;
  const nextLine = async () => {
    const line = await reader.line();
    bytes += line.length + 2;
    if (bytes > longestHead) throw new Error(`Answer has a head of more than ${longestHead} bytes`);
    return line;
  };
  for (let interim = 0; interim <= mostInterimAnswers; interim++) {
    const line = await nextLine();
    const found = /^HTTP\/1\.[01] ([1-5][0-9]{2})(?: |$)/.exec(line);
    if (found === null) throw new Error(`Answer does not begin like HTTP: ${quote(line)}`);
    const status = Number(found[1]);
    const headers = await readHeaders(nextLine);
    if (status >= 200) return { status, headers };
  }
  throw new Error(`Answer comes after more than ${mostInterimAnswers} interim answers`);
}

/**
 * Reads a body as it comes: what arrived together is one piece.
 *
 * @throws {Error} when its form is wrong or the source ends too early.
 */
export async function* bodyPieces(
  reader: ByteReader,
  { status, headers }: Head,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  // RFC 9112 §6.3.
  if (status === 204 || status === 304) return;
  const coding = headers.get("transfer-encoding");
  const length = headers.get("content-length");
  const collected = new ByteBuffer();
  if (coding !== null) {
    if (coding.trim().toLowerCase() !== "chunked") {
      throw new Error(`Answer has the transfer encoding ${quote(coding)}, expected "chunked"`);
    }
    const chunks = new ChunkDecoder();
    for (let ended = false; !ended;) {
      ended = chunks.decode(await nextBytes(reader), collected);
      if (collected.length > 0) yield collected.take();
    }
  } else if (length !== null) {
    if (!/^[0-9]{1,15}$/.test(length)) {
      throw new Error(`Answer has a malformed content length: ${quote(length)}`);
    }
    for (let left = Number(length); left > 0;) {
      collected.append((await nextBytes(reader)).subarray(0, left));
      left -= collected.length;
      yield collected.take();
    }
  } else {
    for (let part = await reader.some(); part !== undefined; part = await reader.some()) {
      yield part.slice();
    }
  }
}

async function nextBytes(reader: ByteReader): Promise<Uint8Array> {
  const bytes = await reader.some();
  if (bytes === undefined) throw new Error("Connection closed before the answer was complete");
  return bytes;
}

async function readHeaders(nextLine: () => Promise<string>): Promise<HeaderFields> {
  const headers = new HeaderFields();
  for (let count = 0; count <= mostHeaders; count++) {
    const line = await nextLine();
    if (line === "") return headers;
    const colon = line.indexOf(":");
    if (colon < 1) throw new Error(`Answer has a malformed header line: ${quote(line)}`);
    headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  throw new Error(`Answer has more than ${mostHeaders} header lines`);
}
