/**
 * `install-cni check`: tells whether everything is installed, or with `--netns` whether a pod's rules
 * are; changes nothing.
 */
import { type Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { ConnectionState } from "../../src/kubernetes/connection_state.ts";
import { type Doubt, doubtsOf, tokenInKubeconfig } from "../cluster/doubts.ts";
import { clientOf, probe } from "../cluster/own_pod.ts";
import type { Observed } from "../host/observe.ts";
import { cachedChains } from "../host/namers.ts";
import { Operations } from "../host/operations.ts";
import type { ShimChoice } from "../host/shim_plan.ts";
import { Reconciler } from "../loop/reconcile.ts";
import type { Plan } from "../plan/steps.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Settings } from "../settings/declarations.ts";
import { pathsOf } from "../settings/paths.ts";
import { warningsOfEntry } from "../settings/plugin_entry.ts";
import { findingsOf, objectOf } from "../doctor/installed.ts";
import { addSettings, loggerOf, settingsOf, sourceDirOf } from "./command_settings.ts";
import { checkRulesOf, engineOption } from "./engine.ts";
import type { Finding } from "../doctor/finding.ts";
import { findingsText } from "./findings.ts";
import { formatData, outputOption } from "./output.ts";
import {
  allowPodSettingOption,
  orFail,
  resolverOption,
  rulesVersionOption,
} from "./redirect_options.ts";
import { print, styleOf } from "./terminal.ts";

/** Milliseconds between two looks while waiting. */
const lookEvery = 500;

const examples = `
Examples:
  install-cni check                                 is everything installed on this node?
  install-cni check --wait 60                       wait until it is, a minute at most
  install-cni check -o json                         for programs
  install-cni check pod.yaml --netns /run/netns/x   are a pod's rules as they should be?
  install-cni check pod.yaml --netns /run/netns/x --cgroup /sys/fs/cgroup/kubepods.slice/…
                                                    are its eBPF programs, and what they counted

Exit code: 0 when everything is as it should be, else 1.
`;

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command("check")
    .description("Tell whether everything is installed, or with --netns whether a pod's rules are")
    .argument(
      "[input]",
      'with --netns: pod manifest or transparent proxy configuration; "-" = stdin',
    )
    .option("--netns <path>", "compare the rules in this network namespace with those of the input")
    .addOption(
      new Option(
        "--cgroup <path>",
        "with --netns: folder of the pod's cgroup, for its eBPF programs",
      )
        .conflicts("engine"),
    )
    .addOption(outputOption(["text", "wide", "json", "yaml"]))
    .addOption(
      new Option("--wait <seconds>", "wait until everything is installed, at most so long")
        .argParser(secondsOf).conflicts("netns"),
    )
    .addOption(engineOption())
    .addOption(rulesVersionOption())
    .addOption(resolverOption())
    .addOption(allowPodSettingOption())
    .addHelpText("after", examples);
  addSettings(command as unknown as Command, "check");
  command.action((input, values, command) => {
    if (values.netns === undefined && input === undefined && values.cgroup === undefined) {
      return check(command as unknown as Command, values.output, values.wait ?? 0);
    }
    return orFail(command, async () => {
      if (values.netns === undefined || input === undefined) {
        throw new Error(
          "A check of rules needs both the namespace (--netns) and the pod's manifest",
        );
      }
      const { output } = values;
      const { equal, text, data } = await checkRulesOf(values.netns, input, values);
      print(output === "json" || output === "yaml" ? formatData(data, output) : text);
      if (!equal) Deno.exit(1);
    });
  });
}

function secondsOf(text: string): number {
  const seconds = Number(text);
  if (/^[0-9]+(\.[0-9]+)?$/.test(text) && seconds <= 86400) return seconds;
  throw new InvalidArgumentError("Expected a number of seconds, a day at most.");
}

async function check(
  command: Command,
  output: "text" | "wide" | "json" | "yaml",
  wait: number,
): Promise<void> {
  const settings = settingsOf(command);
  const operations = new Operations();
  const reconciler = new Reconciler(
    settings,
    operations,
    sourceDirOf(settings),
    loggerOf(settings),
  );
  const deadline = performance.now() + wait * 1000;
  let { seen, plan } = await reconciler.look();
  while (!isInstalled(plan) && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, lookEvery));
    ({ seen, plan } = await reconciler.look());
  }
  const host = {
    plugin: reconciler.plugin.isStub ? "stub" : seen.plugin.kind,
    runtime: seen.view.runtime,
    cachedChains: countOfChains(operations, settings),
    calls: callsBy(reconciler.plugin.shim),
  };
  const degraded = await doubtsNow(settings);
  const findings = [
    ...findingsOf(settings, seen, plan),
    ...shimFindings(reconciler.plugin.shim),
    ...degraded.map(({ text }): Finding => ({ subject: "api", grade: "warning", text })),
    ...(degraded.length === 0
      ? [{ subject: "api", grade: "ok", text: "The API server answers this account" } as const]
      : []),
  ];
  if (output === "json" || output === "yaml") {
    const told = { degraded: degraded.map(({ text }) => text), findings };
    print(formatData({ ...dataOf(settings, seen, plan), ...host, ...told }, output));
  } else {
    const more = output === "wide" ? widerFindings(host, seen) : [];
    print(checkText([...findings, ...more], isInstalled(plan)));
  }
  Deno.exit(isInstalled(plan) ? 0 : 1);
}

function isInstalled(plan: Plan): boolean {
  return plan.steps.length === 0 && plan.waitingFor === undefined && plan.blocked === undefined;
}

/** The shim was wanted and cannot be used: pods start all the same, only later. */
function shimFindings(shim: ShimChoice | undefined): Finding[] {
  if (shim?.kind !== "plugin" || !shim.isTrouble) return [];
  return [{
    subject: "shim",
    grade: "warning",
    text: `Each call starts the plugin: ${shim.reason}`,
  }];
}

/** Who answers runtimes' calls, once all is installed. */
function callsBy(shim: ShimChoice | undefined): string {
  return shim === undefined
    ? "not known"
    : shim.kind === "shim"
    ? "by the agent, through the shim, else by the plugin"
    : `by the plugin, without the shim: ${shim.reason}`;
}

/** Facts that are neither good nor bad, for whoever looks closer. */
function widerFindings(
  { runtime, cachedChains, calls }: {
    readonly runtime: Runtime;
    readonly cachedChains: number | null;
    readonly calls: string;
  },
  { files }: Observed,
): Finding[] {
  const words: readonly (readonly [subject: string, text: string])[] = [
    ["runtime", `${runtime.kind} (${runtime.basis})`],
    ["calls", calls],
    ["files", files.map(({ name }) => `"${name}"`).join(", ") || "none in the net dir"],
    ["pods", cachedChains === null ? "not known" : `${cachedChains} stored chains name the plugin`],
  ];
  return words.map(([subject, text]) => ({ subject, grade: "ok", text }));
}

function checkText(findings: readonly Finding[], installed: boolean): string {
  const style = styleOf();
  const end = installed
    ? style.green("Installed: meshed pods that start now are captured")
    : style.red("Not installed: meshed pods that start now may not be captured");
  return `${findingsText(findings, style)}\n${end}\n`;
}

function dataOf(settings: Settings, seen: Observed, plan: Plan): Record<string, unknown> {
  return {
    installed: isInstalled(plan),
    target: plan.target ?? null,
    waitingFor: plan.waitingFor ?? null,
    blocked: plan.blocked ?? null,
    warnings: [...warningsOfEntry(settings), ...plan.warnings, ...plan.remarks ?? []],
    missing: plan.steps.map((step) => ({ cause: step.cause, file: objectOf(settings, step) })),
    kubeconfig: seen.kubeconfig === undefined ? "missing" : "present",
    configurationFiles: seen.files.map(({ name }) => name),
  };
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

/** Milliseconds for one question to the API server. */
const patience = 3000;

/** Asks the API server once: what may keep meshed pods from starting although all is installed. */
async function doubtsNow(settings: Settings): Promise<Doubt[]> {
  const state = new ConnectionState();
  try {
    using client = clientOf(settings, patience, state);
    await probe(client, settings, AbortSignal.timeout(patience + 1000));
  } catch (error) {
    state.failed("get", error);
  }
  return doubtsOf(state, tokenInKubeconfig(pathsOf(settings).kubeconfig), Date.now(), 0);
}
