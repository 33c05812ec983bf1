/** Files and folders of tests. */

/** Tells whether something stands at a path, be it a link that leads nowhere. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}

/** Works in a new temporary folder, which is removed afterwards. */
export async function withFolder(work: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Mode, owner and a hash of the content of everything in some folders, by path. */
export async function contentsOf(folders: readonly string[]): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  const visit = async (folder: string) => {
    for (const { name } of Deno.readDirSync(folder)) {
      const path = `${folder}/${name}`;
      const info = Deno.lstatSync(path);
      const kind = `${((info.mode ?? 0) & 0o7777).toString(8)} ${info.uid}:${info.gid}`;
      files[path] = info.isDirectory
        ? kind
        : `${kind} ${await digestOf(await Deno.readFile(path))}`;
      if (info.isDirectory) await visit(path);
    }
  };
  for (const folder of folders) await visit(folder);
  return files;
}

async function digestOf(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
