/** `install-cni pods`: this node's pods, whether each is captured, and how its rules are. */
import { Argument, type Command } from "@commander-js/extra-typings";
import { messageOf } from "../../src/text/message_of.ts";
import { clientOf, nodeName } from "../cluster/own_pod.ts";
import { Ledger } from "../ledger/ledger.ts";
import { decideNow } from "../ledger/decision_now.ts";
import { sandboxLooker } from "../ledger/look_by_hand.ts";
import { listNodePods } from "../ledger/node_pods.ts";
import type { NodePod } from "../ledger/pod_life.ts";
import { type PodRow, podRows } from "../ledger/pod_rows.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { readPluginEntry } from "../settings/plugin_entry.ts";
import { addSettings, settingsOf } from "./command_settings.ts";
import { formatData, outputOption } from "./output.ts";
import { isWrong, podsText, podText } from "./pods_text.ts";
import { orFail } from "./redirect_options.ts";
import { print, styleOf, warn } from "./terminal.ts";

/** Milliseconds for the questions to the API server, all together. */
const patience = 3000;

const examples = `
Examples:
  install-cni pods                 all pods of this node
  install-cni pods shop/web-0      one pod, with all that is known
  install-cni pods -o wide         with sandbox, namespace and reason
  install-cni pods -o json         for programs

Rules are compared with what was installed where this program may enter the pods' network namespaces:
on the node as root, or with the capabilities SYS_ADMIN and NET_ADMIN. REDIRECTED counts connections
since the rules were installed.

Exit code: 0 when no pod needs a look, else 1.
`;

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command("pods")
    .description("List this node's pods: captured or not and why, and how their rules are")
    .addArgument(new Argument("[pod]", "one pod, as NAMESPACE/NAME, or NAME where that is enough"))
    .addOption(outputOption(["text", "wide", "json", "yaml"]))
    .addHelpText("after", examples);
  addSettings(command as unknown as Command, "check");
  command.action((pod, { output }, command) =>
    orFail(command, async () => {
      const settings = settingsOf(command as unknown as Command);
      const rows = chosen(await rowsOf(settings), pod);
      if (output === "json" || output === "yaml") print(formatData({ pods: rows }, output));
      else if (pod !== undefined && output === "text") print(rows.map(podText).join("\n"));
      else print(podsText(rows, output === "wide", styleOf()));
      Deno.exit(rows.some(isWrong) ? 1 : 0);
    })
  );
}

async function rowsOf(settings: Settings): Promise<PodRow[]> {
  const { entries, unreadable } = new Ledger(pathsOf(settings).stateDir).read();
  if (unreadable.length > 0) warn(`${unreadable.length} files of the ledger cannot be read`);
  const plugin = readPluginEntry(settings.networkConfig).settings;
  const look = await sandboxLooker(settings, entries, { counts: true });
  return podRows({
    pods: await podsOf(settings),
    entries,
    decide: ({ pod }) => decideNow(plugin, pod),
    look,
    now: Date.now(),
  });
}

/** The node's pods; without the API, or the right to list them, only the ledger's are shown. */
async function podsOf(settings: Settings): Promise<readonly NodePod[] | undefined> {
  const signal = AbortSignal.timeout(patience);
  try {
    using client = clientOf(settings, patience);
    return await listNodePods(client, await nodeName(settings, client, signal), signal);
  } catch (error) {
    warn(`Pods of this node are not listed, only what the ledger has: ${messageOf(error)}`);
    return undefined;
  }
}

function chosen(rows: readonly PodRow[], pod: string | undefined): readonly PodRow[] {
  if (pod === undefined) return rows;
  const found = rows.filter(({ namespace, name }) =>
    pod === `${namespace}/${name}` || pod === name
  );
  if (found.length === 0) {
    throw new Error(`Cannot find pod "${pod}" among the ${rows.length} of this node`);
  }
  return found;
}
