/** Plugins that write down each call, so that a test can tell which were called, and how often. */

/** All that libcni knows, and one that nobody speaks but these. */
const versions = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.0.1", "1.1.0"];

/** A folder's spies. */
export class SpyPlugins {
  readonly #log: string;

  /** Puts spies of these types into a folder; their calls are kept in a file elsewhere. */
  constructor(binDir: string, log: string, types: readonly string[]) {
    this.#log = log;
    Deno.writeTextFileSync(log, "");
    for (const type of types) {
      Deno.writeTextFileSync(`${binDir}/${type}`, spy(log), { mode: 0o755 });
    }
  }

  /** How often each type was called by a verb for the pod of a network namespace. */
  calls(verb: "ADD" | "DEL", netns: string): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const line of Deno.readTextFileSync(this.#log).split("\n")) {
      const [type, command, path] = line.split(" ");
      if (command === verb && path === netns) counts[type!] = (counts[type!] ?? 0) + 1;
    }
    return counts;
  }
}

/** A result needs a version only when the network has one. */
function spy(log: string): string {
  return `#!/bin/sh
input=$(cat)
echo "\${0##*/} $CNI_COMMAND $CNI_NETNS" >> '${log}'
case $CNI_COMMAND in
VERSION) echo '${JSON.stringify({ cniVersion: "1.1.0", supportedVersions: versions })}' ;;
ADD)
  version=$(printf %s "$input" | sed -n 's/.*"cniVersion" *: *"\\([^"]*\\)".*/\\1/p' | head -n 1)
  printf '{"cniVersion":"%s","dns":{}}' "$version" ;;
esac
`;
}
