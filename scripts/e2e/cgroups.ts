/**
 * Control groups of the machines of the end-to-end tests. They outlive their processes, so the task
 * that made them removes them at its end, and what a killed task has left, the next one.
 */
import { isGone } from "../task_owner.ts";

const prefix = "kuma-e2e.";
const root = "/sys/fs/cgroup";

/** Name of a machine's group. @param owner Identity of the task that makes it. */
export function cgroupName(owner: string, machine: string): string {
  return `${prefix}${owner}-${machine}`;
}

/** Removes the groups of a task, and those of tasks that are gone. */
export function removeCgroupsOf(owner: string): void {
  removeCgroups((name) => {
    const [other = ""] = name.slice(prefix.length).split("-");
    return other === owner || isGone(other);
  });
}

/** Removes groups of machines, below each controller; the processes in them have been killed. */
export function removeCgroups(isMeant: (name: string) => boolean): void {
  for (const controller of [...Deno.readDirSync(root)]) {
    if (!controller.isDirectory) continue;
    for (const { name } of [...Deno.readDirSync(`${root}/${controller.name}`)]) {
      if (!name.startsWith(prefix) || !isMeant(name)) continue;
      removeTree(`${root}/${controller.name}/${name}`);
    }
  }
}

/** Makes a group below each controller. */
export function makeCgroups(name: string): void {
  for (const controller of [...Deno.readDirSync(root)]) {
    if (controller.isDirectory) {
      Deno.mkdirSync(`${root}/${controller.name}/${name}`, { recursive: true });
    }
  }
}

function removeTree(path: string): void {
  for (const { name, isDirectory } of [...Deno.readDirSync(path)]) {
    if (isDirectory) removeTree(`${path}/${name}`);
  }
  // The kernel takes a moment to let go of killed processes.
  for (let tries = 0;; tries++) {
    try {
      return Deno.removeSync(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return;
      if (tries === 100) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    }
  }
}
