/** `install-cni rules`: what would be done to a pod, and why. */
import { type Command, Option } from "@commander-js/extra-typings";
import { planTables } from "../../src/engine/nftables/plan.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import {
  describeDecision,
  describeRules,
  effectiveSettings,
  familyName,
} from "../../src/redirect/describe.ts";
import { saveText } from "../../src/redirect/iptables_text.ts";
import { nftText } from "../../src/redirect/nft_text.ts";
import type { Ruleset } from "../../src/redirect/ruleset.ts";
import { readRedirectInput, type RedirectInput } from "./redirect_input.ts";
import {
  allowPodSettingOption,
  configOptionsOf,
  factsOf,
  orFail,
  resolverOption,
  rulesVersionOption,
} from "./redirect_options.ts";

/** How the rules are printed. */
export interface RulesOutput {
  readonly output: "text" | "json" | "iptables-save" | "nft";
  /** Print rules in the syntax of this engine instead of words. */
  readonly engine?: "nftables" | "iptables" | undefined;
  readonly family?: "ipv4" | "ipv6" | undefined;
  /** List also the settings that have their defaults; JSON always has them. */
  readonly all?: boolean | undefined;
}

/** Adds the command. */
export function register(program: Command): void {
  program.command("rules")
    .description("Print the decision about a pod, its effective settings and its rules")
    .argument(
      "<input>",
      'pod manifest or transparent proxy configuration, YAML or JSON; "-" = stdin',
    )
    .addOption(
      new Option("--engine <name>", "print rules as this engine has them, not in words")
        .choices(["nftables", "iptables"] as const),
    )
    .addOption(
      new Option("--family <family>", "rules of one IP family only")
        .choices(["ipv4", "ipv6"] as const),
    )
    .addOption(
      new Option("--output <format>", "format")
        .choices(["text", "json", "iptables-save", "nft"] as const).default("text" as const),
    )
    .option("--all", "list also the settings that have their defaults", false)
    .addOption(rulesVersionOption())
    .addOption(resolverOption())
    .addOption(allowPodSettingOption())
    .option("--no-ipv6", "the namespace cannot carry IPv6")
    .option("--docker", "the namespace has Docker's DNS rules (chain DOCKER_OUTPUT)", false)
    .option("--loopback <name>", "name of the loopback interface", "lo")
    .action((path, values, command) =>
      orFail(command, async () => {
        const input = await readRedirectInput(path, configOptionsOf(values));
        const ruleset = input.kind === "skip"
          ? undefined
          : compileRuleset(input.config, factsOf(values));
        await write(formatRules(input, ruleset, values));
      })
    );
}

async function write(text: string): Promise<void> {
  await new Blob([text]).stream().pipeTo(Deno.stdout.writable, { preventClose: true });
}

/**
 * Formats a decision and its rules.
 *
 * @param input The decision.
 * @param ruleset Its rules; none when the pod is left alone.
 * @param output The format.
 * @returns Text with a final line end.
 */
export function formatRules(
  input: RedirectInput,
  ruleset: Ruleset | undefined,
  { output, engine, family, all = false }: RulesOutput,
): string {
  if (input.kind === "skip" || ruleset === undefined) return formatSkip(input, output);
  const shown: Ruleset = {
    ...ruleset,
    families: ruleset.families.filter((entry) => family === undefined || entry.family === family),
  };
  const { title, config, origins, warnings } = input;
  switch (output) {
    case "iptables-save":
      return iptablesText(shown);
    case "nft":
      return nftText(planTables(shown, "inet"), { comments: shown.comments });
    case "json":
      return JSON.stringify(
        {
          title,
          decision: "redirect",
          warnings,
          settings: effectiveSettings(config, origins),
          config,
          ruleset: shown,
        },
        null,
        2,
      ) + "\n";
    case "text":
      if (engine === undefined) {
        return describeRules({ ...input, ruleset: shown, allSettings: all });
      }
      return [
        ...describeDecision({ ...input, allSettings: all }),
        engine === "nftables"
          ? nftText(planTables(shown, "inet"), { comments: shown.comments })
          : iptablesText(shown),
      ].join("\n");
  }
}

function iptablesText({ families, comments }: Ruleset): string {
  return families
    .map((entry) => `# ${familyName(entry.family)}\n${saveText(entry, { comments })}`)
    .join("");
}

function formatSkip(input: RedirectInput, output: RulesOutput["output"]): string {
  if (input.kind !== "skip") throw new TypeError("A redirected pod has rules");
  const { title, code, reason } = input;
  if (output === "json") {
    return JSON.stringify({ title, decision: "skip", code, reason }, null, 2) + "\n";
  }
  const line = `${title}: left alone. ${reason}`;
  return output === "text" ? `${line}\n` : `# ${line}\n`;
}
