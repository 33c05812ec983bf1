/** The real `nft` program of the Debian package nftables, run inside a namespace. */
import type { NamedNamespace } from "./topology.ts";

/** Runs a script as `nft -f -` would, and throws with nft's words when it fails. */
export function nftScript(namespace: NamedNamespace, script: string): void {
  const file = Deno.makeTempFileSync({ suffix: ".nft" });
  try {
    Deno.writeTextFileSync(file, script);
    nft(namespace, ["-f", file]);
  } finally {
    Deno.removeSync(file);
  }
}

/** Runs `nft` with arguments and returns what it printed. */
export function nft(namespace: NamedNamespace, args: readonly string[]): string {
  const { success, stdout, stderr } = namespace.run(() =>
    new Deno.Command("nft", { args: [...args] }).outputSync()
  );
  const decoder = new TextDecoder();
  if (!success) throw new Error(`nft ${args.join(" ")}: ${decoder.decode(stderr)}`);
  return decoder.decode(stdout);
}

/** Lists all tables of the namespace. */
export function listRuleset(namespace: NamedNamespace): string {
  return nft(namespace, ["list", "ruleset"]);
}

/** Returns the handle of the first rule whose listing contains a text. */
export function ruleHandle(
  namespace: NamedNamespace,
  table: string,
  chain: string,
  text: string,
): string {
  const listing = nft(namespace, ["-a", "list", "chain", ...table.split(" "), chain]);
  const line = listing.split("\n").find((candidate) => candidate.includes(text));
  const handle = line?.match(/# handle (\d+)$/)?.[1];
  if (handle === undefined) throw new Error(`No rule with ${text} in\n${listing}`);
  return handle;
}
