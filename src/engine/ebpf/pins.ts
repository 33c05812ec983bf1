/**
 * Pins in a BPF file system: the link to a pod's network namespace stays as long as its pin. Folders
 * are made and removed by the C library, since the engine tells the kernel's errors apart.
 */
import { bpfLinkInfo, pinnedBpfObject } from "../../linux/bpf.ts";
import { unlessError } from "../../linux/errno.ts";
import { checked, cString, type FileDescriptor, loadFunctions } from "../../linux/libc.ts";
import type { SweptPin } from "./interface.ts";

const FOLDER = "kuma-cni";
/** Name of the pin of the link for incoming connections. */
const LINK = "inbound";

const symbols = {
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
  rmdir: { parameters: ["buffer"], result: "i32" },
  unlink: { parameters: ["buffer"], result: "i32" },
} as const;

let library: Deno.DynamicLibrary<typeof symbols>["symbols"] | undefined;

function libc(): Deno.DynamicLibrary<typeof symbols>["symbols"] {
  return library ??= loadFunctions(symbols);
}

/**
 * The folder of a sandbox's pins: `<bpffs>/kuma-cni/<container ID>`.
 *
 * @throws {TypeError} for an ID that is not one: it would name another folder.
 */
export function pinFolderOf(bpffs: string, containerId: string): string {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(containerId)) {
    throw new TypeError(`Cannot make a folder of the container ID ${JSON.stringify(containerId)}`);
  }
  return `${bpffs}/${FOLDER}/${containerId}`;
}

/** Path of the link's pin. */
export function linkPin(pinFolder: string): string {
  return `${pinFolder}/${LINK}`;
}

/** Makes the folder of a sandbox's pins, for root alone. */
export function makePinFolder(pinFolder: string): void {
  for (const path of [pinFolder.slice(0, pinFolder.lastIndexOf("/")), pinFolder]) {
    unlessError(
      "EEXIST",
      () => checked(`Cannot make the folder "${path}"`, () => libc().mkdir(cString(path), 0o700)),
    );
  }
}

/** Opens a sandbox's link; `undefined` when it is not pinned. */
export function pinnedLink(pinFolder: string): FileDescriptor | undefined {
  return unlessError("ENOENT", () => pinnedBpfObject(linkPin(pinFolder)));
}

/**
 * Removes a sandbox's pins; what they held goes with them. Not there is fine.
 *
 * @returns whether there was any
 */
export function unpin(pinFolder: string): boolean {
  const path = linkPin(pinFolder);
  const done = [
    unlessError(
      "ENOENT",
      () => checked(`Cannot remove the BPF pin "${path}"`, () => libc().unlink(cString(path))),
    ),
    unlessError(
      "ENOENT",
      () =>
        checked(`Cannot remove the folder "${pinFolder}"`, () => libc().rmdir(cString(pinFolder))),
    ),
  ];
  return done.some((result) => result !== undefined);
}

/** Removes the pins whose network namespace is gone. */
export function sweepPins(bpffs: string): SweptPin[] {
  return foldersIn(`${bpffs}/${FOLDER}`).map((containerId) => {
    const folder = `${bpffs}/${FOLDER}/${containerId}`;
    const why = reasonToRemove(folder);
    if (why !== undefined) unpin(folder);
    return { containerId, removed: why !== undefined, reason: why ?? "its namespace is in use" };
  });
}

function reasonToRemove(folder: string): string | undefined {
  using link = pinnedLink(folder);
  if (link === undefined) return "it is empty";
  return bpfLinkInfo(link).netnsInode === 0 ? "its network namespace is gone" : undefined;
}

function foldersIn(path: string): string[] {
  try {
    return [...Deno.readDirSync(path)].map(({ name }) => name);
  } catch {
    return [];
  }
}
