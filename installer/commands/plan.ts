/** `install-cni plan`: what would be done to the host, without doing it. */
import type { Command } from "@commander-js/extra-typings";
import { Operations } from "../host/operations.ts";
import { Reconciler } from "../loop/reconcile.ts";
import type { Plan } from "../plan/steps.ts";
import type { Settings } from "../settings/declarations.ts";
import { objectOf } from "../doctor/installed.ts";
import { addSettings, loggerOf, settingsOf, sourceDirOf } from "./command_settings.ts";
import { formatData, outputOption } from "./output.ts";
import { planText } from "./plan_text.ts";
import { print, styleOf } from "./terminal.ts";

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command("plan")
    .description("Print what install-cni would do to this host now, and do nothing")
    .addOption(outputOption(["text", "json", "yaml"]));
  addSettings(command as unknown as Command, "check");
  command.action(async ({ output }, command) => {
    const settings = settingsOf(command as unknown as Command);
    const { plan } = await new Reconciler(
      settings,
      new Operations(),
      sourceDirOf(settings),
      loggerOf(settings),
    ).look();
    print(
      output === "text"
        ? planText(settings, plan, styleOf())
        : formatData(dataOf(settings, plan), output),
    );
    Deno.exit(0);
  });
}

function dataOf(settings: Settings, plan: Plan): unknown {
  return {
    target: plan.target ?? null,
    steps: plan.steps.map((step) => ({
      action: step.kind,
      file: objectOf(settings, step),
      cause: step.cause,
    })),
    waitingFor: plan.waitingFor ?? null,
    blocked: plan.blocked ?? null,
    warnings: plan.warnings,
  };
}
