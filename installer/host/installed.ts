/**
 * What was installed where, beside the journal: uninstalling with another bin dir than installing
 * would leave the program behind and say that all is well.
 */
import { sameBytes, writeTemporary } from "./host_files.ts";
import type { Operations } from "./operations.ts";
import { ownGid, ownUid } from "./owner.ts";
import { makeStateDir } from "./state_folder.ts";

/** Where the program was put. */
export interface Installed {
  /** The bin dir's path on the host. */
  readonly hostBinDir: string;
  /** The bin dir as the installing process saw it. */
  readonly mountedBinDir: string;
}

/** Name of the record in our own folder. */
export const installedName = "installed.json";

function pathIn(stateDir: string): string {
  return `${stateDir}/${installedName}`;
}

/** Reads the record; `undefined` when nothing was installed, or the record is damaged. */
export function readInstalled(operations: Operations, stateDir: string): Installed | undefined {
  try {
    const bytes = operations.read(pathIn(stateDir));
    const value = JSON.parse(new TextDecoder().decode(bytes ?? new Uint8Array()));
    const { hostBinDir, mountedBinDir } = value ?? {};
    return value?.version === 1 && typeof hostBinDir === "string" &&
        typeof mountedBinDir === "string"
      ? { hostBinDir, mountedBinDir }
      : undefined;
  } catch {
    return undefined;
  }
}

/** Writes the record, unless it says the same already. */
export function writeInstalled(
  operations: Operations,
  stateDir: string,
  { hostBinDir, mountedBinDir }: Installed,
): void {
  const path = pathIn(stateDir);
  const content = new TextEncoder().encode(
    JSON.stringify({ version: 1, hostBinDir, mountedBinDir }) + "\n",
  );
  if (sameBytes(operations.read(path), content)) return;
  makeStateDir(operations, stateDir);
  const owner = { mode: 0o600, uid: ownUid(), gid: ownGid() };
  operations.rename(writeTemporary(operations, path, content, owner), path);
}
