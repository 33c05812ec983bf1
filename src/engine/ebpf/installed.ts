/** What is in the kernel for a pod: programs at its cgroup and at its network namespace. */
import {
  attachedPrograms,
  BPF_LINK_TYPE_NETNS,
  bpfLinkById,
  bpfLinkInfo,
  bpfProgramById,
  type BpfProgramInfo,
  bpfProgramInfo,
  nextBpfLink,
} from "../../linux/bpf.ts";
import { unlessError } from "../../linux/errno.ts";
import type { FileDescriptor } from "../../linux/libc.ts";
import { CGROUP_HOOKS, type Hook, LOOKUP_HOOK } from "./programs.ts";

/** One of this engine's programs that is attached. */
export interface InstalledProgram {
  readonly hook: Hook;
  readonly program: FileDescriptor;
  readonly info: BpfProgramInfo;
}

/** Programs that are open until disposed of. */
export class InstalledPrograms implements Disposable {
  constructor(readonly all: readonly InstalledProgram[]) {}

  /** Those of a hook. */
  at(hook: Hook): readonly InstalledProgram[] {
    return this.all.filter((one) => one.hook.name === hook.name);
  }

  /** Numbers of the maps that they use, see {@linkcode mapIdsOf}. */
  get mapIds(): ReadonlySet<number> {
    return mapIdsOf(this.all);
  }

  [Symbol.dispose](): void {
    for (const { program } of this.all) program[Symbol.dispose]();
  }
}

/**
 * Numbers of the maps that programs use, those that belong to most of them last: where one program has
 * maps of its own, the others' are those that know the pod's connections.
 */
export function mapIdsOf(programs: readonly InstalledProgram[]): ReadonlySet<number> {
  const uses = weighed(programs, () => 1);
  // Two programs share some map only: what else the others share with one of them tells which is odd.
  const weights = weighed(
    programs,
    ({ info }) => info.mapIds.reduce((sum, id) => sum + uses.get(id)!, 0),
  );
  return new Set([...weights].sort(([, a], [, b]) => a - b).map(([id]) => id));
}

/** Adds up, for each map, what the programs that use it weigh. */
function weighed(
  programs: readonly InstalledProgram[],
  weight: (program: InstalledProgram) => number,
): ReadonlyMap<number, number> {
  const sums = new Map<number, number>();
  for (const program of programs) {
    for (const id of program.info.mapIds) sums.set(id, (sums.get(id) ?? 0) + weight(program));
  }
  return sums;
}

/**
 * Finds this engine's programs: each at its place, by its name. Others' programs stay unmentioned.
 *
 * @param namespace the network namespace; only the cgroup counts without
 */
export function readInstalled(
  cgroup: FileDescriptor,
  namespace?: FileDescriptor,
): InstalledPrograms {
  using stack = new DisposableStack();
  const found: InstalledProgram[] = [];
  const places: [FileDescriptor, Hook][] = Object.values(CGROUP_HOOKS).map((
    hook,
  ) => [cgroup, hook]);
  if (namespace !== undefined) places.push([namespace, LOOKUP_HOOK]);
  for (const [target, hook] of places) {
    // A kernel that does not know the place has nothing there.
    for (const id of unlessError("EINVAL", () => attachedPrograms(target, hook.attachType)) ?? []) {
      // It can go between the list and the look at it.
      const program = unlessError("ENOENT", () => bpfProgramById(id));
      if (program === undefined) continue;
      const info = bpfProgramInfo(program);
      if (info.name === hook.name) found.push({ hook, program: stack.use(program), info });
      else program[Symbol.dispose]();
    }
  }
  stack.move();
  return new InstalledPrograms(found);
}

/** Opens the link by which a program is attached to a namespace. */
export function findNamespaceLink(
  inode: number,
  programId: number,
): FileDescriptor | undefined {
  for (let next = nextBpfLink(0); next !== undefined; next = nextBpfLink(next)) {
    const id = next;
    const link = unlessError("ENOENT", () => bpfLinkById(id));
    if (link === undefined) continue;
    const info = bpfLinkInfo(link);
    const fits = info.type === BPF_LINK_TYPE_NETNS && info.netnsInode === inode &&
      info.programId === programId;
    if (fits) return link;
    link[Symbol.dispose]();
  }
  return undefined;
}
