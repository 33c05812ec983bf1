/** Compares what the kernel has with what should be there. */
import { attachedPrograms, bpfProgramInfo } from "../../linux/bpf.ts";
import type { FileDescriptor } from "../../linux/libc.ts";
import type { Difference } from "../engine.ts";
import type { LoadedProgram } from "./attach.ts";
import type { InstalledPrograms } from "./installed.ts";
import type { Hook } from "./programs.ts";
import type { ExpectedProgram } from "./tags.ts";

/** Asks the kernel which programs of ours are attached now. */
export function compareAttached(
  target: FileDescriptor,
  loaded: readonly LoadedProgram[],
): Difference[] {
  return loaded.flatMap(({ hook, program }): Difference[] => {
    const { id } = bpfProgramInfo(program);
    const ids = attachedPrograms(target, hook.attachType);
    if (ids.includes(id)) return [];
    const object = `BPF program ${hook.name}`;
    return [{ kind: "missing", object, expected: `${id}`, actual: ids.join(", ") }];
  });
}

/** Compares the instructions, by the kernel's hashes of them. */
export function comparePrograms(
  installed: InstalledPrograms,
  expected: readonly ExpectedProgram[],
): Difference[] {
  const differences = expected.flatMap(({ hook, tag }) =>
    tag === undefined ? [] : compareOne(installed, hook, tag)
  );
  for (const { hook, info } of installed.all) {
    if (expected.some((one) => one.hook === hook)) continue;
    differences.push({ kind: "unexpected", object: `BPF program ${hook.name}`, actual: info.tag });
  }
  return differences;
}

function compareOne(installed: InstalledPrograms, hook: Hook, tag: string): Difference[] {
  const object = `BPF program ${hook.name}`;
  const [first, ...more] = installed.at(hook);
  if (first === undefined) return [{ kind: "missing", object, expected: tag }];
  const others = more.map(({ info }): Difference => ({
    kind: "unexpected",
    object: `second ${object}`,
    actual: info.tag,
  }));
  return first.info.tag === tag
    ? others
    : [{ kind: "changed", object, expected: tag, actual: first.info.tag }, ...others];
}
