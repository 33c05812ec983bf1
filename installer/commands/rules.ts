/** `install-cni rules`: what would be done to a pod, and why. */
import { type Command, Option } from "@commander-js/extra-typings";
import { cannot } from "../../src/engine/ebpf/cannot.ts";
import { listPrograms } from "../../src/engine/ebpf/programs.ts";
import type { EngineName } from "../../src/engine/engine.ts";
import { planTables } from "../../src/engine/nftables/plan.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import {
  describeDecision,
  describeRules,
  effectiveSettings,
  familyName,
} from "../../src/redirect/describe.ts";
import { mermaidOfRules, mermaidOfSkip } from "../../src/redirect/mermaid.ts";
import { saveText } from "../../src/redirect/iptables_text.ts";
import { nftText } from "../../src/redirect/nft_text.ts";
import type { NamespaceFacts, Ruleset } from "../../src/redirect/ruleset.ts";
import { formatData, outputOption } from "./output.ts";
import { readRedirectInputs, type RedirectInput, type RedirectInputs } from "./redirect_input.ts";
import {
  allowPodSettingOption,
  configOptionsOf,
  factsOf,
  INPUT_HELP,
  orFail,
  resolverOption,
  rulesVersionOption,
} from "./redirect_options.ts";
import { print, type Style, styleOf, warn } from "./terminal.ts";

/** How the rules are printed. */
export interface RulesOutput {
  readonly output: "text" | "wide" | "json" | "yaml" | "iptables-save" | "nft" | "mermaid";
  /** Print rules in the syntax of this engine instead of words. */
  readonly engine?: EngineName | undefined;
  readonly family?: "ipv4" | "ipv6" | undefined;
  /** List also the settings that have their defaults; JSON always has them. */
  readonly all?: boolean | undefined;
}

/** Adds the command. */
export function register(program: Command): void {
  program.command("rules")
    .description("Print the decision about a pod, its effective settings and its rules")
    .argument("<input>", INPUT_HELP)
    .addOption(
      new Option("--engine <name>", "print rules as this engine has them, not in words")
        .choices(["nftables", "iptables", "ebpf"] as const),
    )
    .addOption(
      new Option("--family <family>", "rules of one IP family only")
        .choices(["ipv4", "ipv6"] as const),
    )
    .addOption(outputOption(["text", "wide", "json", "yaml", "iptables-save", "nft", "mermaid"]))
    .option("--all", "list also the settings that have their defaults, as -o wide does", false)
    .addOption(rulesVersionOption())
    .addOption(resolverOption())
    .addOption(allowPodSettingOption())
    .option("--no-ipv6", "the namespace cannot carry IPv6")
    .option("--docker", "the namespace has Docker's DNS rules (chain DOCKER_OUTPUT)", false)
    .option("--loopback <name>", "name of the loopback interface", "lo")
    .action((path, values, command) =>
      orFail(command, async () => {
        refuseContradiction(values);
        const inputs = await readRedirectInputs(path, configOptionsOf(values), warn);
        const form: RulesOutput = values.output === "wide"
          ? { ...values, output: "text", all: true }
          : values;
        print(formatAll(inputs, factsOf(values), form));
      })
    );
}

/** Options that contradict each other would silently win one over the other. */
function refuseContradiction(
  { engine, family, ipv6, output }: RulesOutput & { readonly ipv6: boolean },
): void {
  if (engine !== undefined && output !== "text" && output !== "wide") {
    throw new Error(
      `--engine ${engine} is for --output text, and the output is ${output}; give one of them`,
    );
  }
  if (family === "ipv6" && !ipv6) {
    throw new Error("--family ipv6 asks for rules that --no-ipv6 leaves out; give one of them");
  }
}

function formatAll(
  inputs: RedirectInputs,
  facts: NamespaceFacts,
  values: RulesOutput,
): string {
  const rulesetOf = (input: RedirectInput) =>
    input.kind === "skip" ? undefined : compileRuleset(input.config, facts);
  const { output } = values;
  if (output === "json" || output === "yaml") {
    const data = inputs.map((input) => dataOf(input, rulesetOf(input), values));
    return formatData(data.length === 1 ? data[0] : data, output);
  }
  const style = styleOf();
  return inputs.map((input) => {
    const text = formatRules(input, rulesetOf(input), values);
    return output === "text" && values.engine === undefined ? painted(text, style) : text;
  }).join("\n");
}

/**
 * Formats a decision and its rules.
 *
 * @param input The decision.
 * @param ruleset Its rules; none when the pod is skipped.
 * @param output The format.
 * @returns Text with a final line end.
 */
export function formatRules(
  input: RedirectInput,
  ruleset: Ruleset | undefined,
  { output, engine, family, all = false }: RulesOutput,
): string {
  if (output === "json" || output === "yaml") {
    return formatData(dataOf(input, ruleset, { family }), output);
  }
  if (input.kind === "skip" || ruleset === undefined) return formatSkip(input, output);
  const shown = ofFamily(ruleset, family);
  switch (output) {
    case "iptables-save":
      return iptablesText(shown);
    case "mermaid":
      return mermaidOfRules(shown);
    case "nft":
      return nftText(planTables(shown, "inet"), { comments: shown.comments });
    case "wide":
    case "text":
      if (engine === undefined) {
        return describeRules({ ...input, ruleset: shown, allSettings: all });
      }
      return [
        ...describeDecision({ ...input, allSettings: all }),
        textOfEngine(shown, engine),
      ].join("\n");
  }
}

function textOfEngine(shown: Ruleset, engine: EngineName): string {
  switch (engine) {
    case "nftables":
      return nftText(planTables(shown, "inet"), { comments: shown.comments });
    case "iptables":
      return iptablesText(shown);
    case "ebpf": {
      const reasons = cannot(shown);
      return reasons.length === 0
        ? listPrograms(shown)
        : `The eBPF engine cannot do this, nftables is used instead:\n${
          reasons.map((reason) => `  ${reason}\n`).join("")
        }`;
    }
  }
}

function iptablesText({ families, comments }: Ruleset): string {
  return families
    .map((entry) => `# ${familyName(entry.family)}\n${saveText(entry, { comments })}`)
    .join("");
}

function ofFamily(ruleset: Ruleset, family: RulesOutput["family"]): Ruleset {
  if (family === undefined) return ruleset;
  return { ...ruleset, families: ruleset.families.filter((entry) => entry.family === family) };
}

function dataOf(
  input: RedirectInput,
  ruleset: Ruleset | undefined,
  { family }: Pick<RulesOutput, "family">,
): unknown {
  if (input.kind === "skip" || ruleset === undefined) {
    const { title, ...decision } = input;
    return { title, decision: "skip", ...decision, kind: undefined };
  }
  const { title, config, origins, warnings } = input;
  return {
    title,
    decision: "redirect",
    warnings,
    settings: effectiveSettings(config, origins),
    config,
    ruleset: ofFamily(ruleset, family),
  };
}

function formatSkip(input: RedirectInput, output: RulesOutput["output"]): string {
  if (input.kind !== "skip") throw new TypeError("A redirected pod has rules");
  const line = `${input.title}: skipped. ${input.reason}`;
  if (output === "mermaid") return mermaidOfSkip(line);
  return output === "text" ? `${line}\n` : `# ${line}\n`;
}

/** Marks headings and warnings of a text for people. */
function painted(text: string, style: Style): string {
  return text.split("\n").map((line, index) =>
    index === 0 || /^(Settings|Warnings|Rules, )/.test(line)
      ? style.bold(line)
      : line.startsWith("  ! ")
      ? style.yellow(line)
      : line
  ).join("\n");
}
