/** Plays calls of the plugin inside of this process, with nothing real around it but files. */
import { parseRequest } from "../../src/agent/messages.ts";
import { parsePod } from "../../src/kubernetes/pod.ts";
import { PlayedKernel } from "./kernel.ts";

/** One call. */
export interface Scene {
  readonly name: string;
  /** All environment variables. */
  readonly env: Readonly<Record<string, string>>;
  /** Text of standard input. */
  readonly input: string;
  /** The pod that the API server has, or the agent's when there is an agent. */
  readonly pod?: unknown;
  /** Whether somebody listens at the agent's socket. */
  readonly agent?: boolean;
}

/** How a call ended. */
export interface Ending {
  readonly exitCode: number;
  /** Standard output and error, for messages. */
  readonly output: string;
}

/**
 * Plays one call. Functions of Deno that the plugin uses are replaced, and stay so.
 *
 * @param start Starts the plugin's program.
 */
export async function play(scene: Scene, start: () => void): Promise<Ending> {
  let output = "";
  const write = (data: Uint8Array): number => {
    output += new TextDecoder().decode(data);
    return data.length;
  };
  const kernel = new PlayedKernel();
  const exited = Promise.withResolvers<number>();
  const statSync = Deno.statSync;
  Object.assign(Deno.env, {
    get: (name: string) => scene.env[name],
    set: () => {},
    delete: () => {},
  });
  Object.assign(Deno.stdout, { writeSync: write });
  Object.assign(Deno.stderr, { writeSync: write });
  Object.assign(Deno, {
    stdin: { readSync: readerOf(scene.input) },
    exit: (code: number) => exited.resolve(code),
    ...libraryOf(kernel),
    // The namespace has IPv6, whatever this machine has.
    statSync: (path: string) => statSync(path.endsWith("/if_inet6") ? "/proc" : path),
    connect: ({ path }: { path?: string }) =>
      path === undefined
        ? Promise.resolve({ setNoDelay: () => {} })
        : Promise.resolve(agentConnection(scene.pod)),
    startTls: () => Promise.resolve(serverConnection(scene.pod)),
  });
  try {
    start();
    return { exitCode: await exited.promise, output };
  } finally {
    Object.assign(Deno, { statSync });
  }
}

/** What loads functions: the address of one is its name here. */
function libraryOf({ symbols }: PlayedKernel) {
  type Name = keyof typeof symbols;
  return {
    dlopen: (_path: string, names: Readonly<Record<Name, unknown>>) => ({
      symbols: Object.fromEntries(Object.keys(names).map((name) => [name, name])),
    }),
    UnsafeFnPointer: class {
      constructor(readonly name: Name) {}
      call(...parameters: unknown[]): unknown {
        const played = symbols[this.name] as ((...parameters: unknown[]) => unknown) | undefined;
        if (played !== undefined) return played(...parameters);
        throw new TypeError(`scripts/compiled_plugin/kernel.ts does not play "${this.name}"`);
      }
    },
  };
}

/** Gives a text once, then the end. */
function readerOf(text: string): (buffer: Uint8Array) => number | null {
  let rest: Uint8Array | undefined = new TextEncoder().encode(text);
  return (buffer) => {
    if (rest === undefined) return null;
    const { length } = rest;
    buffer.set(rest);
    rest = undefined;
    return length;
  };
}

function asynchronously(text: string): (buffer: Uint8Array) => Promise<number | null> {
  const read = readerOf(text);
  return (buffer) => Promise.resolve(read(buffer));
}

/** An API server that has one pod; it sends all but the shortest answers in chunks. */
function serverConnection(pod: unknown) {
  const text = JSON.stringify(pod);
  const head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked";
  const length = new TextEncoder().encode(text).length;
  return {
    handshake: () => Promise.resolve({}),
    write: (data: Uint8Array) => Promise.resolve(data.length),
    read: asynchronously(`${head}\r\n\r\n${length.toString(16)}\r\n${text}\r\n0\r\n\r\n`),
    close: () => {},
  };
}

/** An agent that knows one pod and takes every log. */
function agentConnection(pod: unknown) {
  let answer = "";
  return {
    write: (data: Uint8Array) => {
      const { type } = parseRequest(new TextDecoder().decode(data));
      answer = JSON.stringify(
        type === "pod" ? { type: "pod", pod: parsePod(pod) } : { type: "finished" },
      );
      return Promise.resolve(data.length);
    },
    read: (buffer: Uint8Array) => asynchronously(`${answer}\n`)(buffer),
    close: () => {},
  };
}
