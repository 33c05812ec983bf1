/**
 * Writes tar archives (POSIX ustar) whose bytes depend on nothing but their entries: owner root,
 * times as given, in the order given.
 */

/** One entry of an archive. */
export type TarEntry =
  & {
    /** Path without a leading slash. */
    readonly path: string;
    /** Permission bits; 0755 unless told. */
    readonly mode?: number;
  }
  & (
    | { readonly kind: "file"; readonly data: Uint8Array }
    | { readonly kind: "folder" }
    /** `target` is relative to the folder of the link, or absolute. */
    | { readonly kind: "symlink"; readonly target: string }
    /** `target` is the path of an earlier entry: both are one file. */
    | { readonly kind: "hardlink"; readonly target: string }
  );

const blockSize = 512;
const types = { file: "0", hardlink: "1", symlink: "2", folder: "5" } as const;

/**
 * Writes an archive.
 *
 * @param entries What is in it, in order.
 * @param seconds Modification time of all entries, since 1970.
 * @returns The bytes of the archive.
 * @throws {RangeError} when a path or a file is too long for the format.
 */
export function tar(entries: readonly TarEntry[], seconds = 0): Uint8Array<ArrayBuffer> {
  const end = 2 * blockSize;
  const size = entries.reduce((sum, entry) => sum + blockSize + paddedLength(entry), end);
  const archive = new Uint8Array(size);
  let offset = 0;
  for (const entry of entries) {
    archive.set(header(entry, seconds), offset);
    if (entry.kind === "file") archive.set(entry.data, offset + blockSize);
    offset += blockSize + paddedLength(entry);
  }
  return archive;
}

function paddedLength(entry: TarEntry): number {
  return entry.kind === "file" ? Math.ceil(entry.data.length / blockSize) * blockSize : 0;
}

function header(entry: TarEntry, seconds: number): Uint8Array {
  const block = new Uint8Array(blockSize);
  const put = (offset: number, length: number, text: string, what: string) => {
    const bytes = new TextEncoder().encode(text);
    if (bytes.length > length) {
      throw new RangeError(
        `Cannot put "${entry.path}" into a tar archive: its ${what} has ${bytes.length} bytes, ` +
          `at most ${length} fit`,
      );
    }
    block.set(bytes, offset);
  };
  const octal = (offset: number, length: number, value: number, what: string) =>
    put(offset, length, value.toString(8).padStart(length - 1, "0") + "\0", what);
  put(0, 100, entry.kind === "folder" ? `${entry.path}/` : entry.path, "path");
  octal(100, 8, entry.mode ?? 0o755, "mode");
  octal(108, 8, 0, "owner");
  octal(116, 8, 0, "group");
  octal(124, 12, entry.kind === "file" ? entry.data.length : 0, "size");
  octal(136, 12, seconds, "time");
  put(148, 8, " ".repeat(8), "checksum");
  put(156, 1, types[entry.kind], "type");
  if (entry.kind === "symlink" || entry.kind === "hardlink") {
    put(157, 100, entry.target, "link target");
  }
  put(257, 8, "ustar\x0000", "magic");
  put(265, 32, "root", "owner's name");
  put(297, 32, "root", "group's name");
  const sum = block.reduce((total, byte) => total + byte, 0);
  put(148, 8, sum.toString(8).padStart(6, "0") + "\0 ", "checksum");
  return block;
}
