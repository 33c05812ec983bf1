/** Reads `/proc/self/mountinfo`. Facts: `proc(5)`. */

/** A mounted file system. */
export interface Mount {
  /** What part of the file system it shows. */
  readonly root: string;
  /** Where it is mounted. */
  readonly point: string;
  /** Its type, for example `cgroup2`; empty when the line does not tell. */
  readonly type: string;
}

let last: { readonly mountinfo: string; readonly mounts: readonly Mount[] } | undefined;

/**
 * Parses the text of `/proc/self/mountinfo`, in the order of mounting. Whoever looks at many pods asks
 * about the same text again and again, which has a line for each of them.
 */
export function parseMounts(mountinfo: string): readonly Mount[] {
  if (last?.mountinfo !== mountinfo) last = { mountinfo, mounts: parsed(mountinfo) };
  return last.mounts;
}

function parsed(mountinfo: string): Mount[] {
  return mountinfo.split("\n").flatMap((line) => {
    // Optional fields of any number end with a lone dash.
    const [before, after] = line.split(" - ");
    const [, , , root, point] = before?.split(" ") ?? [];
    if (root === undefined || point === undefined) return [];
    return [{ root: unescape(root), point: unescape(point), type: after?.split(" ")[0] ?? "" }];
  });
}

/** Tells whether what is seen at a path is a file system of this type. */
export function isMountOf(mountinfo: string, type: string, path: string): boolean {
  const folder = path.replace(/(.)\/+$/, "$1");
  // A later mount hides an earlier one at the same place.
  return parseMounts(mountinfo).findLast(({ point }) => point === folder)?.type === type;
}

/** The kernel writes blanks and backslashes of a path as `\040`. */
function unescape(path: string): string {
  return path.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(parseInt(digits, 8)));
}
