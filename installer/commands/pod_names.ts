/** `install-cni pod-names`: what completion scripts ask for behind `doctor` and `pods`; in no help. */
import type { Command } from "@commander-js/extra-typings";
import { readSandboxes } from "../doctor/evidence.ts";
import { isImpossible } from "../doctor/seen.ts";
import { Operations } from "../host/operations.ts";
import { addSettings } from "./command_settings.ts";
import { doctorSettingsOf } from "./doctor_settings.ts";

/** Names as the API server allows them: a shell shall find nothing else in what it is given. */
const plainName = /^[a-z0-9][a-z0-9.-]{0,62}\/[a-z0-9][a-z0-9.-]{0,252}$/;

/** The name of the command. */
export const podNamesCommand = "pod-names";

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command(podNamesCommand, { hidden: true })
    .description("Print the names of pods that this node knows, without asking the API server");
  addSettings(command as unknown as Command, "check");
  command.action((_, command) => {
    const { settings } = doctorSettingsOf(command as unknown as Command);
    for (const name of podNames(settings)) console.log(name);
  });
}

/** Names of the pods in the ledger and in the runtime's results, in order. */
function podNames(settings: ReturnType<typeof doctorSettingsOf>["settings"]): string[] {
  const sandboxes = readSandboxes(new Operations(), settings);
  // Who may not look gets nothing, and no words into the line that is being typed.
  if (isImpossible(sandboxes)) return [];
  const { entries, chains } = sandboxes;
  const noted = entries.map(({ podNamespace, podName }) => `${podNamespace}/${podName}`);
  return [...new Set([...noted, ...chains.keys()])].filter((name) => plainName.test(name)).sort();
}
