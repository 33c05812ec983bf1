/**
 * The places in the built shim into which the installer writes paths of the host. Each follows 16
 * bytes that mark it (`shim.c`), holds one path and ends with a NUL at least.
 */

/** What the shim is told of the host. */
export interface ShimPaths {
  /** Socket of the node agent that answers calls. */
  readonly socket: string;
  /** The full plugin. */
  readonly program: string;
}

/** The program is not a shim, or a path does not fit. */
export class ShimError extends Error {
  override readonly name = "ShimError";
}

/** Marks, and the bytes that follow each: `sun_path` of unix(7) has 108. */
const places = {
  socket: { mark: "kuma-cni:socket\0", size: 108 },
  program: { mark: "kuma-cni:plugin\0", size: 512 },
} as const;

/**
 * Returns a shim that knows these paths.
 *
 * @param shim The built shim's file.
 * @throws {ShimError} when it has no such places, or a path is not absolute, holds a NUL or is too long.
 */
export function withPaths(shim: Uint8Array, paths: ShimPaths): Uint8Array<ArrayBuffer> {
  const copy = new Uint8Array(shim);
  for (const name of ["socket", "program"] as const) {
    copy.set(contentOf(name, paths[name]), offsetOf(shim, name));
  }
  return copy;
}

/**
 * Tells why a shim cannot be told these paths; `undefined` when it can.
 */
export function misfitOf(paths: ShimPaths): string | undefined {
  try {
    for (const name of ["socket", "program"] as const) contentOf(name, paths[name]);
    return undefined;
  } catch (error) {
    if (error instanceof ShimError) return error.message;
    throw error;
  }
}

function offsetOf(shim: Uint8Array, name: keyof typeof places): number {
  const { mark, size } = places[name];
  const text = new TextDecoder("latin1").decode(shim);
  const at = text.indexOf(mark);
  if (at < 0 || text.indexOf(mark, at + 1) >= 0 || at + mark.length + size > shim.length) {
    throw new ShimError(
      `Cannot find the place of the ${name}'s path in the shim; build it with 'deno task build'`,
    );
  }
  return at + mark.length;
}

function contentOf(name: keyof typeof places, path: string): Uint8Array {
  const { size } = places[name];
  if (!path.startsWith("/") || path.includes("\0")) {
    throw new ShimError(
      `Cannot tell the shim ${JSON.stringify(path)}: expected an absolute path without NUL`,
    );
  }
  const content = new Uint8Array(size);
  const bytes = new TextEncoder().encode(path);
  if (bytes.length >= size) {
    throw new ShimError(
      `Cannot tell the shim ${JSON.stringify(path)}: it has ${bytes.length} bytes, at most ` +
        `${size - 1} fit; choose a shorter folder`,
    );
  }
  content.set(bytes);
  return content;
}
