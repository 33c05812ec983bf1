/** install-cni, the node agent that installs the plugin on the host and keeps it there. */
import { Command } from "@commander-js/extra-typings";
import { versionLine } from "../src/version.ts";
import { register as registerCheck } from "./commands/check.ts";
import { register as registerCompletion } from "./commands/completion.ts";
import { register as registerController } from "./commands/controller.ts";
import { register as registerDoctor } from "./commands/doctor.ts";
import { register as registerEngine } from "./commands/engine.ts";
import { register as registerExplain } from "./commands/explain.ts";
import { layOutHelp } from "./commands/help.ts";
import { register as registerInstall } from "./commands/install.ts";
import { register as registerManifests } from "./commands/manifests.ts";
import { register as registerPlan } from "./commands/plan.ts";
import { register as registerPodNames } from "./commands/pod_names.ts";
import { register as registerPods } from "./commands/pods.ts";
import { register as registerRules } from "./commands/rules.ts";
import { register as registerSystemdUnit } from "./commands/systemd_unit.ts";
import { register as registerUninstall } from "./commands/uninstall.ts";

/** The whole command line. */
export function commandLine(): Command {
  const program = new Command("install-cni")
    .description("Installs the CNI plugin kuma-cni on a node and keeps it there")
    .version(versionLine("install-cni"), "-V, --version", "print version, commit and date");
  layOutHelp(program);
  registerInstall(program);
  registerCheck(program);
  registerDoctor(program);
  registerPlan(program);
  registerPods(program);
  registerPodNames(program);
  registerUninstall(program);
  registerSystemdUnit(program);
  registerRules(program);
  registerExplain(program);
  registerEngine(program);
  registerManifests(program);
  registerController(program);
  registerCompletion(program);
  return program;
}

if (import.meta.main) await commandLine().parseAsync(Deno.args, { from: "user" });
