/** Whom the files belong to that this process writes. */

/** Returns the user that this process writes files as. */
export function ownUid(): number {
  return Deno.uid() ?? 0;
}

/** Returns the group that this process writes files as. */
export function ownGid(): number {
  return Deno.gid() ?? 0;
}
