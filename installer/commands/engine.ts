/** `install-cni apply` and `remove`, and the check of rules: engines worked by hand. */
import { type Command, Option } from "@commander-js/extra-typings";
import type { EngineSetting } from "../../src/engine/choice/select.ts";
import type { SelectedApplyResult } from "../../src/engine/choice/work.ts";
import { formatData, outputOption } from "./output.ts";
import { readRedirectInput, type RedirectInput } from "./redirect_input.ts";
import {
  allowPodSettingOption,
  configOptionsOf,
  INPUT_HELP,
  orFail,
  type RedirectOptionValues,
  resolverOption,
  rulesVersionOption,
} from "./redirect_options.ts";
import { countLines, loadEbpf } from "./check_programs.ts";
import { applyRules, checkRules, removeRules } from "./rules_in_namespace.ts";
import { print, warn } from "./terminal.ts";

const examples = `
Examples:
  install-cni apply pod.yaml --netns /run/netns/x          as the plugin does when the pod starts
  kubectl get pod web-0 -o yaml | install-cni apply - --netns /proc/4711/ns/net --engine iptables
  install-cni remove --netns /run/netns/x                  take all rules away, of any engine
`;

/** Programs at a cgroup are not seen from the network namespace. */
const PROGRAMS_HINT =
  "  A pod of the engine ebpf needs --cgroup as well: the folder of its cgroup, not a container's";

/** Which engine works; the network configuration's words. */
export function engineOption(): Option<
  "--engine <name>",
  undefined,
  "auto",
  undefined,
  false,
  "auto" | "nftables" | "iptables"
> {
  return new Option("--engine <name>", "engine, as in the network configuration")
    .choices(["auto", "nftables", "iptables"] as const).default("auto" as const);
}

/** Adds the commands. */
export function register(program: Command): void {
  program.command("apply")
    .description("Install a pod's rules in a network namespace, in place of earlier ones")
    .argument("<input>", INPUT_HELP)
    .requiredOption("--netns <path>", "file of the pod's network namespace")
    .addOption(outputOption(["text", "json", "yaml"]))
    .addOption(engineOption())
    .addOption(rulesVersionOption())
    .addOption(resolverOption())
    .addOption(allowPodSettingOption())
    .addHelpText("after", examples)
    .action((path, values, command) =>
      orFail(command, async () => {
        const input = await readInput(path, values);
        const { netns, engine, output } = values;
        const result = input.kind === "skip" ? undefined : applyRules(netns, input.config, engine);
        print(
          output === "text"
            ? applyText(input, netns, result)
            : formatData(applyData(input, netns, result), output),
        );
      })
    );
  program.command("remove")
    .description("Remove the rules of all engines from a network namespace")
    .requiredOption("--netns <path>", "file of the pod's network namespace")
    .addOption(outputOption(["text", "json", "yaml"]))
    .action((values, command) =>
      orFail(command, () => {
        const engines = removeRules(values.netns);
        const text = engines.length === 0
          ? `Nothing to remove: no rules in ${values.netns}`
          : `Removed the rules of ${engines.join(" and ")} from ${values.netns}`;
        const data = { namespace: values.netns, removed: engines };
        print(values.output === "text" ? text : formatData(data, values.output));
        return Promise.resolve();
      })
    );
}

/** What the check of rules needs beside the namespace. */
export interface CheckRulesValues
  extends Omit<RedirectOptionValues, "ipv6" | "docker" | "loopback"> {
  readonly engine: EngineSetting;
  /** Folder of the pod's cgroup, where eBPF programs may be. */
  readonly cgroup?: string;
}

/** How a pod's rules compare with those in its namespace. */
export interface RulesReport {
  readonly equal: boolean;
  /** For people. */
  readonly text: string;
  /** The same for programs. */
  readonly data: unknown;
}

/**
 * What `install-cni check --netns PATH INPUT` does: compares.
 *
 * @param netns file of the pod's network namespace
 * @param path manifest or configuration, `-` for standard input
 * @throws {Error} when that cannot be found out
 */
export async function checkRulesOf(
  netns: string,
  path: string,
  values: CheckRulesValues,
): Promise<RulesReport> {
  const input = await readInput(path, values);
  const config = input.kind === "skip" ? undefined : input.config;
  const { cgroup } = values;
  const place = cgroup === undefined ? undefined : { ebpf: await loadEbpf(), cgroup };
  const { engine, differences, counts } = checkRules(netns, config, values.engine, place);
  const title = input.kind === "skip" ? `${input.title} is skipped (${input.reason})` : input.title;
  const equal = differences.length === 0;
  const data = {
    title: input.title,
    decision: input.kind,
    namespace: netns,
    engine,
    equal,
    differences,
    ...(cgroup === undefined ? {} : { cgroup }),
    ...(counts === undefined ? {} : { counts }),
  };
  const counted = counts === undefined ? [] : countLines(counts);
  if (equal) {
    const text = `${title}: rules in ${netns} are as they should be (${engine})`;
    return { equal, data, text: [text, ...counted].join("\n") };
  }
  const lines = differences.flatMap(({ kind, object, expected, actual }) => [
    `  ${kind}: ${object}`,
    ...(expected === undefined ? [] : [`    expected: ${expected}`]),
    ...(actual === undefined ? [] : [`    actual: ${actual}`]),
  ]);
  return {
    equal,
    data,
    text: [
      `${title}: rules in ${netns} differ from those expected (${engine}, ${differences.length}):`,
      ...lines,
      ...counted,
      ...(cgroup === undefined && config !== undefined ? [PROGRAMS_HINT] : []),
    ].join("\n"),
  };
}

async function readInput(
  path: string,
  values: Omit<RedirectOptionValues, "ipv6" | "docker" | "loopback">,
): Promise<RedirectInput> {
  const input = await readRedirectInput(
    path,
    configOptionsOf({ ...values, ipv6: true, docker: false, loopback: "lo" }),
  );
  if (input.kind !== "skip") {
    for (const warning of input.warnings) warn(warning);
  }
  return input;
}

function applyData(
  input: RedirectInput,
  namespace: string,
  result: SelectedApplyResult | undefined,
): unknown {
  const { title } = input;
  return input.kind === "skip"
    ? { title, decision: "skip", code: input.code, reason: input.reason }
    : { title, decision: "redirect", namespace, ...result };
}

function applyText(
  input: RedirectInput,
  netns: string,
  result: SelectedApplyResult | undefined,
): string {
  if (input.kind === "skip" || result === undefined) {
    const reason = input.kind === "skip" ? ` ${input.reason}` : "";
    return `${input.title}: skipped, nothing was changed.${reason}`;
  }
  const how = result.backend === undefined ? result.engine : `${result.engine}, ${result.backend}`;
  const families = result.families.map((family) => family === "ipv4" ? "IPv4" : "IPv6");
  return [
    `${input.title}: ${result.ruleCount} rules for ${families.join(" and ")} are in ${netns}`,
    `  engine: ${how} (${result.reason})`,
    ...(result.replaced.length === 0
      ? []
      : [`  removed: earlier rules of ${result.replaced.join(" and ")}`]),
    ...result.notes.map((note) => `  note: ${note}`),
  ].join("\n");
}
