/** Options that all commands about rules have in common. */
import { type Command, InvalidArgumentError, Option } from "@commander-js/extra-typings";
import { guardedSettings, type RedirectConfigOptions } from "../../src/pod/redirect_config.ts";
import type { RedirectRulesVersion } from "../../src/redirect/config.ts";
import type { NamespaceFacts } from "../../src/redirect/ruleset.ts";
import { messageOf } from "../../src/text/message_of.ts";

/** What an input of the commands about rules is. */
export const INPUT_HELP =
  'pod manifests or transparent proxy configurations, YAML or JSON; "-" = stdin';

/** Values of the options, as commander gives them. */
export interface RedirectOptionValues {
  readonly rulesVersion?: RedirectRulesVersion | undefined;
  readonly resolver: string[];
  readonly allowPodSetting: string[];
  readonly ipv6: boolean;
  readonly docker: boolean;
  readonly loopback: string;
}

function collect(value: string, before: string[]): string[] {
  return [...before, value];
}

/** `--rules-version`: the form of the DNS-over-TCP rules. */
export function rulesVersionOption(): Option<
  "--rules-version <version>",
  undefined,
  undefined,
  undefined,
  false,
  "2.9" | "3"
> {
  return new Option(
    "--rules-version <version>",
    "form of the DNS-over-TCP rules, as redirect_rules_version of the network configuration",
  ).choices(["2.9", "3"] as const);
}

/** `--resolver`: a resolver of the pod. */
export function resolverOption(): Option<"--resolver <address>", undefined, string[], string[]> {
  return new Option(
    "--resolver <address>",
    "resolver of the pod, for DNS without captureAll (repeatable)",
  ).argParser(collect).default([] as string[]);
}

/** `--allow-pod-setting`: a guarded setting that pods may make. */
export function allowPodSettingOption(): Option<
  "--allow-pod-setting <key>",
  undefined,
  string[],
  string[]
> {
  return new Option(
    "--allow-pod-setting <key>",
    `as in allow_pod_settings of the network configuration: ${guardedSettings.join(", ")} ` +
      "(repeatable)",
  ).argParser((value: string, before: string[]) => {
    if (guardedSettings.includes(value)) return collect(value, before);
    throw new InvalidArgumentError(`Allowed are ${guardedSettings.join(" and ")}.`);
  }).default([] as string[]);
}

/** What the options say about the network configuration and the runtime. */
export function configOptionsOf(values: RedirectOptionValues): RedirectConfigOptions {
  return {
    ...(values.rulesVersion === undefined ? {} : { rulesVersion: values.rulesVersion }),
    allowPodSettings: new Set(values.allowPodSetting),
    resolvers: values.resolver,
  };
}

/** What the options say about the namespace. */
export function factsOf(values: RedirectOptionValues): NamespaceFacts {
  return {
    loopback: values.loopback,
    ipv6: values.ipv6,
    dockerOutput: { ipv4: values.docker, ipv6: values.docker },
    conntrackZones: true,
  };
}

/** Runs a command's work; a failure becomes one line and exit code 1. */
export async function orFail(
  command: Pick<Command, "error">,
  work: () => Promise<void>,
): Promise<void> {
  try {
    await work();
  } catch (error) {
    command.error(`install-cni: ${messageOf(error)}`, {
      exitCode: 1,
    });
  }
}
