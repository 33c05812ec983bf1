/**
 * The only door through which the installer touches the host's files. Every operation passes a
 * callback first, so that tests can stop the process, or let another program act, between any two.
 */
import { LinuxError } from "../../src/linux/errno.ts";
import {
  extendedAttributes,
  isRefusal,
  removeExtendedAttribute,
  setExtendedAttribute,
} from "../../src/linux/extended_attributes.ts";
import { exchangeFiles, renameToFreeName } from "../../src/linux/file_exchange.ts";
import { changeTime } from "../../src/linux/file_clock.ts";
import { readRegularFile } from "../../src/linux/regular_file.ts";

/** Most bytes of a file that is read whole: the journal holds several files of a MiB at most. */
const largestFile = 16 * 1024 * 1024;

/** One operation on the host's files, as its observer sees it. */
export interface Operation {
  readonly name: string;
  readonly path: string;
  /** Whether it changes the file system. */
  readonly changes: boolean;
}

/** What the installer reads of a file's status. */
export interface FileStatus {
  readonly kind: "file" | "directory" | "link" | "other";
  /** Permission bits, for example 0o600. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  /** Time of the last change of the content, in milliseconds since the epoch. */
  readonly modified: number;
  /** Time of the last change of content or attributes, which nobody can set, in nanoseconds. */
  readonly changed: bigint;
  /** Equal as long as neither the file nor its content or attributes change. */
  readonly identity: string;
  /** Equal for all names of one file or directory, whatever happens to it. */
  readonly inode: string;
}

/** File operations; all synchronous, so that nothing of this process comes between two of them. */
export class Operations {
  readonly #refused: string[] = [];

  /** @param before Called before each operation. */
  constructor(private readonly before: (operation: Operation) => void = () => {}) {}

  /** Returns a file's status without following a link, or `undefined` when it is missing. */
  status(path: string): FileStatus | undefined {
    return this.#statusBy(() => Deno.lstatSync(path), path, false);
  }

  /** As {@linkcode status}, but follows links. */
  targetStatus(path: string): FileStatus | undefined {
    return this.#statusBy(() => Deno.statSync(path), path, true);
  }

  /**
   * Returns a file's bytes, or `undefined` when it is missing.
   *
   * @throws {UnusableFileError} when it is not a regular file, or too large for one of ours.
   */
  read(path: string): Uint8Array<ArrayBuffer> | undefined {
    this.#announce("read", path, false);
    return orMissing(() => readRegularFile(path, largestFile));
  }

  /** Returns where a link points to. */
  readLink(path: string): string {
    return Deno.readLinkSync(path);
  }

  /** Returns a directory's names in the order of their bytes, or `undefined` when there is none. */
  list(path: string): string[] | undefined {
    this.#announce("list", path, false);
    return orMissing(() => Array.from(Deno.readDirSync(path), (entry) => entry.name).sort());
  }

  /** Creates a file that must not exist, with mode 0600. */
  create(path: string): Deno.FsFile {
    this.#announce("create", path, true);
    return Deno.openSync(path, { createNew: true, read: true, write: true, mode: 0o600 });
  }

  /** Writes bytes at the file's position; in two parts, so that a half-written file can be tested. */
  write(file: Deno.FsFile, path: string, bytes: Uint8Array): void {
    const middle = bytes.length >> 1;
    for (const part of [bytes.subarray(0, middle), bytes.subarray(middle)]) {
      this.#announce("write", path, true);
      for (let at = 0; at < part.length;) at += file.writeSync(part.subarray(at));
    }
  }

  /** Overwrites a few bytes in the middle of a file, with the bytes on the disk afterwards. */
  overwrite(path: string, offset: number, bytes: Uint8Array): void {
    this.#announce("overwrite", path, true);
    using file = Deno.openSync(path, { write: true });
    file.seekSync(offset, Deno.SeekMode.Start);
    for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
    file.syncSync();
  }

  /** Forces a file's content to the disk. */
  sync(file: Deno.FsFile, path: string): void {
    this.#announce("sync", path, true);
    file.syncSync();
  }

  /** Forces a directory's names to the disk. */
  syncDirectory(path: string): void {
    this.#announce("sync directory", path, true);
    using directory = Deno.openSync(path, { read: true });
    directory.syncSync();
  }

  /** Sets permission bits. */
  setMode(path: string, mode: number): void {
    this.#announce("set mode", path, true);
    Deno.chmodSync(path, mode);
  }

  /** Sets owner and group. */
  setOwner(path: string, uid: number, gid: number): void {
    this.#announce("set owner", path, true);
    Deno.chownSync(path, uid, gid);
  }

  /**
   * Gives a new file the extended attributes of another one: SELinux label, access control list and
   * whatever others have noted. What the kernel refuses is left out, see {@linkcode takeRefused}:
   * a file without its label is better than a node without its network.
   *
   * @param withAccessList Whether the access control list is the new file's, too.
   */
  copyExtendedAttributes(from: string, to: string, withAccessList: boolean): void {
    const wanted = attributesOrNone(from);
    const present = attributesOrNone(to);
    for (const [name, value] of wanted) {
      if (isAboutContent(name) || (isAccessList(name) && !withAccessList)) continue;
      if (sameBytes(value, present.get(name))) continue;
      this.#announce("set extended attribute", to, true);
      this.#unlessRefused(name, to, () => setExtendedAttribute(to, name, value));
    }
    // A folder can give each new file an access control list, which the old file did not have.
    for (const name of present.keys()) {
      if (!isAccessList(name) || !withAccessList || wanted.has(name)) continue;
      this.#announce("remove extended attribute", to, true);
      this.#unlessRefused(name, to, () => removeExtendedAttribute(to, name));
    }
  }

  /** Returns, once, the extended attributes that could not be kept, in words. */
  takeRefused(): readonly string[] {
    return this.#refused.splice(0);
  }

  #unlessRefused(name: string, path: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof LinuxError) || !isRefusal(error)) throw error;
      this.#refused.push(`"${name}" of "${path}": ${error.code}`);
    }
  }

  /** Renames a file over whatever is there. */
  rename(from: string, to: string): void {
    this.#announce("rename", to, true);
    Deno.renameSync(from, to);
  }

  /**
   * Renames a file to a free name.
   *
   * @returns Whether the name was free.
   */
  renameIfFree(from: string, to: string): boolean {
    this.#announce("rename if free", to, true);
    try {
      renameToFreeName(from, to);
      return true;
    } catch (error) {
      if (!(error instanceof LinuxError)) throw error;
      if (error.code === "EEXIST") return false;
      if (!isUnsupported(error)) throw error;
    }
    // A file system without this flag can still make a second name only when it is free.
    try {
      Deno.linkSync(from, to);
    } catch (error) {
      if (error instanceof Deno.errors.AlreadyExists) return false;
      throw error;
    }
    Deno.removeSync(from);
    return true;
  }

  /**
   * Exchanges two files.
   *
   * @returns Whether both were there.
   * @throws {LinuxError} that {@linkcode isUnsupported} when files cannot be exchanged here.
   */
  exchange(one: string, other: string): boolean {
    this.#announce("exchange", other, true);
    try {
      exchangeFiles(one, other);
      return true;
    } catch (error) {
      if (error instanceof LinuxError && error.code === "ENOENT") return false;
      throw error;
    }
  }

  /** Creates a symbolic link. */
  link(target: string, path: string): void {
    this.#announce("link", path, true);
    Deno.symlinkSync(target, path);
  }

  /** Removes a file or an empty directory; a missing one is fine. */
  remove(path: string): void {
    this.#announce("remove", path, true);
    orMissing(() => Deno.removeSync(path));
  }

  /** Creates a directory; an existing one is fine. */
  makeDirectory(path: string, mode: number): void {
    this.#announce("make directory", path, true);
    try {
      Deno.mkdirSync(path, { mode });
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
    }
  }

  #statusBy(
    read: () => Deno.FileInfo,
    path: string,
    followsLink: boolean,
  ): FileStatus | undefined {
    this.#announce("status", path, false);
    const info = orMissing(read);
    if (info === undefined) return undefined;
    const changed = orMissing(() => changeTime(path, followsLink));
    if (changed === undefined) return undefined;
    const kind = info.isSymlink
      ? "link"
      : info.isFile
      ? "file"
      : info.isDirectory
      ? "directory"
      : "other";
    return {
      kind,
      mode: (info.mode ?? 0) & 0o7777,
      uid: info.uid ?? 0,
      gid: info.gid ?? 0,
      size: info.size,
      modified: info.mtime?.getTime() ?? 0,
      changed,
      inode: `${info.dev}-${info.ino}`,
      identity: [info.dev, info.ino, info.size, info.mtime?.getTime(), changed].join("-"),
    };
  }

  #announce(name: string, path: string, changes: boolean): void {
    this.before({ name, path, changes });
  }
}

function isAccessList(name: string): boolean {
  return name.startsWith("system.posix_acl_");
}

/** Hashes and signatures of the content, which the new content does not have. */
function isAboutContent(name: string): boolean {
  return name === "security.ima" || name === "security.evm";
}

function attributesOrNone(path: string): Map<string, Uint8Array> {
  try {
    return extendedAttributes(path);
  } catch (error) {
    if (error instanceof LinuxError && error.code === "ENOENT") return new Map();
    throw error;
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array | undefined): boolean {
  return b !== undefined && a.length === b.length && a.every((byte, i) => byte === b[i]);
}

/**
 * Tells whether an error says that the file system, the kernel or the container's system call filter
 * does not know the flags of renameat2(2).
 */
export function isUnsupported(error: unknown): boolean {
  return error instanceof LinuxError &&
    ["EINVAL", "ENOSYS", "EOPNOTSUPP", "EPERM"].includes(error.code);
}

/** A link that leads round in a circle, or through a file, leads to nothing as well. */
function orMissing<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof LinuxError && ["ENOENT", "ENOTDIR", "ELOOP"].includes(error.code)) {
      return undefined;
    }
    const { NotFound, NotADirectory, FilesystemLoop } = Deno.errors;
    if ([NotFound, NotADirectory, FilesystemLoop].some((kind) => error instanceof kind)) {
      return undefined;
    }
    throw error;
  }
}
