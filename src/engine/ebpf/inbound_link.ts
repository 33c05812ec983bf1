/** The link by which the program for incoming connections is attached to the pod's network namespace. */
import {
  bpfLinkInfo,
  detachLink,
  linkToNamespace,
  pinBpfObject,
  updateLink,
} from "../../linux/bpf.ts";
import { LinuxError } from "../../linux/errno.ts";
import type { FileDescriptor } from "../../linux/libc.ts";
import { load, type Undo } from "./attach.ts";
import { findNamespaceLink, type InstalledPrograms } from "./installed.ts";
import type { OpenMaps } from "./maps.ts";
import { linkPin, makePinFolder, pinnedLink, unpin } from "./pins.ts";
import { LOOKUP_HOOK, type PlannedProgram } from "./programs.ts";

/** Only the way of incoming connections failed: another may do. */
export class InboundError extends Error {
  override readonly name = "InboundError";
}

function aboutInbound<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    throw new InboundError(error.message, { cause: error });
  }
}

/**
 * Loads the program with the maps of its pod.
 *
 * @throws {InboundError} when the kernel refuses.
 */
export function loadLookup(planned: PlannedProgram, maps: OpenMaps): FileDescriptor {
  return aboutInbound(() => load(planned, maps));
}

/** Where the program belongs. */
export interface InboundPlace {
  readonly pinFolder: string | undefined;
  readonly namespace: FileDescriptor;
  /** Of the namespace. */
  readonly inode: number;
  /** What was there before. */
  readonly before: InstalledPrograms;
}

/**
 * Puts the program behind this sandbox's link, or makes and pins one.
 *
 * @param open keeps links open as long as `undo` may need them
 * @throws {InboundError} when there is no folder of pins, or the kernel refuses.
 */
export function attachLookup(
  lookup: FileDescriptor,
  { pinFolder, namespace, inode, before }: InboundPlace,
  undo: Undo,
  open: DisposableStack,
): void {
  if (pinFolder === undefined) {
    throw new InboundError("There is no folder to pin the link for incoming connections in");
  }
  const [old] = before.at(LOOKUP_HOOK);
  aboutInbound(() => {
    const pinned = open.use(pinnedLink(pinFolder));
    if (pinned !== undefined && bpfLinkInfo(pinned).netnsInode === inode && old !== undefined) {
      updateLink(pinned, lookup);
      undo.add(() => updateLink(pinned, old.program));
      return;
    }
    // One of an earlier sandbox of the same name leads nowhere.
    if (pinned !== undefined) unpin(pinFolder);
    makePinFolder(pinFolder);
    undo.add(() => unpin(pinFolder));
    const link = open.use(linkToNamespace(lookup, namespace, LOOKUP_HOOK.attachType));
    undo.add(() => detachLink(link));
    pinBpfObject(link, linkPin(pinFolder));
  });
}

/** Detaches a program from the namespace with this inode, whoever holds the link. */
export function detachLookup(inode: number, programId: number): void {
  using link = findNamespaceLink(inode, programId);
  if (link !== undefined) detachLink(link);
}

/** Tells whether a sandbox's link is pinned. */
export function isPinned(pinFolder: string): boolean {
  using link = pinnedLink(pinFolder);
  return link !== undefined;
}
