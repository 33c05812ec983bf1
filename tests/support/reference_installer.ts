/**
 * What the reference's installer does to a host's files, played from its description: its program is
 * not to be had. The plugin that it installs is played by one that lets every pod start.
 */

/** Folders and files of the host, as the reference's settings name them. */
export interface ReferenceHost {
  readonly netDir: string;
  readonly binDir: string;
  readonly confName: string;
}

const kubeconfigName = "ZZZ-kuma-cni-kubeconfig";
/** A program in Go like the reference's, which answers with the result of the plugins before it. */
const program = "/usr/lib/cni/tuning";

interface List {
  plugins: { type: string }[];
}

/** Program, kubeconfig and entry, in the order and the form of the reference. */
export function installReference({ netDir, binDir, confName }: ReferenceHost): void {
  replace(`${binDir}/kuma-cni`, Deno.readFileSync(program), 0o755);
  replace(
    `${netDir}/${kubeconfigName}`,
    "# Kubeconfig file for the Kuma CNI plugin.\napiVersion: v1\nkind: Config\nclusters: []",
  );
  edit(`${netDir}/${confName}`, (list) => {
    const last = list.plugins.findLastIndex(({ type }) => type === "kuma-cni");
    if (last >= 0) list.plugins.splice(last, 1);
    const kubernetes = {
      cni_bin_dir: binDir,
      exclude_namespaces: ["kube-system"],
      kubeconfig: `${netDir}/${kubeconfigName}`,
    };
    const entry = { cniVersion: "0.3.1", kubernetes, log_level: "info", name: "kuma-cni" };
    list.plugins.push({ ...entry, type: "kuma-cni" });
  });
}

/** What its clean-up does when it is stopped: the program goes first. */
export function uninstallReference({ netDir, binDir, confName }: ReferenceHost): void {
  Deno.removeSync(`${binDir}/kuma-cni`);
  edit(`${netDir}/${confName}`, (list) => {
    const last = list.plugins.findLastIndex(({ type }) => type === "kuma-cni");
    if (last >= 0) list.plugins.splice(last, 1);
  });
  Deno.removeSync(`${netDir}/${kubeconfigName}`);
}

/** Sorted keys and two spaces, as Go writes a map. */
function edit(path: string, change: (list: List) => void): void {
  const list = JSON.parse(Deno.readTextFileSync(path)) as List;
  change(list);
  replace(path, JSON.stringify(sorted(list), undefined, 2));
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1).map(([name, v]) => [name, sorted(v)]),
  );
}

/** By a temporary file beside it, as the reference does. */
function replace(path: string, content: string | Uint8Array, mode = 0o600): void {
  const temporary = `${path}${Math.floor(Math.random() * 1e9)}`;
  const data = typeof content === "string" ? new TextEncoder().encode(content) : content;
  Deno.writeFileSync(temporary, data, { mode });
  Deno.renameSync(temporary, path);
}
