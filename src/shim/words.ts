/**
 * The words between the shim and the node agent, as `shim.c` speaks them: one request and one answer
 * for each connection, all numbers 32 bit and little endian.
 *
 * Request: `KCNI`, version, flags, length of the environment, length of stdin; then the environment
 * (each `NAME=VALUE` with a NUL after it) and stdin. With flag 1 the descriptor of the pod's network
 * namespace comes with the first bytes (`SCM_RIGHTS`).
 *
 * Answer: `KCNA`, version, verdict, exit code, length of stdout, length of stderr; then both.
 */

/** Version of the words; the other end refuses any other. */
export const wordsVersion = 1;

/** Most bytes of a request's environment; with more the shim does not ask. */
export const environmentLimit = 256 * 1024;

/** Most bytes of stdin; with more the shim does not ask. */
export const inputLimit = 1024 * 1024;

/** Most bytes of an answer's stdout and stderr together; more the shim does not take. */
export const outputLimit = 2 * 1024 * 1024;

/** Longest wait of the shim for the whole answer, in milliseconds from its first byte sent. */
export const answerMilliseconds = 3000;

/** Milliseconds that the shim waits until the agent has read the call. */
export const takingMilliseconds = 1000;

/** Bytes before a request's environment. */
export const requestHeadSize = 20;

/** Bytes before an answer's stdout. */
export const answerHeadSize = 24;

const requestMagic = 0x494e434b;
const answerMagic = 0x414e434b;
const flagNamespace = 1;
const verdictAnswered = 0;
const verdictRunYourself = 1;

/** What arrived is not what was agreed. */
export class WordsError extends Error {
  override readonly name = "WordsError";
}

/** What stands in front of a request. */
export interface RequestHead {
  /** Whether the descriptor of the network namespace came with it. */
  readonly sendsNamespace: boolean;
  readonly environmentLength: number;
  readonly inputLength: number;
  /** Bytes of the whole request. */
  readonly length: number;
}

/** One call, as the container runtime made it. */
export interface ShimRequest {
  readonly sendsNamespace: boolean;
  /** The `CNI_*` variables; of a name that is there twice the first one, as for a program. */
  readonly environment: ReadonlyMap<string, string>;
  /** Bytes of stdin. */
  readonly input: Uint8Array<ArrayBuffer>;
}

/** What the agent says: the answer of the call, or that the full plugin must do it. */
export type ShimAnswer =
  | {
    readonly kind: "answered";
    readonly exitCode: 0 | 1;
    readonly stdout: Uint8Array;
    readonly stderr: Uint8Array;
  }
  | { readonly kind: "run-it-yourself" };

/**
 * Reads the head of a request.
 *
 * @param bytes At least {@linkcode requestHeadSize} bytes.
 * @throws {WordsError} when these are not our words, or announce more than is allowed.
 */
export function parseRequestHead(bytes: Uint8Array): RequestHead {
  const view = headOf(bytes, requestHeadSize, requestMagic);
  const flags = view.getUint32(8, true);
  const environmentLength = view.getUint32(12, true);
  const inputLength = view.getUint32(16, true);
  if ((flags & ~flagNamespace) !== 0) {
    throw new WordsError(`Cannot read a call: its flags are ${flags}, expected 0 or 1`);
  }
  if (environmentLength > environmentLimit || inputLength > inputLimit) {
    throw new WordsError(
      `Cannot read a call: it announces ${environmentLength} bytes of environment and ` +
        `${inputLength} of stdin, at most ${environmentLimit} and ${inputLimit} are allowed`,
    );
  }
  return {
    sendsNamespace: flags === flagNamespace,
    environmentLength,
    inputLength,
    length: requestHeadSize + environmentLength + inputLength,
  };
}

/**
 * Reads a whole request.
 *
 * @throws {WordsError} when it is cut off, too long, or holds what is no variable `CNI_*`.
 */
export function parseRequest(bytes: Uint8Array): ShimRequest {
  const { sendsNamespace, environmentLength, length } = parseRequestHead(bytes);
  if (bytes.length !== length) {
    throw new WordsError(`Cannot read a call: it has ${bytes.length} bytes, expected ${length}`);
  }
  const inputAt = requestHeadSize + environmentLength;
  return {
    sendsNamespace,
    environment: parseEnvironment(bytes.subarray(requestHeadSize, inputAt)),
    input: bytes.slice(inputAt),
  };
}

/** Reads `NAME=VALUE` with a NUL after each. */
function parseEnvironment(bytes: Uint8Array): Map<string, string> {
  const environment = new Map<string, string>();
  if (bytes.length === 0) return environment;
  if (bytes.at(-1) !== 0) {
    throw new WordsError("Cannot read a call: its environment does not end with a NUL");
  }
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, -1));
  } catch {
    throw new WordsError("Cannot read a call: its environment is not UTF-8");
  }
  for (const variable of text.split("\0")) {
    const end = variable.indexOf("=");
    const name = variable.slice(0, Math.max(0, end));
    if (!name.startsWith("CNI_")) {
      throw new WordsError(`Cannot read a call: expected variables CNI_*, not "${name}"`);
    }
    if (!environment.has(name)) environment.set(name, variable.slice(end + 1));
  }
  return environment;
}

/** Returns a request as the shim sends it. */
export function formatRequest(request: {
  readonly sendsNamespace: boolean;
  readonly environment: Iterable<readonly [string, string]>;
  readonly input: Uint8Array;
}): Uint8Array<ArrayBuffer> {
  const variables = Array.from(request.environment, ([name, value]) => `${name}=${value}\0`);
  const environment = new TextEncoder().encode(variables.join(""));
  const bytes = new Uint8Array(requestHeadSize + environment.length + request.input.length);
  const view = new DataView(bytes.buffer);
  const head = [
    requestMagic,
    wordsVersion,
    request.sendsNamespace ? flagNamespace : 0,
    environment.length,
    request.input.length,
  ];
  head.forEach((value, i) => view.setUint32(4 * i, value, true));
  bytes.set(environment, requestHeadSize);
  bytes.set(request.input, requestHeadSize + environment.length);
  return bytes;
}

/** Returns an answer's bytes; one that is longer than the shim takes becomes "run it yourself". */
export function formatAnswer(answer: ShimAnswer): Uint8Array<ArrayBuffer> {
  const none = new Uint8Array();
  const isTaken = answer.kind === "answered" &&
    answer.stdout.length + answer.stderr.length <= outputLimit;
  const { exitCode, stdout, stderr } = isTaken
    ? answer
    : { exitCode: 0, stdout: none, stderr: none };
  const bytes = new Uint8Array(answerHeadSize + stdout.length + stderr.length);
  const view = new DataView(bytes.buffer);
  const head = [
    answerMagic,
    wordsVersion,
    isTaken ? verdictAnswered : verdictRunYourself,
    exitCode,
    stdout.length,
    stderr.length,
  ];
  head.forEach((value, i) => view.setUint32(4 * i, value, true));
  bytes.set(stdout, answerHeadSize);
  bytes.set(stderr, answerHeadSize + stdout.length);
  return bytes;
}

/**
 * Reads a whole answer, as strictly as the shim does.
 *
 * @throws {WordsError} when it is not one.
 */
export function parseAnswer(bytes: Uint8Array): ShimAnswer {
  const view = headOf(bytes, answerHeadSize, answerMagic);
  const [verdict, exitCode, stdoutLength, stderrLength] = [8, 12, 16, 20]
    .map((at) => view.getUint32(at, true)) as [number, number, number, number];
  if (verdict === verdictRunYourself) return { kind: "run-it-yourself" };
  const length = stdoutLength + stderrLength;
  if (
    verdict !== verdictAnswered || (exitCode !== 0 && exitCode !== 1) || length > outputLimit ||
    bytes.length !== answerHeadSize + length
  ) {
    throw new WordsError(
      `Cannot read an answer of ${bytes.length} bytes: verdict ${verdict}, exit code ${exitCode}, ` +
        `${stdoutLength} bytes of stdout, ${stderrLength} of stderr`,
    );
  }
  const stderrAt = answerHeadSize + stdoutLength;
  return {
    kind: "answered",
    exitCode,
    stdout: bytes.slice(answerHeadSize, stderrAt),
    stderr: bytes.slice(stderrAt),
  };
}

/** Checks what both heads begin with. */
function headOf(bytes: Uint8Array, size: number, magic: number): DataView {
  if (bytes.length < size) {
    throw new WordsError(`Cannot read ${bytes.length} bytes: the head alone has ${size}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(4, true);
  if (view.getUint32(0, true) !== magic || version !== wordsVersion) {
    throw new WordsError(`Cannot read words of another kind, or of version ${version}`);
  }
  return view;
}
