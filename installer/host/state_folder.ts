/** Our own folder in the net dir. */
import type { Operations } from "./operations.ts";

/** Makes our own folder in the net dir: for root only, and no link to somewhere else. */
export function makeStateDir(operations: Operations, path: string): void {
  const status = operations.status(path);
  if (status !== undefined && status.kind !== "directory") {
    throw new Error(`"${path}" is not a folder; remove it`);
  }
  if (status === undefined) operations.makeDirectory(path, 0o700);
  else if (status.mode !== 0o700) operations.setMode(path, 0o700);
}
