/** Reads HTTP/1.1 answers (RFC 9112) from a stream of bytes, with bounds on what is not the body. */

const longestLine = 16 * 1024;
const mostHeaders = 200;

/** Takes bytes from a stream by line or by count. */
export class ByteReader {
  readonly #source: AsyncIterator<Uint8Array>;
  #bytes = new Uint8Array();

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** Reads up to the next line end, which is left out. */
  async line(): Promise<string> {
    let end: number;
    while ((end = this.#bytes.indexOf(0x0a)) < 0) {
      if (this.#bytes.length > longestLine) {
        throw new Error(`Answer has a header line of more than ${longestLine} bytes`);
      }
      await this.#fill();
    }
    const line = new TextDecoder().decode(this.#bytes.subarray(0, end));
    this.#bytes = this.#bytes.subarray(end + 1);
    return line.endsWith("\r") ? line.slice(0, -1) : line;
  }

  /** Reads at least one and at most `most` bytes; `undefined` at the end of the stream. */
  async some(most: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    if (this.#bytes.length === 0 && !await this.#more()) return undefined;
    const part = this.#bytes.slice(0, most);
    this.#bytes = this.#bytes.subarray(part.length);
    return part;
  }

  async #fill(): Promise<void> {
    if (!await this.#more()) throw new Error("Connection closed before the answer was complete");
  }

  async #more(): Promise<boolean> {
    const next = await this.#source.next();
    if (next.done === true) return false;
    const joined = new Uint8Array(this.#bytes.length + next.value.length);
    joined.set(this.#bytes);
    joined.set(next.value, this.#bytes.length);
    this.#bytes = joined;
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

  /** Returns the same as `Headers`. */
  toHeaders(): Headers {
    return new Headers([...this.#values]);
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
 * @throws {Error} when it is not HTTP or the stream ends too early.
 */
export async function readHead(reader: ByteReader): Promise<Head> {
  for (;;) {
    const line = await reader.line();
    const found = /^HTTP\/1\.[01] ([1-5][0-9]{2})(?: |$)/.exec(line);
    if (found === null) throw new Error(`Answer does not begin like HTTP: ${quote(line)}`);
    const status = Number(found[1]);
    const headers = await readHeaders(reader);
    if (status >= 200) return { status, headers };
  }
}

/**
 * Reads an answer's head; its body streams.
 *
 * @param close Called once the body has ended, failed or been cancelled.
 * @throws {Error} when it is not HTTP or the stream ends too early.
 */
export async function readResponse(reader: ByteReader, close: () => void): Promise<Response> {
  const { status, headers: fields } = await readHead(reader);
  const headers = fields.toHeaders();
  if (hasNoBody(status)) {
    close();
    return new Response(null, { status, headers });
  }
  const parts = bodyParts(reader, fields);
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      try {
        const { value, done } = await parts.next();
        if (done !== true) return controller.enqueue(value);
        close();
        controller.close();
      } catch (error) {
        close();
        controller.error(error);
      }
    },
    cancel: close,
  }, { highWaterMark: 0 });
  return new Response(body, { status, headers });
}

/**
 * Reads a whole body.
 *
 * @param maximum Where to stop: a longer body is cut, but not before it has more than that.
 * @returns The body; empty for an answer that has none by its status.
 * @throws {Error} when its form is wrong or the stream ends too early.
 */
export async function readBody(
  reader: ByteReader,
  { status, headers }: Head,
  maximum: number,
): Promise<Uint8Array<ArrayBuffer>> {
  if (hasNoBody(status)) return new Uint8Array();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for await (const part of bodyParts(reader, headers)) {
    parts.push(part);
    length += part.length;
    if (length > maximum) break;
  }
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  const body = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}

/** RFC 9112 §6.3. */
function hasNoBody(status: number): boolean {
  return status === 204 || status === 304;
}

async function readHeaders(reader: ByteReader): Promise<HeaderFields> {
  const headers = new HeaderFields();
  for (let count = 0; count <= mostHeaders; count++) {
    const line = await reader.line();
    if (line === "") return headers;
    const colon = line.indexOf(":");
    if (colon < 1) throw new Error(`Answer has a malformed header line: ${quote(line)}`);
    headers.append(line.slice(0, colon), line.slice(colon + 1).trim());
  }
  throw new Error(`Answer has more than ${mostHeaders} header lines`);
}

async function* bodyParts(
  reader: ByteReader,
  headers: HeaderFields,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  const length = headers.get("content-length");
  if (/\bchunked\b/i.test(headers.get("transfer-encoding") ?? "")) {
    while (true) {
      const line = await reader.line();
      const size = /^([0-9a-f]{1,8})[ \t]*(?:;|$)/i.exec(line)?.[1];
      if (size === undefined) throw new Error(`Answer has a malformed chunk size: ${quote(line)}`);
      if (Number.parseInt(size, 16) === 0) return;
      yield* exactly(reader, Number.parseInt(size, 16));
      if (await reader.line() !== "") throw new Error("Answer has a chunk longer than it says");
    }
  } else if (length !== null) {
    if (!/^[0-9]{1,15}$/.test(length)) {
      throw new Error(`Answer has a malformed content length: ${quote(length)}`);
    }
    yield* exactly(reader, Number(length));
  } else {
    for (let part = await reader.some(65536); part; part = await reader.some(65536)) yield part;
  }
}

async function* exactly(
  reader: ByteReader,
  length: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (let left = length; left > 0;) {
    const part = await reader.some(left);
    if (part === undefined) throw new Error("Connection closed before the answer was complete");
    left -= part.length;
    yield part;
  }
}

function quote(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}
