/** `install-cni install`, and `install-cni` without a command: the DaemonSet's program. */
import type { Command } from "@commander-js/extra-typings";
import { messageOf } from "../../src/text/message_of.ts";
import { buildInfo } from "../agent/build_info.ts";
import { ChangeMemory } from "../loop/change_memory.ts";
import { MemoryService } from "../agent/memory.ts";
import { PinSweep } from "../agent/pin_sweep.ts";
import { nearestName } from "../../src/text/nearest.ts";
import { quote } from "../../src/text/quote.ts";
import { AgentService } from "../agent/service.ts";
import { ClusterConnection } from "../cluster/cluster_connection.ts";
import { nodeName, ownPod } from "../cluster/own_pod.ts";
import { pluginType } from "../conflist/conflist.ts";
import { OwnTaint } from "../controller/own_taint.ts";
import { Operations } from "../host/operations.ts";
import { exists } from "../host/paths.ts";
import { ReconcileLoop } from "../loop/reconcile_loop.ts";
import { UninstallError } from "../loop/uninstall.ts";
import { serverOf } from "../settings/api_server.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { readPluginEntry, warningsOfEntry } from "../settings/plugin_entry.ts";
import { defaultCommand } from "./completion.ts";
import { addSettings, loggerOf, settingsOf, sourceDirOf } from "./command_settings.ts";

/** Exit codes, as the reference installer has them. */
const exitCodes = { install: 3, readyFile: 4, stay: 5 } as const;
/** How long a single installation waits for a primary plugin, as the reference installer does. */
const oncePatience = 5 * 60_000;

/** Adds the command, which runs when none is named. */
export function register(program: Command): void {
  const command = program.command(defaultCommand, { isDefault: true })
    .description("Install the plugin and keep it installed; what runs when no command is named")
    .argument("[words...]", "nothing")
    .usage("[options]");
  command.registeredArguments[0]!.description = "";
  addSettings(command as unknown as Command, "install");
  command.action((words, _, command) => {
    const [word] = words;
    if (word !== undefined) command.error(unknownCommand(word, program), { exitCode: 1 });
    return install(command as unknown as Command);
  });
}

/** Whatever is not a command would be an argument of this one, which runs when none is named. */
function unknownCommand(word: string, program: Command): string {
  const commands = program.commands.map((command) => command.name());
  const nearest = nearestName(word, commands);
  const guess = nearest === undefined ? "" : `. Did you mean "${nearest}"?`;
  return `install-cni: Unknown command ${quote(word)}${guess}\n` +
    `Commands: ${commands.join(", ")}`;
}

async function install(command: Command): Promise<void> {
  const settings = settingsOf(command);
  const log = loggerOf(settings);
  const fail = (code: number, message: string): never => {
    console.error(`install-cni: ${message}`);
    Deno.exit(code);
  };
  const sourceDir = sourceDirOf(settings);
  const operations = new Operations();
  const services = [
    new AgentService(settings),
    new ChangeMemory(operations),
    new MemoryService(),
    ...(settings.mountedBpffs === "" ? [] : [pinSweepOf(settings)]),
    ...(settings.removeOwnTaint ? [ownTaintOf(settings)] : []),
  ];
  const agent = new ReconcileLoop(settings, operations, sourceDir, log, { services });
  // As process 1 of a container the default of these signals would be to ignore them.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] as const) {
    Deno.addSignalListener(signal, () => agent.stop());
  }
  try {
    agent.resetReady();
  } catch (error) {
    fail(exitCodes.readyFile, `Cannot use READY_FILE "${settings.readyFile}": ${messageOf(error)}`);
  }
  for (const variable of ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"] as const) {
    const value = variable.endsWith("HOST") ? settings.apiHost : settings.apiPort;
    if (value === "") {
      fail(exitCodes.install, `${variable} is empty, expected the API server's; kubelet sets it`);
    }
  }
  if (!exists(`${sourceDir}/${pluginType}`)) {
    fail(
      exitCodes.install,
      `Cannot find the plugin "${sourceDir}/${pluginType}"; set CNI_SOURCE_DIR`,
    );
  }
  const { hostBinDir } = pathsOf(settings);
  log.info("Starting", {
    ...buildInfo(),
    netDir: settings.netDir,
    mountedNetDir: settings.mountedNetDir,
    binDir: hostBinDir,
    mountedBinDir: settings.mountedBinDir,
    sourceDir,
    file: settings.confName || (settings.chained ? "the one that the runtime loads" : "our own"),
    apiServer: serverOf(settings),
  });
  for (const warning of [...warningsOfEntry(settings), ...warningsOfOwnNamespace(settings)]) {
    log.warn(warning);
  }
  if (!settings.sleep) {
    const isInstalled = await agent.installOnce(oncePatience);
    if (!isInstalled) fail(exitCodes.install, `Not installed: ${agent.state.reason}`);
    Deno.exit(0);
  }
  try {
    await agent.run();
  } catch (error) {
    if (!(error instanceof UninstallError)) log.error(`Unexpected: ${messageOf(error)}`);
    fail(exitCodes.stay, messageOf(error));
  }
  Deno.exit(0);
}

function pinSweepOf({ mountedBpffs }: Settings): PinSweep {
  return new PinSweep(mountedBpffs, () => import("../../src/engine/ebpf/ebpf_engine.ts"));
}

function ownTaintOf(settings: Settings): OwnTaint {
  const connection = new ClusterConnection(settings);
  const client = () => connection.client();
  return new OwnTaint({
    taint: { key: settings.taintKey, effect: settings.taintEffect },
    client,
    nodeName: () => nodeName(settings, client(), new AbortController().signal),
  });
}

/**
 * A pod that is to bring the new token must not need it to start: after a long outage of a node the
 * token on the host has expired.
 */
function warningsOfOwnNamespace(settings: Settings): string[] {
  const namespace = ownPod(settings)?.namespace;
  const excluded = readPluginEntry(settings.networkConfig).settings.excludeNamespaces;
  if (namespace === undefined || excluded.includes(namespace)) return [];
  return [
    `This program's own namespace "${namespace}" is not in kubernetes.exclude_namespaces: once the token on ` +
    "this host has expired, this program's pod cannot start unless it uses the host's network",
  ];
}
