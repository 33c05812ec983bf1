/**
 * Programs of the kernel's BPF machine: loading, attaching, links and pins. Nothing here decides
 * anything. Needs `--allow-ffi` and `CAP_BPF` with `CAP_NET_ADMIN`, and `CAP_SYS_ADMIN` to look things
 * up by their numbers. Facts: `linux/bpf.h`, bpf(2).
 */
import { Attributes, bpf, Command, infoOf, making, nameIn } from "./bpf_call.ts";
import { LinuxError, unlessError } from "./errno.ts";
import { addressOf, cString, FileDescriptor } from "./libc.ts";

/** Several programs may be attached at the same place, those of the parent's run afterwards. */
const BPF_F_ALLOW_MULTI = 2;
const BPF_F_REPLACE = 4;

/** A program to be loaded. */
export interface BpfProgramDefinition {
  readonly name: string;
  readonly type: number;
  /** Where it will be attached; 0 for types that have one place only. */
  readonly attachType: number;
  readonly instructions: Uint8Array<ArrayBuffer>;
}

const INSTRUCTION_BYTES = 8;
const LOG_BYTES = 64 * 1024;
/** Last lines of what the kernel says about a program that it refuses; the reason stands there. */
const LOG_LINES = 3;

/**
 * Loads a program: the kernel proves that it is safe, and compiles it.
 *
 * @throws {LinuxError} when it refuses, with the last words of its log.
 */
export function loadBpfProgram(program: BpfProgramDefinition): FileDescriptor {
  const attempt = `Cannot load the BPF program "${program.name}"`;
  const attributes = () =>
    new Attributes().u32(0, program.type)
      .u32(4, program.instructions.length / INSTRUCTION_BYTES)
      .pointer(8, program.instructions).pointer(16, cString("Apache-2.0"))
      .name(48, program.name).u32(68, program.attachType);
  try {
    return making(attempt, Command.programLoad, attributes());
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    // Asked for only now: the log costs more than the load.
    const log = new Uint8Array(LOG_BYTES);
    try {
      return making(
        attempt,
        Command.programLoad,
        attributes().u32(24, 1).u32(28, LOG_BYTES).pointer(32, log),
      );
    } catch (second) {
      if (!(second instanceof LinuxError)) throw second;
      throw new LinuxError(attempt, error.errno, lastLines(log));
    }
  }
}

function lastLines(log: Uint8Array): string | undefined {
  const end = log.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? log : log.subarray(0, end));
  const lines = text.trim().split("\n").filter((line) => !line.startsWith("processed "));
  return lines.join("") === "" ? undefined : lines.slice(-LOG_LINES).join("; ");
}

/**
 * Attaches a program to a cgroup, beside others or in the place of one.
 *
 * @throws {LinuxError} for example `EPERM` when a parent's program allows none below.
 */
export function attachToCgroup(
  cgroup: FileDescriptor,
  program: FileDescriptor,
  attachType: number,
  replaced?: FileDescriptor,
): void {
  const attributes = new Attributes().u32(0, cgroup.number).u32(4, program.number)
    .u32(8, attachType)
    .u32(12, BPF_F_ALLOW_MULTI | (replaced === undefined ? 0 : BPF_F_REPLACE));
  if (replaced !== undefined) attributes.u32(16, replaced.number);
  bpf(
    `Cannot attach a BPF program of kind ${attachType} to the cgroup`,
    Command.attach,
    attributes,
  );
}

/** Detaches a program from a cgroup. */
export function detachFromCgroup(
  cgroup: FileDescriptor,
  program: FileDescriptor,
  attachType: number,
): void {
  bpf(
    `Cannot detach a BPF program of kind ${attachType} from the cgroup`,
    Command.detach,
    new Attributes().u32(0, cgroup.number).u32(4, program.number).u32(8, attachType),
  );
}

/** Most programs at one place that are looked at; the kernel allows 64. */
const QUERIED = 64;

/** Lists the numbers of the programs that are attached to a cgroup, or to a network namespace. */
export function attachedPrograms(target: FileDescriptor, attachType: number): number[] {
  const ids = new Uint32Array(QUERIED);
  const attributes = new Attributes().u32(0, target.number).u32(4, attachType)
    .pointer(16, new Uint8Array(ids.buffer)).u32(24, QUERIED);
  bpf(`Cannot list the BPF programs of kind ${attachType}`, Command.query, attributes);
  return Array.from(ids.subarray(0, attributes.read(24)));
}

/** What the kernel tells about a program. */
export interface BpfProgramInfo {
  readonly id: number;
  readonly name: string;
  /** Hash of its instructions, hexadecimal. */
  readonly tag: string;
  readonly mapIds: readonly number[];
  /** Counted where `kernel.bpf_stats_enabled` is set. */
  readonly runs: number;
  readonly nanoseconds: number;
}

/** Most maps of a program that are told. */
const MOST_MAPS = 16;

/** Tells what a program is. */
export function bpfProgramInfo(program: FileDescriptor): BpfProgramInfo {
  const mapIds = new Uint32Array(MOST_MAPS);
  const view = infoOf("BPF program", program, (view) => {
    view.setUint32(52, MOST_MAPS, true);
    view.setBigUint64(56, addressOf(new Uint8Array(mapIds.buffer)), true);
  });
  const tag = new Uint8Array(view.buffer, 8, 8);
  return {
    id: view.getUint32(4, true),
    tag: Array.from(tag, (byte) => byte.toString(16).padStart(2, "0")).join(""),
    name: nameIn(view, 64),
    mapIds: Array.from(mapIds.subarray(0, Math.min(MOST_MAPS, view.getUint32(52, true)))),
    nanoseconds: Number(view.getBigUint64(192, true)),
    runs: Number(view.getBigUint64(200, true)),
  };
}

/** Opens a program by its number. */
export function bpfProgramById(id: number): FileDescriptor {
  const attributes = new Attributes().u32(0, id);
  return new FileDescriptor(bpf(`Cannot open BPF program ${id}`, Command.programById, attributes));
}

/** What the kernel tells about a link. */
export interface BpfLinkInfo {
  readonly id: number;
  readonly type: number;
  readonly programId: number;
  /** Of a link to a network namespace: the namespace's inode, 0 when it is gone. */
  readonly netnsInode: number;
}

/** Type of links to network namespaces. */
export const BPF_LINK_TYPE_NETNS = 5;

/** Tells what a link is. */
export function bpfLinkInfo(link: FileDescriptor): BpfLinkInfo {
  const view = infoOf("BPF link", link);
  return {
    type: view.getUint32(0, true),
    id: view.getUint32(4, true),
    programId: view.getUint32(8, true),
    netnsInode: view.getUint32(16, true),
  };
}

/** Opens a link by its number. */
export function bpfLinkById(id: number): FileDescriptor {
  const attributes = new Attributes().u32(0, id);
  return new FileDescriptor(bpf(`Cannot open BPF link ${id}`, Command.linkById, attributes));
}

/** Returns the number of the link after this one; `undefined` behind the last. */
export function nextBpfLink(after: number): number | undefined {
  const attributes = new Attributes().u32(0, after);
  return unlessError("ENOENT", () => {
    bpf("Cannot list the BPF links", Command.linkNextId, attributes);
    return attributes.read(4);
  });
}

/** Attaches a program to a network namespace by a link, which is to be pinned. */
export function linkToNamespace(
  program: FileDescriptor,
  namespace: FileDescriptor,
  attachType: number,
): FileDescriptor {
  return new FileDescriptor(
    bpf(
      "Cannot attach a BPF program to the network namespace",
      Command.linkCreate,
      new Attributes().u32(0, program.number).u32(4, namespace.number).u32(8, attachType),
    ),
  );
}

/** Puts another program behind a link, at once. */
export function updateLink(link: FileDescriptor, program: FileDescriptor): void {
  bpf(
    "Cannot change the program of a BPF link",
    Command.linkUpdate,
    new Attributes().u32(0, link.number).u32(4, program.number),
  );
}

/** Detaches a link's program, whoever holds the link. */
export function detachLink(link: FileDescriptor): void {
  bpf("Cannot detach a BPF link", Command.linkDetach, new Attributes().u32(0, link.number));
}

/** Pins a program, map or link at a path in a BPF file system. */
export function pinBpfObject(object: FileDescriptor, path: string): void {
  const attributes = new Attributes().pointer(0, cString(path)).u32(8, object.number);
  bpf(`Cannot pin a BPF object at "${path}"`, Command.pin, attributes);
}

/** Opens what is pinned at a path. */
export function pinnedBpfObject(path: string): FileDescriptor {
  const attributes = new Attributes().pointer(0, cString(path));
  return new FileDescriptor(
    bpf(`Cannot open the BPF pin "${path}"`, Command.getPinned, attributes),
  );
}
