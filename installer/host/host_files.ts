/**
 * Atomic changes of single host files: whoever reads a file sees the old or the new content, never a
 * part, and a change that another program makes meanwhile is never lost.
 *
 * Temporary files stand in the folder of their target, because the runtimes' file watch overlooks a
 * file that is moved in from elsewhere. Their names start with a dot, begin with the target's name and
 * do not end in an extension that runtimes load.
 */
import { isUnsupported, type Operations } from "./operations.ts";

/** Permission bits and owner of a file. */
export interface Attributes {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

/** How {@linkcode replaceFile} ended; `changed`: another program changed the file, nothing was done. */
export type Replaced = "done" | "changed";

/** Returns a new temporary name beside a file. */
export function temporaryName(path: string): string {
  const slash = path.lastIndexOf("/");
  return `${path.slice(0, slash + 1)}.${path.slice(slash + 1)}.kuma-cni-${crypto.randomUUID()}`;
}

/** Returns the name of the file that a temporary name was made for, or `undefined`. */
export function targetOfTemporaryName(name: string): string | undefined {
  return /^\.(.+)\.kuma-cni-[0-9a-f-]{36}$/.exec(name)?.[1];
}

/** Returns the folder of a path. */
export function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

/**
 * Writes a temporary file beside `path`, with its content on the disk.
 *
 * @param like A file whose extended attributes it gets.
 * @returns Its path. When anything fails, the file is removed again.
 */
export function writeTemporary(
  operations: Operations,
  path: string,
  content: Uint8Array,
  attributes: Attributes,
  like?: string,
): string {
  const temporary = temporaryName(path);
  try {
    using file = operations.create(temporary);
    operations.write(file, temporary, content);
    // Mode and attributes first: those of a file that was given away, only CAP_FOWNER could change.
    if (attributes.mode !== 0o600) operations.setMode(temporary, attributes.mode);
    if (like !== undefined) {
      // An access control list is part of the mode: another mode means that it is not wanted.
      const isSameMode = operations.targetStatus(like)?.mode === attributes.mode;
      operations.copyExtendedAttributes(like, temporary, isSameMode);
    }
    keepOwner(operations, temporary, attributes);
    operations.sync(file, temporary);
  } catch (error) {
    discard(operations, temporary);
    throw error;
  }
  return temporary;
}

/**
 * Gives a file its owner where that is allowed. It is a wish: a runtime reads its configuration as
 * root, and a node whose list belongs to somebody else shall not need CAP_CHOWN for its pods' sake.
 */
function keepOwner(operations: Operations, path: string, { uid, gid }: Attributes): void {
  const actual = operations.status(path)!;
  if (actual.uid === uid && actual.gid === gid) return;
  try {
    operations.setOwner(path, uid, gid);
  } catch (error) {
    if (!(error instanceof Deno.errors.PermissionDenied)) throw error;
  }
}

/** Tells whether a file has another owner than it should have kept. */
export function hasOtherOwner(operations: Operations, path: string, wish: Attributes): boolean {
  const actual = operations.status(path);
  return actual !== undefined && (actual.uid !== wish.uid || actual.gid !== wish.gid);
}

/**
 * Replaces a file's content if it is what the caller has seen, in one atomic step.
 *
 * The new file is exchanged with the old one rather than renamed over it: what is swapped out can
 * then be compared once more, and put back when another program wrote it in the last moment.
 *
 * @param expected The bytes that the caller has seen, or `undefined` for a missing file.
 * @param attributes Mode of the new file, and its owner where this process may give files away;
 * extended attributes are the old one's.
 * @throws when the file system refuses; the old file is then untouched.
 */
export function replaceFile(
  operations: Operations,
  path: string,
  expected: Uint8Array | undefined,
  content: Uint8Array,
  attributes: Attributes,
): Replaced {
  const like = expected === undefined ? undefined : path;
  const temporary = writeTemporary(operations, path, content, attributes, like);
  if (expected === undefined) {
    const wasFree = attemptOrDiscard(
      operations,
      temporary,
      () => operations.renameIfFree(temporary, path),
    );
    if (!wasFree) {
      discard(operations, temporary);
      refuseOther(operations, path);
      return "changed";
    }
  } else {
    const result = swap(operations, temporary, path, content, expected);
    discard(operations, temporary);
    if (result !== "done") return result;
  }
  operations.syncDirectory(folderOf(path));
  return "done";
}

/** Names what stands in the way and will not go away by itself, unlike another program's new file. */
function refuseOther(operations: Operations, path: string): void {
  const kind = (operations.targetStatus(path) ?? operations.status(path))?.kind;
  if (kind === undefined || kind === "file") return;
  const found = kind === "directory" ? "a folder" : kind === "link" ? "a dead link" : "no file";
  throw new Error(`Cannot write "${path}": it is ${found}; remove it`);
}

/** Puts `temporary` in place of `path` and makes sure that the newest foreign content stays. */
function swap(
  operations: Operations,
  temporary: string,
  path: string,
  content: Uint8Array,
  expected: Uint8Array,
): Replaced {
  const isAsExpected = attemptOrDiscard(
    operations,
    temporary,
    () => sameBytes(operations.read(path), expected),
  );
  if (!isAsExpected) return "changed";
  let [put, seen] = [content, expected];
  for (let attempt = 0;; attempt++) {
    try {
      // A missing file means that its deletion is the newest change; it stays deleted.
      if (!operations.exchange(temporary, path)) return "changed";
    } catch (error) {
      if (attempt > 0) throw error;
      if (!isUnsupported(error)) {
        discard(operations, temporary);
        throw error;
      }
      // A file system without exchange leaves only this: compared just before, then renamed over.
      attemptOrDiscard(operations, temporary, () => operations.rename(temporary, path));
      return "done";
    }
    const swappedOut = operations.read(temporary);
    if (swappedOut === undefined || sameBytes(swappedOut, seen)) {
      return attempt === 0 ? "done" : "changed";
    }
    [put, seen] = [swappedOut, put];
  }
}

function attemptOrDiscard<T>(operations: Operations, temporary: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    discard(operations, temporary);
    throw error;
  }
}

/** Removes a file if it still has the bytes that the caller has seen. */
export function removeFile(
  operations: Operations,
  path: string,
  expected: Uint8Array | undefined,
): Replaced {
  if (expected !== undefined) {
    const current = operations.read(path);
    if (current === undefined) return "done";
    if (!sameBytes(current, expected)) return "changed";
    const temporary = temporaryName(path);
    operations.rename(path, temporary);
    const taken = operations.read(temporary);
    if (taken !== undefined && !sameBytes(taken, expected)) {
      // Another program wrote it in the last moment: back with it, unless it wrote once more.
      if (operations.renameIfFree(temporary, path)) return "changed";
    }
    operations.remove(temporary);
  } else {
    operations.remove(path);
  }
  operations.syncDirectory(folderOf(path));
  return "done";
}

/** Tells whether both are there with equal bytes. */
export function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (a === undefined || b === undefined || a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}

/** Removes a temporary file, whatever the state of the file system. */
export function discard(operations: Operations, path: string): void {
  try {
    operations.remove(path);
  } catch {
    // On a file system that turned read-only the leftover is removed at the next start.
  }
}
