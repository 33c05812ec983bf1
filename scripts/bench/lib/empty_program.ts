/** The least that a program compiled as the plugin is takes. */
import { compileModule, programs, root, selfContainedDenort } from "../../build.ts";
import { findDenort } from "../../denort.ts";

/**
 * Compiles an empty program with the permissions and flags of the plugin.
 *
 * @returns Path of the program in the folder.
 */
export async function compileEmptyProgram(folder: string): Promise<string> {
  const target = `${Deno.build.arch}-unknown-linux-gnu`;
  const { path } = await findDenort(target, root);
  await Deno.writeTextFile(`${folder}/empty.js`, "");
  await compileModule({
    module: `${folder}/empty.js`,
    output: `${folder}/compiled`,
    denort: await selfContainedDenort(path, folder),
    target,
    permissions: programs["kuma-cni"].permissions,
    v8Flags: programs["kuma-cni"].v8Flags,
  });
  // Copied: the kernel caches a file in pieces whose size depends on how it was written, and mapping
  // them takes up to a tenth of a start.
  await Deno.copyFile(`${folder}/compiled`, `${folder}/empty`);
  return `${folder}/empty`;
}
