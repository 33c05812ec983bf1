/**
 * What the runtime keeps of its sandboxes: libcni writes a result for each attachment, and takes it
 * away with DEL. Facts: libcni 1.3 `api.go`, `getCacheFilePath`.
 */
/** Tells whether there is a result of a sandbox. */
export type HasResult = (sandbox: string) => boolean;

/**
 * Lists the results.
 *
 * @param cache libcni's folder, `/var/lib/cni`, as this process sees it
 * @returns `undefined` when the runtime's cache is not seen or cannot be read, so that nothing is known
 */
export function runtimeResults(cache: string): HasResult | undefined {
  // cri-dockerd keeps its cache one folder deeper than libcni does by default.
  const lists = [`${cache}/results`, `${cache}/cache/results`].map(namesIn);
  const names = lists.flatMap((list) => list ?? []);
  if (lists.every((list) => list === undefined)) return undefined;
  // The name of a file is <network>-<container ID>-<interface>.
  return (sandbox) => names.some((name) => name.includes(`-${sandbox}-`));
}

function namesIn(folder: string): string[] | undefined {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name);
  } catch {
    return undefined;
  }
}
