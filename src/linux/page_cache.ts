/**
 * Lets the kernel forget the pages of a file that was read or written once: they count towards the
 * memory of the container that touched them first, up to its limit.
 *
 * Needs `--allow-ffi`. Facts: posix_fadvise(2), sync_file_range(2), mincore(2).
 */
import { type FileDescriptor, loadFunctions, openForReading } from "./libc.ts";

const interfaceOfLibc = {
  posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32" },
  sync_file_range: { parameters: ["i32", "i64", "i64", "u32"], result: "i32" },
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  mincore: { parameters: ["usize", "usize", "buffer"], result: "i32" },
} as const;

const POSIX_FADV_DONTNEED = 4;
const SYNC_FILE_RANGE_WRITE_AND_WAIT = 7;
const PROT_READ = 1;
const MAP_SHARED = 1;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
/** Smallest page of a supported architecture; with larger ones a few answers repeat. */
const pageSize = 4096;

/** Pages of the largest group that is usual. */
const groupSize = 8 * 1024 * 1024 / pageSize;

let loaded: Deno.DynamicLibrary<typeof interfaceOfLibc>["symbols"] | undefined;

function libc(): Deno.DynamicLibrary<typeof interfaceOfLibc>["symbols"] {
  return loaded ??= loadFunctions(interfaceOfLibc);
}

/**
 * Forgets the pages of one file, part by part. Those that were in memory already stay: somebody else
 * needs them, as a node does those of a plugin that it starts for each pod.
 */
export class PassingPages implements Disposable {
  readonly #file: FileDescriptor;
  /** For each page, whether it was in memory before; `undefined`: none was. */
  readonly #before: Uint8Array<ArrayBuffer> | undefined;

  /**
   * @param path A regular file.
   * @param size Its size when it is about to be read; `undefined` for one that is about to be written.
   * @throws {LinuxError} when it cannot be opened.
   */
  constructor(path: string, size?: number) {
    this.#file = openForReading(path);
    this.#before = size === undefined ? undefined : residentPages(this.#file, size);
  }

  /** How many pages were in memory before. */
  get residentBefore(): number {
    return this.#before?.reduce((sum, page) => sum + (page & 1), 0) ?? 0;
  }

  /**
   * Forgets a part, which is written to the disk first. What cannot be forgotten costs memory alone,
   * and there are file systems that are nothing but memory, so there is no error.
   */
  forget(offset: number, length: number): void {
    const first = Math.floor(offset / pageSize);
    const last = Math.ceil((offset + length) / pageSize);
    if (this.#before?.subarray(first, last).some((page) => (page & 1) === 1)) return;
    // The kernel keeps pages in groups, and forgets a group only as a whole.
    let begin = first;
    const earliest = Math.max(0, first - groupSize);
    while (begin > earliest && ((this.#before?.[begin - 1] ?? 0) & 1) === 0) begin--;
    const [from, size] = [BigInt(begin * pageSize), BigInt((last - begin) * pageSize)];
    const { sync_file_range, posix_fadvise } = libc();
    sync_file_range(this.#file.number, from, size, SYNC_FILE_RANGE_WRITE_AND_WAIT);
    posix_fadvise(this.#file.number, from, size, POSIX_FADV_DONTNEED);
  }

  [Symbol.dispose](): void {
    this.#file[Symbol.dispose]();
  }
}

/** Tells of each page of a file whether it is in memory; `undefined` when the kernel does not tell. */
function residentPages(file: FileDescriptor, size: number): Uint8Array<ArrayBuffer> | undefined {
  if (size === 0) return undefined;
  const { mmap, mincore, munmap } = libc();
  const length = BigInt(size);
  const address = mmap(0n, length, PROT_READ, MAP_SHARED, file.number, 0n);
  if (address === MAP_FAILED) return undefined;
  try {
    const pages = new Uint8Array(Math.ceil(size / pageSize));
    return mincore(address, length, pages) === 0 ? pages : undefined;
  } finally {
    munmap(address, length);
  }
}
