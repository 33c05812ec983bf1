/** The shim, compiled, and those whom it speaks to: an agent that is played, a plugin that reports. */
import { ok } from "node:assert/strict";
import { compileShim, type ShimArchitecture, shimSizeLimit } from "../../scripts/shim.ts";
import { withPaths } from "../../src/shim/places.ts";

/**
 * Follows a shim to its plugin.
 *
 * @param path What runtimes start.
 * @param binDir Where its folder is, which it knows as another one on the host.
 * @returns The path itself when it is no shim; `undefined` when nothing is there.
 */
export function pluginBehind(path: string, binDir: string): string | undefined {
  try {
    if (Deno.statSync(path).size > shimSizeLimit) return path;
    const text = new TextDecoder("latin1").decode(Deno.readFileSync(path));
    const named = /kuma-cni:plugin\0[^\0]*(\/kuma-cni\.d\/[^\0]+)\0/.exec(text)?.[1];
    return named === undefined ? path : binDir + named;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

const built = new Map<string, Promise<Uint8Array<ArrayBuffer>>>();

/**
 * Returns the compiled shim.
 *
 * @param kind An architecture, or `sanitized` for a hosted build that ends at the first mistake.
 */
export function compiledShim(
  kind: ShimArchitecture | "sanitized" = Deno.build.arch,
): Promise<Uint8Array<ArrayBuffer>> {
  let shim = built.get(kind);
  if (shim === undefined) built.set(kind, shim = compile(kind));
  return shim;
}

async function compile(kind: ShimArchitecture | "sanitized"): Promise<Uint8Array<ArrayBuffer>> {
  const output = await Deno.makeTempFile({ prefix: "kuma-shim-" });
  try {
    if (kind !== "sanitized") {
      ok(await compileShim(kind, output, () => {}), `There is no compiler for ${kind}`);
    } else {
      const flags = ["-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"];
      await hosted([...flags, "-o", output]);
    }
    return await Deno.readFile(output);
  } finally {
    await Deno.remove(output);
  }
}

/** Runs gcc over the C file as a program with a C library; every warning is an error. */
export async function hosted(flags: readonly string[]): Promise<void> {
  const source = new URL("../../src/shim/shim.c", import.meta.url).pathname;
  const { success, stderr } = await new Deno.Command("gcc", {
    args: ["-std=c11", "-DSHIM_HOSTED", "-Wall", "-Wextra", "-Werror", ...flags, source],
  }).output();
  ok(success, new TextDecoder().decode(stderr));
}

/**
 * A plugin that tells what it was given: its arguments, the hash of its environment, length and hash of
 * its stdin. What has not ended within 2 s has not ended.
 */
const reporter = `#!/bin/sh
tr '\\0' ' ' < /proc/$$/cmdline
tr '\\0' '\\n' < /proc/$$/environ | sort | sha256sum
if [ -t 0 ]; then echo terminal; else
  if [ "$CNI_IFNAME" = endless ]; then timeout 0.2 sha256sum || echo "has not ended"
  else cat > "\${0%/*}/input.$$"; wc -c < "\${0%/*}/input.$$"; sha256sum < "\${0%/*}/input.$$"; fi
fi
echo "words of the plugin" >&2
exit 7
`;

/** A folder with a shim and a reporting plugin; the agent's socket would be `call.sock` in it. */
export class ShimBed implements Disposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "kuma-shim-" });
  readonly shim = `${this.folder}/kuma-cni`;
  readonly plugin = `${this.folder}/plugin`;
  readonly socket = `${this.folder}/call.sock`;

  constructor(shim: Uint8Array) {
    Deno.writeTextFileSync(this.plugin, reporter, { mode: 0o755 });
    const paths = { socket: this.socket, program: this.plugin };
    Deno.writeFileSync(this.shim, withPaths(shim, paths), { mode: 0o755 });
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.folder, { recursive: true });
  }
}

/** How a program is started. */
export interface Start {
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  /** What stands on stdin; by default nothing. A function writes it and closes it, or does not. */
  readonly stdin?:
    | Uint8Array
    | ((writer: WritableStreamDefaultWriter<Uint8Array>) => Promise<void>);
  /** Words of a shell that end with `"$@"`, to start it in. */
  readonly shell?: string;
  /** Words in front, such as an emulator. */
  readonly behind?: readonly string[];
}

/** What came of it. */
export interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts a program and waits for its end. */
export async function start(
  program: string,
  { env = {}, args = [], stdin = new Uint8Array(), shell, behind = [] }: Start = {},
  started: (pid: number) => void = () => {},
): Promise<Outcome> {
  const words = [...behind, program, ...args];
  const [first, ...rest] = shell === undefined ? words : ["sh", "-c", shell, "sh", ...words];
  const child = new Deno.Command(first!, {
    args: rest,
    clearEnv: true,
    env,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  started(child.pid);
  const writer = child.stdin.getWriter();
  const write = async () => {
    if (typeof stdin === "function") return await stdin(writer);
    if (stdin.length > 0) await writer.write(stdin);
    await writer.close();
  };
  // Whoever does not read to the end makes the rest of the writing fail.
  const written = write().catch(() => {});
  const { code, stdout, stderr } = await child.output();
  await writer.abort().catch(() => {});
  await written;
  const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);
  return { code, stdout: decode(stdout), stderr: decode(stderr) };
}

/** Plays the agent: does something with each connection, and closes it. */
export function playAgent(
  path: string,
  serve: (connection: Deno.Conn) => Promise<void>,
): AsyncDisposable {
  const listener = Deno.listen({ transport: "unix", path });
  const open = new Set<Deno.Conn>();
  const one = async (connection: Deno.Conn) => {
    open.add(connection);
    try {
      await serve(connection);
    } catch {
      // A shim that gave up has closed its end.
    } finally {
      if (open.delete(connection)) connection.close();
    }
  };
  const all = (async () => {
    const calls: Promise<void>[] = [];
    for await (const connection of listener) calls.push(one(connection));
    await Promise.all(calls);
  })();
  return {
    [Symbol.asyncDispose]: async () => {
      listener.close();
      for (const connection of open) {
        open.delete(connection);
        connection.close();
      }
      await all.catch(() => {});
      try {
        Deno.removeSync(path);
      } catch {
        // A closed listener may have removed it.
      }
    },
  };
}
