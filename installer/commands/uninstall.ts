/** `install-cni uninstall`: takes everything off the host. */
import type { Command } from "@commander-js/extra-typings";
import { errorText } from "../host/error_text.ts";
import { lockName, requestUninstall, takeLock, withdrawRequest } from "../host/lock.ts";
import { Operations } from "../host/operations.ts";
import { uninstall } from "../loop/uninstall.ts";
import { linesOf } from "../loop/uninstall_report.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { addSettings, loggerOf, settingsOf } from "./command_settings.ts";

/** How long to wait for a running install-cni to do the work, in milliseconds. */
const patience = 30_000;

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command("uninstall")
    .description("Take everything off the host and restore its files byte for byte");
  addSettings(command as unknown as Command, "uninstall");
  command.action((_, command) => run(command as unknown as Command));
}

async function run(command: Command): Promise<void> {
  const settings = settingsOf(command, { needsConfig: false });
  const operations = new Operations();
  const { stateDir } = pathsOf(settings);
  try {
    if (operations.status(settings.mountedNetDir) === undefined) {
      throw new Error(`There is no folder "${settings.mountedNetDir}"; set MOUNTED_CNI_NET_DIR`);
    }
    const lock = lockIfPossible(operations, stateDir);
    if (lock !== "held") {
      const report = await uninstall(settings, operations, loggerOf(settings));
      console.log(linesOf(report).join("\n"));
      await sweepPins(settings);
      Deno.exit(0);
    }
    // It would install again at once what is uninstalled beside it.
    requestUninstall(operations, stateDir);
    console.error("install-cni: Asked the running install-cni to uninstall; waiting for it");
    const deadline = performance.now() + patience;
    // It takes its lock file away at the end.
    while (operations.status(`${stateDir}/${lockName}`) !== undefined) {
      if (performance.now() > deadline) {
        withdrawRequest(operations, stateDir);
        throw new Error(`The running install-cni has not uninstalled within ${patience / 1000} s`);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    console.log("The running install-cni has uninstalled; its log says what was removed");
    Deno.exit(0);
  } catch (error) {
    console.error(`install-cni: ${errorText(error)}`);
    Deno.exit(1);
  }
}

/** Pods that run keep what they have; what nobody has any more goes. */
async function sweepPins({ mountedBpffs }: Settings): Promise<void> {
  if (mountedBpffs === "") return;
  const engine = await import("../../src/engine/ebpf/ebpf_engine.ts");
  const removed = engine.sweepPins(mountedBpffs).filter((pin) => pin.removed);
  if (removed.length > 0) console.log(`Removed pins of ${removed.length} pods that are gone`);
}

function lockIfPossible(operations: Operations, stateDir: string): Disposable | undefined | "held" {
  try {
    return takeLock(operations, stateDir) ?? "held";
  } catch {
    // On a read-only file system the uninstalling itself will say what is wrong.
    return undefined;
  }
}
