/** `install-cni explain`: what happens to one packet, and because of which rule. */
import { type Command, Option } from "@commander-js/extra-typings";
import { compileRuleset } from "../../src/redirect/compile.ts";
import { evaluate } from "../../src/redirect/evaluate.ts";
import { explainPacket, outcomeText, packetText } from "../../src/redirect/explain.ts";
import { readPacket } from "./packet_options.ts";
import { readRedirectInput } from "./redirect_input.ts";
import {
  allowPodSettingOption,
  configOptionsOf,
  factsOf,
  orFail,
  resolverOption,
  rulesVersionOption,
} from "./redirect_options.ts";

const examples = `
Examples:
  install-cni explain pod.yaml --from uid=1000 --to 10.0.0.1:443/tcp   an application calls out
  install-cni explain pod.yaml --from uid=1000 --to dns                an application asks the DNS
  install-cni explain pod.yaml --from sidecar --to 10.0.0.1:443        the sidecar calls out
  install-cni explain pod.yaml --from 10.0.0.7 --to 8080               somebody calls the pod
  install-cni explain pod.yaml --from uid=1000 --to 127.0.0.1:8080     within the pod
`;

/** Adds the command. */
export function register(program: Command): void {
  program.command("explain")
    .description("Walk a packet through the rules of a pod")
    .argument(
      "<input>",
      'pod manifest or transparent proxy configuration, YAML or JSON; "-" = stdin',
    )
    .requiredOption(
      "--from <sender>",
      '"uid=1000", "root", "app" (UID 1000), "sidecar", "nobody" (no socket) or an address',
    )
    .requiredOption("--to <target>", '"address:port/protocol", a port of the pod, or "dns"')
    .option("--pod-ip <address...>", "address of the pod", [] as string[])
    .option("--interface <name>", "where the packet comes in or goes out")
    .addOption(
      new Option("--state <state>", "state of the packet's connection")
        .choices(["new", "established", "related", "invalid", "untracked"] as const),
    )
    .addOption(
      new Option("--output <format>", "format").choices(["text", "json"] as const)
        .default("text" as const),
    )
    .addOption(rulesVersionOption())
    .addOption(resolverOption())
    .addOption(allowPodSettingOption())
    .option("--no-ipv6", "the namespace cannot carry IPv6")
    .option("--docker", "the namespace has Docker's DNS rules (chain DOCKER_OUTPUT)", false)
    .option("--loopback <name>", "name of the loopback interface", "lo")
    .addHelpText("after", examples)
    .action((path, values, command) =>
      orFail(command, async () => {
        const input = await readRedirectInput(path, configOptionsOf(values));
        if (input.kind === "skip") {
          const { title, code, reason } = input;
          return print(
            values.output === "json"
              ? json({ title, decision: "skip", code, reason })
              : `${title}: left alone, no packet is redirected. ${reason}\n`,
          );
        }
        const { config, title } = input;
        const packet = readPacket({ ...values, podIps: values.podIp }, config.sidecarUid);
        const ruleset = compileRuleset(config, factsOf(values));
        const evaluation = evaluate(ruleset, packet, values.loopback);
        await print(
          values.output === "json"
            ? json({
              title,
              packet,
              summary: `${packetText(packet)}: ${outcomeText(evaluation, config)}`,
              ...evaluation,
            })
            : explainPacket(packet, evaluation, config),
        );
      })
    );
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2) + "\n";
}

async function print(text: string): Promise<void> {
  await new Blob([text]).stream().pipeTo(Deno.stdout.writable, { preventClose: true });
}
