/** Which modules a program of this project consists of. */
import { dirname, join } from "node:path/posix";

/** An import or re-export as it stands in a module. */
export interface Specifier {
  readonly specifier: string;
  readonly isTypeOnly: boolean;
}

/** All imports and re-exports of a module, static and dynamic ones. */
export function specifiersOf(text: string): Specifier[] {
  const pattern =
    /^(?:import|export)\s+(type\s+)?(?:[\w$*{][^;"]*?\sfrom\s+)?"([^"]+)"|\bimport\(\s*"([^"]+)"/gm;
  return Array.from(text.matchAll(pattern), ([, type, fixed, dynamic]) => ({
    specifier: fixed ?? dynamic ?? "",
    isTypeOnly: type !== undefined,
  }));
}

/**
 * Follows the imports of modules through the project.
 *
 * @param root Folder of the project.
 * @param entries Paths of modules, relative to it.
 * @returns These modules and all that they import, types too, as such paths.
 */
export function modulesFrom(root: string, entries: readonly string[]): string[] {
  const found = new Set(entries);
  // A set that grows while it is walked is walked to its new end.
  for (const path of found) {
    for (const { specifier } of specifiersOf(Deno.readTextFileSync(`${root}/${path}`))) {
      const target = join(dirname(path), specifier);
      // What a test has as a text may look like an import of a module that is not there.
      if (specifier.startsWith(".") && isFile(`${root}/${target}`)) found.add(target);
    }
  }
  return [...found].sort();
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}
