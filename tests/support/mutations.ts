/** Answers of an API server that went wrong on the way, and what may come of them; seeded. */
import type { Dice } from "./damage.ts";

/** One answer. */
export interface MutatedAnswer {
  /** For messages. */
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Whether the connection stays open afterwards. */
  readonly staysOpen: boolean;
  /** The body that the answer says it has; `undefined` when it must be refused. */
  readonly body: Uint8Array | undefined;
}

const encoder = new TextEncoder();

function join(...parts: (string | Uint8Array)[]): Uint8Array {
  const pieces = parts.map((part) => typeof part === "string" ? encoder.encode(part) : part);
  const bytes = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

/** Changes one to four places: bytes flipped, removed, doubled, put in or exchanged. */
function scramble(random: Dice, bytes: Uint8Array): Uint8Array {
  let result = bytes;
  for (let times = 1 + random.below(4); times > 0; times--) {
    const at = random.below(result.length + 1);
    const [before, after] = [result.subarray(0, at), result.subarray(at)];
    const count = Math.min(after.length, 1 + random.below(8));
    const noise = Uint8Array.from({ length: 1 + random.below(4) }, () => random.below(256));
    result = random.pick([
      () => join(before, noise, after.subarray(noise.length)),
      () => join(before, noise, after),
      () => join(before, after.subarray(count)),
      () => join(before, after.subarray(0, count), after),
      () => join(before, random.pick(["\r\n", "\n", " ", "0", ":", "\0", '"', "}", "é"]), after),
    ])();
  }
  return result;
}

function chunked(random: Dice, body: Uint8Array): (string | Uint8Array)[] {
  const parts: (string | Uint8Array)[] = [];
  for (let at = 0; at < body.length;) {
    const chunk = body.subarray(at, at + 1 + random.below(400));
    parts.push(`${chunk.length.toString(16)}\r\n`, chunk, "\r\n");
    at += chunk.length;
  }
  return [...parts, "0\r\n\r\n"];
}

const typeLine = "content-type: application/json\r\n";

const headersThatLie = [
  "content-length: 5\r\n",
  "content-length: -1\r\n",
  "content-length: 99999999999999999999\r\n",
  "content-length: 0x10\r\n",
  "content-length: 7, 8\r\n",
  "transfer-encoding: chunked\r\n",
  "transfer-encoding: gzip\r\n",
  "transfer-encoding: chunked, identity\r\n",
  "content-encoding: gzip\r\n",
  "content-encoding: br\r\n",
  "content-type: text/html\r\n",
  "location: https://127.0.0.1:1/\r\n",
];

const strangeStarts = [
  "HTTP/1.1 204 No Content\r\n",
  "HTTP/1.1 304 Not Modified\r\n",
  "HTTP/1.1 206 Partial Content\r\n",
  "HTTP/1.1 302 Found\r\nlocation: /\r\n",
  "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n",
  "HTTP/1.1 1000 OK\r\n",
  "HTTP/1.1 20 OK\r\n",
  "HTTP/2.0 200 OK\r\n",
  "ICY 200 OK\r\n",
  "",
];

/** Makes the next answer that has, or does not quite have, a body. */
export function mutate(random: Dice, body: Uint8Array): MutatedAnswer {
  const staysOpen = random.below(8) === 0;
  const length = (bytes: Uint8Array) => `content-length: ${bytes.length}\r\n\r\n`;
  const start = `HTTP/1.1 200 OK\r\n${typeLine}`;
  const make = (name: string, bytes: Uint8Array, of: Uint8Array | undefined = body) => ({
    name,
    bytes,
    staysOpen,
    body: of,
  });
  const kinds: (() => MutatedAnswer)[] = [
    // The form is right, the JSON is not quite.
    () => {
      const wrong = scramble(random, body);
      return make("JSON", join(start, length(wrong), wrong), wrong);
    },
    () => {
      const wrong = scramble(random, body);
      const form = ["transfer-encoding: chunked\r\n\r\n", ...chunked(random, wrong)];
      return make("JSON in chunks", join(start, ...form), wrong);
    },
    // The JSON is right, what is round it is not: this pod or none.
    () => make("head", join(scramble(random, join(start, length(body))), body)),
    () => {
      const parts = chunked(random, body);
      const at = random.below(parts.length);
      const place = typeof parts[at] === "string" ? at : at - 1;
      parts[place] = scramble(random, encoder.encode(parts[place] as string));
      return make("chunk header", join(start, "transfer-encoding: chunked\r\n\r\n", ...parts));
    },
    () => {
      const whole = random.below(2) === 0
        ? join(start, length(body), body)
        : join(start, "transfer-encoding: chunked\r\n\r\n", ...chunked(random, body));
      return make("cut", whole.subarray(0, random.below(whole.length - 5)), undefined);
    },
    () => {
      const lie = random.pick(headersThatLie);
      const lines = random.below(2) === 0 ? [start, lie] : [start.replace(typeLine, lie), typeLine];
      return make(`lie ${lie.trim()}`, join(...lines, length(body), body));
    },
    () => {
      const first = random.pick(strangeStarts);
      return make(`start ${first.trim()}`, join(first, typeLine, length(body), body), undefined);
    },
    () => {
      const interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(1 + random.below(30));
      return make("interim answers", join(interim, start, length(body), body));
    },
    () => {
      const many = "x-filler: y\r\n".repeat(random.below(400));
      return make("many headers", join(start, many, length(body), body));
    },
    () =>
      make(
        "noise",
        Uint8Array.from({ length: random.below(300) }, () => random.below(256)),
        undefined,
      ),
  ];
  return random.pick(kinds)();
}
