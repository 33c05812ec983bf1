/**
 * The plugin's program and libraries: from the image to the host's bin dir, proven by hash.
 *
 * The program goes in last and its libraries go out last, so that whoever starts the program at any
 * moment finds what it needs. Nothing holds the whole program in memory: it has 90 MB, and the
 * reference manifest gives the container 100.
 */
import { LinuxError } from "../../src/linux/errno.ts";
import { fileClock } from "../../src/linux/file_clock.ts";
import { pluginType } from "../conflist/conflist.ts";
import { canBeDelStub, isDelStub } from "./del_stub.ts";
import { type Content, passingPages, readContent } from "./file_content.ts";
import { discard, folderOf, temporaryName, writeTemporary } from "./host_files.ts";
import { libraryFolder } from "./interpreter.ts";
import type { FileStatus, Operations } from "./operations.ts";
import { ownGid, ownUid } from "./owner.ts";
import { type PlannedFile, planPluginFiles, type PluginPlaces } from "./plugin_plan.ts";
import { startProgram, startShim } from "./program_start.ts";
import { chooseShim, type ShimChoice, withShim } from "./shim_plan.ts";

/** How the bin dir compares with the image. */
export type PluginState =
  | { readonly kind: "current" }
  | { readonly kind: "missing"; readonly path: string }
  | { readonly kind: "differs"; readonly path: string };

/** Of what a content is made: its size, and what changes when it does. */
type ContentStatus = Pick<FileStatus, "size" | "identity" | "changed">;

/** Installs, inspects and removes the plugin's files. */
export class PluginFiles {
  readonly #hashes = new Map<string, { identity: string; hash: string }>();
  #planned: readonly PlannedFile[] | undefined;
  #choice: ShimChoice | undefined;
  #doubt: string | undefined;

  /** @param start Starts a program that was just copied. */
  constructor(
    private readonly operations: Operations,
    private readonly places: PluginPlaces,
    private readonly start: typeof startProgram = startProgram,
    private readonly tryShim: typeof startShim = startShim,
  ) {}

  /** Whether runtimes start the shim, or why not; `undefined` before the first look. */
  get shim(): ShimChoice | undefined {
    return this.#choice;
  }

  /** Why it is not known whether the program that was installed last can start. */
  get doubt(): string | undefined {
    return this.#doubt;
  }

  /**
   * Whether the program holds the bin dir's path on the host, so that a wrong one keeps it from
   * starting; not known of an image that cannot be read.
   */
  get needsHostPath(): boolean {
    return (this.#planned ?? []).some((file) => file.patch !== undefined);
  }

  /** Finds out what is to be installed; an image that cannot be read shows when it is inspected. */
  async prepare(): Promise<void> {
    await this.#plan().catch(() => {});
  }

  /**
   * Compares the bin dir with the image by hash; a hash is kept as long as the file's status says that
   * nothing has changed.
   *
   * @throws when the image's own files cannot be read.
   */
  async inspect(): Promise<PluginState> {
    for (const file of await this.#plan()) {
      const status = this.operations.status(file.target);
      if (status === undefined) return { kind: "missing", path: file.target };
      if (!(await this.#isCurrent(file, status))) return { kind: "differs", path: file.target };
    }
    return { kind: "current" };
  }

  /** Paths of the files on the host; empty when the image's own files could not be read. */
  get targets(): readonly string[] {
    return (this.#planned ?? []).map((file) => file.target);
  }

  /**
   * Copies what is missing or different, libraries first, what runtimes start last. The plugin is
   * started once before it gets its name.
   *
   * @throws when a file cannot be written, or reads back differently, or when the program does not
   * start; the old file is then in place.
   */
  async install(): Promise<void> {
    for (const file of await this.#plan()) {
      const status = this.operations.status(file.target);
      if (status !== undefined && await this.#isCurrent(file, status)) continue;
      this.#makeFolders(folderOf(file.target));
      await this.#copy(file);
    }
  }

  /**
   * Removes programs and libraries of other versions, once no program that needs them can still be
   * starting.
   */
  removeStale(now: number): void {
    const programs = (this.#planned ?? []).filter(({ role }) => role !== "library")
      .map(({ target }) => this.operations.status(target)?.modified);
    const isOld = (modified?: number) => modified !== undefined && now - modified >= 60_000;
    if (programs.length > 0 && programs.every(isOld)) this.removeReplaced();
  }

  /** Removes programs and libraries of other versions. */
  removeReplaced(): void {
    if (this.#planned === undefined) return;
    this.#removePrevious();
    const wanted = new Set(this.#planned.map((file) => file.target));
    const own = `${this.places.binDir}/${libraryFolder}`;
    for (const path of this.#filesBelow(own)) {
      if (!wanted.has(path)) this.operations.remove(path);
    }
    for (const folder of this.#foldersBelow(own)) {
      if (!Array.from(wanted).some((path) => path.startsWith(`${folder}/`))) {
        this.operations.remove(folder);
      }
    }
  }

  /** Whether programs of other versions are still there. */
  get hasReplaced(): boolean {
    const wanted = new Set(this.targets);
    const isProgram = (path: string) =>
      path.endsWith(`/${pluginType}`) || path.endsWith(previousOf(`/${pluginType}`));
    return this.#hasPrevious ||
      this.#filesBelow(`${this.places.binDir}/${libraryFolder}`)
        .some((path) => isProgram(path) && !wanted.has(path));
  }

  get #hasPrevious(): boolean {
    return this.operations.status(previousOf(this.#programPath)) !== undefined;
  }

  #removePrevious(): void {
    if (this.#hasPrevious) this.operations.remove(previousOf(this.#programPath));
  }

  /** Whether a program, or a stub of it, is in the bin dir. */
  get isThere(): boolean {
    return this.operations.status(this.#programPath) !== undefined;
  }

  /** Whether what is in the bin dir is the stub that answers DEL. */
  get isStub(): boolean {
    const status = this.operations.status(this.#programPath);
    if (status?.kind !== "file" || !canBeDelStub(status.size)) return false;
    return isDelStub(this.operations.read(this.#programPath) ?? new Uint8Array());
  }

  /**
   * Removes program and libraries; nothing on the host may name the program any more.
   *
   * @param stub A program to leave in its place, for those who still call it.
   */
  remove(stub?: Uint8Array): void {
    if (stub === undefined) this.operations.remove(this.#programPath);
    else {
      const attributes = { mode: 0o755, uid: ownUid(), gid: ownGid() };
      const temporary = writeTemporary(this.operations, this.#programPath, stub, attributes);
      this.operations.rename(temporary, this.#programPath);
      this.operations.syncDirectory(this.places.binDir);
    }
    this.#removePrevious();
    const own = `${this.places.binDir}/${libraryFolder}`;
    const status = this.operations.status(own);
    if (status === undefined) return;
    if (status.kind !== "directory") return this.operations.remove(own);
    for (const path of this.#filesBelow(own)) this.operations.remove(path);
    for (const path of this.#foldersBelow(own)) this.operations.remove(path);
    this.operations.remove(own);
  }

  get #programPath(): string {
    return `${this.places.binDir}/${pluginType}`;
  }

  /** The files to install, in order; the image does not change while the process runs. */
  async #plan(): Promise<readonly PlannedFile[]> {
    if (this.#planned !== undefined) return this.#planned;
    const { operations, places } = this;
    const files = planPluginFiles(operations, places);
    const choice = chooseShim(operations, places, this.tryShim);
    this.#choice = choice;
    if (choice.kind === "plugin") return this.#planned = files;
    const plugin = files.find(({ role }) => role === "plugin")!;
    const hash = await this.#hash(plugin, this.#sourceStatus(plugin));
    return this.#planned = withShim(files, choice, hash, places);
  }

  /** Size of the file to install, when it last changed, and what changes when it does. */
  #sourceStatus({ source, end }: PlannedFile): ContentStatus {
    const status = (path: string) => {
      const found = this.operations.targetStatus(path);
      if (found === undefined) throw new Error(`Cannot find "${path}" of the image`);
      return found;
    };
    const { size, identity, changed } = status(source);
    if (end === undefined) return { size, identity, changed };
    const rest = status(end.source);
    return {
      size: end.at + rest.size,
      identity: `${identity} ${rest.identity}`,
      changed: rest.changed > changed ? rest.changed : changed,
    };
  }

  async #isCurrent(file: PlannedFile, status: FileStatus): Promise<boolean> {
    if (status.kind !== "file" || status.mode !== file.mode) return false;
    // Whoever owns the program could change it after the comparison, and root runs it.
    if (status.uid !== Deno.uid()) return false;
    const source = this.#sourceStatus(file);
    if (source.size !== status.size) return false;
    const wanted = await this.#hash(file, source);
    return await this.#hash({ source: file.target }, status) === wanted;
  }

  /** @param status The files' status, which was read before and not after the content. */
  async #hash(content: Content, status: ContentStatus): Promise<string> {
    const known = this.#hashes.get(content.source);
    if (known?.identity === status.identity) return known.hash;
    const begin = fileClock();
    const hash = await readContent(content);
    this.#keepHash(content.source, status, begin, hash);
    return hash;
  }

  /**
   * Keeps a hash with the identity that the file had before its bytes were read: one that was read
   * afterwards could be that of another program's file.
   *
   * @param begin When reading the content began, by the clock of files.
   */
  #keepHash(path: string, status: ContentStatus, begin: bigint, hash: string): void {
    // Another change in the same tick of the clock would leave the identity as it is.
    if (begin <= status.changed) this.#hashes.delete(path);
    else this.#hashes.set(path, { identity: status.identity, hash });
  }

  async #copy(planned: PlannedFile): Promise<void> {
    const { operations } = this;
    const temporary = temporaryName(planned.target);
    try {
      const wanted = await this.#write(planned, temporary);
      if (planned.role === "plugin") this.#tryStart(planned, temporary);
      if (await readContent({ source: temporary, isOurs: true }) !== wanted) {
        throw new Error(
          `Cannot copy "${planned.source}" to "${planned.target}": it reads back wrong`,
        );
      }
      if (planned.role === "library") operations.rename(temporary, planned.target);
      else this.#replaceProgram(temporary, planned.target);
    } catch (error) {
      discard(operations, temporary);
      throw error;
    }
    operations.syncDirectory(folderOf(planned.target));
  }

  /**
   * Writes the copy and returns the hash that it must have. It is no longer open for writing then:
   * the kernel starts no program that anybody can write to (execve(2), `ETXTBSY`).
   */
  async #write(planned: PlannedFile, temporary: string): Promise<string> {
    const { operations } = this;
    const status = this.#sourceStatus(planned);
    const begin = fileClock();
    using file = operations.create(temporary);
    using pages = passingPages(temporary);
    const wanted = await readContent(planned, (bytes, offset) => {
      operations.write(file, temporary, bytes);
      pages?.forget(offset, bytes.length);
    });
    this.#keepHash(planned.source, status, begin, wanted);
    operations.setMode(temporary, planned.mode);
    operations.sync(file, temporary);
    return wanted;
  }

  /**
   * Starts the copy once, before it gets its name. For that it is given the path of its loader as this
   * process sees it; what else a start needs is the same on the host.
   *
   * @throws when it does not start.
   */
  #tryStart({ source, patch, trial }: PlannedFile, temporary: string): void {
    this.#doubt = undefined;
    if (patch !== undefined && trial === undefined) {
      this.#doubt = "the path of its folder is too long here";
      return;
    }
    if (trial !== undefined) this.operations.overwrite(temporary, trial.offset, trial.bytes);
    const result = this.start(temporary, patch !== undefined);
    if (result.kind === "failed") {
      throw new Error(`"${source}" does not start from "${this.places.binDir}": ${result.reason}`);
    }
    if (result.kind === "doubt") this.#doubt = result.reason;
    if (patch !== undefined) this.operations.overwrite(temporary, patch.offset, patch.bytes);
  }

  /**
   * Puts a new program in place and keeps the old one under another name: a compiled program opens
   * its own file a moment after it was started, which fails once that file has no name any more.
   */
  #replaceProgram(temporary: string, path: string): void {
    const { operations } = this;
    if (operations.status(path)?.kind === "file") {
      try {
        if (operations.exchange(temporary, path)) {
          return operations.rename(temporary, previousOf(path));
        }
      } catch (error) {
        if (!(error instanceof LinuxError && error.code === "EINVAL")) throw error;
        // A file system without exchange leaves only the plain way.
      }
    }
    operations.rename(temporary, path);
  }

  #makeFolders(folder: string): void {
    const { binDir } = this.places;
    if (!folder.startsWith(`${binDir}/`)) return;
    this.#makeFolders(folderOf(folder));
    const status = this.operations.status(folder);
    if (status !== undefined && status.kind !== "directory") this.operations.remove(folder);
    this.operations.makeDirectory(folder, 0o755);
    // The umask of the container must not decide who can run the plugin.
    if (status?.mode !== 0o755) this.operations.setMode(folder, 0o755);
  }

  #filesBelow(folder: string): string[] {
    return (this.operations.list(folder) ?? []).flatMap((name) => {
      const path = `${folder}/${name}`;
      return this.operations.status(path)?.kind === "directory" ? this.#filesBelow(path) : [path];
    });
  }

  /** Folders below a folder, innermost first. */
  #foldersBelow(folder: string): string[] {
    return (this.operations.list(folder) ?? []).flatMap((name) => {
      const path = `${folder}/${name}`;
      if (this.operations.status(path)?.kind !== "directory") return [];
      return [...this.#foldersBelow(path), path];
    });
  }
}

/** Where a program stands that was replaced last, for those of its calls that are starting. */
function previousOf(program: string): string {
  return `${program}.previous`;
}
