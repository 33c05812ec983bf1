/** install-cni, the node agent that installs the plugin on the host and keeps it there. */
import { Command } from "@commander-js/extra-typings";
import { VERSION } from "../src/version.ts";

/** The whole command line. */
export function commandLine(): Command {
  return new Command("install-cni")
    .description("Installs the CNI plugin kuma-cni on a node and keeps it there")
    .version(VERSION);
}

if (import.meta.main) await commandLine().parseAsync(Deno.args, { from: "user" });
