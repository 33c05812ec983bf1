/**
 * Thin Multus as a plugin, as far as the primary network goes: it has libcni, in the form of cnitool,
 * call the network that its configuration names or holds, with its own arguments before those of the
 * runtime. (Multus itself is in no registry; facts: multus-cni 4, `pkg/multus`.)
 */

/** Writes the program. */
export function writeMultus(path: string, cnitool: string, work: string): void {
  Deno.mkdirSync(work, { recursive: true });
  Deno.writeTextFileSync(path, multus(cnitool, work), { mode: 0o755 });
}

function multus(cnitool: string, work: string): string {
  return `#!/bin/sh
input=$(cat)
if [ "$CNI_COMMAND" = VERSION ]; then
  echo '{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}'
  exit
fi
own=$(echo "$CNI_ARGS" | tr ';' '\\n' | grep '^K8S_POD_' | sort -r | tr '\\n' ';')
export CNI_ARGS="IgnoreUnknown=true;$own$CNI_ARGS"
file=$(printf %s "$input" | sed -n 's/.*"clusterNetwork":"\\([^"]*\\)".*/\\1/p')
if [ -z "$file" ]; then
  file='${work}'/delegate.conflist
  printf %s "$input" | sed -n 's/.*"delegates":\\[\\(.*\\)\\],"name":"multus".*/\\1/p' > "$file"
fi
name=$(sed -n 's/.*"name" *: *"\\([^"]*\\)", *"plugins".*/\\1/p' "$file")
verb=$(echo "$CNI_COMMAND" | tr A-Z a-z)
netns=$CNI_NETNS
unset CNI_COMMAND CNI_CONTAINERID CNI_NETNS
export NETCONFPATH="\${file%/*}"
exec '${cnitool}' "$verb" "$name" "$netns"
`;
}
