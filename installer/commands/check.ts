/** `install-cni check`: tells whether everything is installed, and changes nothing. */
import type { Command } from "@commander-js/extra-typings";
import { addSettings, loggerOf, settingsOf, sourceDirOf } from "../command_settings.ts";
import { Operations } from "../operations.ts";
import { Reconciler } from "../reconcile.ts";

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command("check")
    .description("Print as JSON whether everything is installed; exit code 0 if so, else 1");
  addSettings(command as unknown as Command);
  command.action((_, command) => check(command as unknown as Command));
}

async function check(command: Command): Promise<void> {
  const settings = settingsOf(command);
  const reconciler = new Reconciler(
    settings,
    new Operations(),
    sourceDirOf(settings),
    loggerOf(settings),
  );
  const { seen, plan } = await reconciler.look();
  const installed = plan.steps.length === 0 && plan.waitingFor === undefined &&
    plan.blocked === undefined;
  console.log(JSON.stringify(
    {
      installed,
      target: plan.target ?? null,
      waitingFor: plan.waitingFor ?? null,
      blocked: plan.blocked ?? null,
      warnings: plan.warnings,
      missing: plan.steps.map((step) => ({
        cause: step.cause,
        file: step.kind === "install-plugin"
          ? `${settings.mountedBinDir}/kuma-cni`
          : `${settings.mountedNetDir}/${step.name}`,
      })),
      plugin: seen.plugin.kind,
      kubeconfig: seen.kubeconfig === undefined ? "missing" : "present",
      configurationFiles: seen.files.map(({ name }) => name),
    },
    null,
    2,
  ));
  Deno.exit(installed ? 0 : 1);
}
