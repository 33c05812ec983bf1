/** Loads programs and attaches them, so that it can be taken back. */
import { attachToCgroup, detachFromCgroup, loadBpfProgram } from "../../linux/bpf.ts";
import { LinuxError } from "../../linux/errno.ts";
import type { FileDescriptor } from "../../linux/libc.ts";
import type { InstalledPrograms } from "./installed.ts";
import type { OpenMaps } from "./maps.ts";
import { type Hook, OPTIONAL_HOOKS, type PlannedProgram } from "./programs.ts";

/** Steps that are taken back, the last first, unless all of them succeeded. */
export class Undo implements Disposable {
  readonly #steps: (() => void)[] = [];

  add(step: () => void): void {
    this.#steps.push(step);
  }

  /** Everything succeeded. */
  forget(): void {
    this.#steps.length = 0;
  }

  [Symbol.dispose](): void {
    for (const step of this.#steps.reverse()) {
      try {
        step();
      } catch { /* What went wrong before says more. */ }
    }
  }
}

/** A program that the kernel has taken. */
export interface LoadedProgram {
  readonly hook: Hook;
  readonly program: FileDescriptor;
}

/** Loads a program with the maps of its pod. */
export function load({ hook, program }: PlannedProgram, maps: OpenMaps): FileDescriptor {
  return loadBpfProgram({ ...hook, instructions: program.assemble(maps.descriptors) });
}

/** The same; nothing, and a note, where the kernel does not have the place for one that is optional. */
export function loadUnlessOptional(
  planned: PlannedProgram,
  maps: OpenMaps,
  notes: string[],
): FileDescriptor | undefined {
  try {
    return load(planned, maps);
  } catch (error) {
    if (!(error instanceof LinuxError) || !OPTIONAL_HOOKS.has(planned.hook)) throw error;
    notes.push(`Processes see the sidecar as their peer: ${error.message}`);
    return undefined;
  }
}

/** Attaches a program in the place of the one that was there. */
export function replaceAt(
  cgroup: FileDescriptor,
  hook: Hook,
  program: FileDescriptor,
  before: InstalledPrograms,
  undo: Undo,
): void {
  const [old, ...more] = before.at(hook);
  if (old === undefined) {
    attachToCgroup(cgroup, program, hook.attachType);
    undo.add(() => detachFromCgroup(cgroup, program, hook.attachType));
  } else {
    replaceOrBoth(cgroup, hook, program, old.program);
    undo.add(() => replaceOrBoth(cgroup, hook, old.program, program));
  }
  for (const { program } of more) detachFromCgroup(cgroup, program, hook.attachType);
}

/** Linux before 5.6 cannot replace: for a moment both are there then, of which the first decides. */
function replaceOrBoth(
  cgroup: FileDescriptor,
  hook: Hook,
  program: FileDescriptor,
  old: FileDescriptor,
): void {
  try {
    attachToCgroup(cgroup, program, hook.attachType, old);
  } catch (error) {
    if (!(error instanceof LinuxError) || error.code !== "EINVAL") throw error;
    attachToCgroup(cgroup, program, hook.attachType);
    detachFromCgroup(cgroup, old, hook.attachType);
  }
}
