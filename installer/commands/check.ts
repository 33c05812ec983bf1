/**
 * `install-cni check`: tells whether everything is installed, or with `--netns` whether a pod's rules
 * are; changes nothing.
 */
import type { Command } from "@commander-js/extra-typings";
import { cachedChains } from "../host/namers.ts";
import { Operations } from "../host/operations.ts";
import { Reconciler } from "../loop/reconcile.ts";
import type { Settings } from "../settings/declarations.ts";
import { addSettings, loggerOf, settingsOf, sourceDirOf } from "./command_settings.ts";
import { checkRulesOf, engineOption } from "./engine.ts";
import {
  allowPodSettingOption,
  orFail,
  resolverOption,
  rulesVersionOption,
} from "./redirect_options.ts";

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command("check")
    .description(
      "Print as JSON whether everything is installed, or with --netns whether a pod's rules are; " +
        "exit code 0 if so, else 1",
    )
    .argument(
      "[input]",
      'with --netns: pod manifest or transparent proxy configuration; "-" = stdin',
    )
    .option("--netns <path>", "compare the rules in this network namespace with those of the input")
    .addOption(engineOption())
    .addOption(rulesVersionOption())
    .addOption(resolverOption())
    .addOption(allowPodSettingOption());
  addSettings(command as unknown as Command);
  command.action((input, values, command) => {
    if (values.netns === undefined && input === undefined) {
      return check(command as unknown as Command);
    }
    return orFail(command, async () => {
      if (values.netns === undefined || input === undefined) {
        throw new Error(
          "A check of rules needs both the namespace (--netns) and the pod's manifest",
        );
      }
      const { equal, text } = await checkRulesOf(values.netns, input, values);
      console.log(text);
      if (!equal) Deno.exit(1);
    });
  });
}

async function check(command: Command): Promise<void> {
  const settings = settingsOf(command);
  const operations = new Operations();
  const reconciler = new Reconciler(
    settings,
    operations,
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
      plugin: reconciler.plugin.isStub ? "stub" : seen.plugin.kind,
      runtime: seen.view.runtime,
      cachedChains: countOfChains(operations, settings),
      kubeconfig: seen.kubeconfig === undefined ? "missing" : "present",
      configurationFiles: seen.files.map(({ name }) => name),
    },
    null,
    2,
  ));
  Deno.exit(installed ? 0 : 1);
}

/** Number of running pods whose stored chain has the plugin; `null`: it is not known. */
function countOfChains(operations: Operations, settings: Settings): number | null {
  try {
    const { folder, results, multus } = cachedChains(operations, settings);
    return folder === undefined ? null : results.length + multus.length;
  } catch {
    return null;
  }
}
