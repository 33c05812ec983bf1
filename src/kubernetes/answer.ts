/** What an API server has answered, whichever way it came. */
import { ByteBuffer } from "../bytes/byte_buffer.ts";
import { Turns } from "./turns.ts";

/** An answer whose body is still to be read, or ended. */
export interface Answer {
  readonly status: number;
  readonly headers: { get(name: string): string | null };
  /** Reads the body as it comes; leaving the loop ends the transfer. */
  pieces(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void>;
  /** Ends the transfer. */
  discard(): Promise<void>;
}

/**
 * Reads a whole body.
 *
 * @returns `undefined` when it is longer than `maximum` bytes; no more than these are kept.
 */
export async function readWhole(answer: Answer, maximum: number): Promise<Uint8Array | undefined> {
  const collected = new ByteBuffer();
  for await (const piece of answer.pieces()) {
    if (collected.length + piece.length > maximum) return undefined;
    collected.append(piece);
  }
  return collected.take();
}

/** An answer that `fetch` has got. */
export class FetchAnswer implements Answer {
  readonly status: number;
  readonly headers: Headers;
  #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>> | undefined;

  constructor(private readonly response: Response, private readonly signal: AbortSignal) {
    this.status = response.status;
    this.headers = response.headers;
  }

  async *pieces(): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    this.#reader = this.response.body?.getReader();
    const turns = new Turns(this.signal);
    try {
      for (;;) {
        const turn = turns.next();
        if (turn !== undefined) await turn;
        const { done, value } = await this.#reader?.read() ?? { done: true };
        if (done || value === undefined) return;
        yield value;
      }
    } finally {
      // Not waited for: when the garbage collector has taken the request (Deno 2.6) it never ends.
      this.discard().catch(() => {});
    }
  }

  async discard(): Promise<void> {
    await (this.#reader ?? this.response.body)?.cancel();
  }
}
