/**
 * Content of large files, read in parts: what is to be installed, and what is. Their pages leave the
 * container's memory again, which they would fill.
 */
import { createHash } from "node:crypto";
import { LinuxError } from "../../src/linux/errno.ts";
import { memoryLimit } from "../../src/linux/memory_limit.ts";
import { PassingPages } from "../../src/linux/page_cache.ts";

/** Bytes to put in place of others. */
export interface Patch {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

/** A file's content, or what is made of it. */
export interface Content {
  readonly source: string;
  /** What takes the place of the source's end: how much of the source stays, and the file that follows. */
  readonly end?: { readonly at: number; readonly source: string };
  /** Bytes that are different. */
  readonly patch?: Patch;
  /** Nobody else needs its pages yet, whatever is in memory of it. */
  readonly isOurs?: boolean;
}

const chunkSize = 1 << 20;

/**
 * Reads a content from its begin.
 *
 * @param take Gets each part and where it begins; the bytes are overwritten afterwards.
 * @returns SHA-256 of the content, hexadecimal.
 */
export async function readContent(
  { source, end, patch, isOurs }: Content,
  take: (bytes: Uint8Array, offset: number) => void = () => {},
): Promise<string> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(chunkSize);
  let offset = 0;
  const read = async (path: string, start: number, limit = Infinity) => {
    using file = Deno.openSync(path, { read: true });
    using pages = passingPages(path, isOurs ? undefined : file.statSync().size);
    file.seekSync(start, Deno.SeekMode.Start);
    for (let at = start; at < limit;) {
      const length = file.readSync(buffer.subarray(0, Math.min(chunkSize, limit - at)));
      if (length === null) break;
      const bytes = buffer.subarray(0, length);
      for (let i = 0; patch !== undefined && i < patch.bytes.length; i++) {
        const position = patch.offset + i - offset;
        if (position >= 0 && position < length) bytes[position] = patch.bytes[i]!;
      }
      hash.update(bytes);
      take(bytes, offset);
      pages?.forget(at, length);
      at += length;
      offset += length;
      // Plugins that ask the agent for their pod must not wait for the whole file.
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
  };
  await read(source, 0, end?.at);
  if (end !== undefined) await read(end.source, 0);
  return hash.digest("hex");
}

/** Below such a bound the program's two copies would take most of it. */
const tightLimit = 512 * 1024 * 1024;

let isTight: boolean | undefined;

/** Whether pages of files count: without a tight bound it is better that they stay for the next time. */
export function isMemoryTight(): boolean {
  return isTight ??= (memoryLimit() ?? Infinity) < tightLimit;
}

/**
 * Returns what forgets the pages of a file; where they cannot be forgotten, reading costs memory and
 * nothing else.
 *
 * @param size Its size when it is about to be read; `undefined` for one that is about to be written.
 */
export function passingPages(path: string, size?: number): PassingPages | undefined {
  if (!isMemoryTight()) return undefined;
  try {
    return new PassingPages(path, size);
  } catch (error) {
    if (error instanceof LinuxError) return undefined;
    throw error;
  }
}
