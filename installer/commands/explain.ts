/** `install-cni explain`: what happens to one packet, and because of which rule. */
import { type Command, Option } from "@commander-js/extra-typings";
import { explainByEbpf, rulesOfEbpf } from "../../src/engine/ebpf/explain.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import { evaluate } from "../../src/redirect/evaluate.ts";
import { mermaidOfSkip, mermaidOfWay } from "../../src/redirect/mermaid.ts";
import { svgOfSkip, svgOfWay } from "../../src/redirect/svg.ts";
import { explainPacket, outcomeText, packetText } from "../../src/redirect/explain.ts";
import { formatData, outputOption } from "./output.ts";
import { type PacketWords, readPacket } from "./packet_options.ts";
import { readRedirectInputs, type RedirectInput } from "./redirect_input.ts";
import {
  allowPodSettingOption,
  configOptionsOf,
  factsOf,
  INPUT_HELP,
  orFail,
  type RedirectOptionValues,
  resolverOption,
  rulesVersionOption,
} from "./redirect_options.ts";
import { print, type Style, styleOf, warn } from "./terminal.ts";

const examples = `
Examples:
  install-cni explain pod.yaml --from uid=1000 --to 10.0.0.1:443/tcp   an application calls out
  install-cni explain pod.yaml --from uid=1000 --to dns                an application asks the DNS
  install-cni explain pod.yaml --from sidecar --to 10.0.0.1:443        the sidecar calls out
  install-cni explain pod.yaml --from 10.0.0.7 --to 8080               somebody calls the pod
  install-cni explain pod.yaml --from uid=1000 --to 127.0.0.1:8080     within the pod
  install-cni explain pod.yaml --from app --to 10.0.0.1:443 -o svg > way.svg    as a picture
`;

/** Adds the command. */
export function register(program: Command): void {
  program.command("explain")
    .description("Walk a packet through the rules of a pod")
    .argument("<input>", INPUT_HELP)
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
      new Option("--engine <name>", "tell also how this engine does it")
        .choices(["ebpf"] as const),
    )
    .addOption(outputOption(["text", "json", "yaml", "svg", "mermaid"]))
    .addOption(rulesVersionOption())
    .addOption(resolverOption())
    .addOption(allowPodSettingOption())
    .option("--no-ipv6", "the namespace cannot carry IPv6")
    .option("--docker", "the namespace has Docker's DNS rules (chain DOCKER_OUTPUT)", false)
    .option("--loopback <name>", "name of the loopback interface", "lo")
    .addHelpText("after", examples)
    .action((path, values, command) =>
      orFail(command, async () => {
        const inputs = await readRedirectInputs(path, configOptionsOf(values), warn);
        const { output } = values;
        if (output === "svg" || output === "mermaid") {
          return print(pictureOf(inputs, values, output));
        }
        if (output !== "text") {
          const data = inputs.map((input) => dataOf(input, values));
          return print(formatData(data.length === 1 ? data[0] : data, output));
        }
        const style = styleOf();
        print(inputs.map((input) => painted(textOf(input, values), style)).join("\n"));
      })
    );
}

interface Values extends RedirectOptionValues, Omit<PacketWords, "podIps"> {
  readonly podIp: string[];
  readonly engine?: "ebpf" | undefined;
}

/** Walks the packet through a pod's rules. */
function walk(input: RedirectInput & { readonly kind: "redirect" }, values: Values) {
  const { config } = input;
  const packet = readPacket({ ...values, podIps: values.podIp }, config.sidecarUid);
  const ruleset = compileRuleset(config, factsOf(values));
  const met = values.engine === "ebpf" ? rulesOfEbpf(ruleset) : ruleset;
  const evaluation = evaluate(met, packet, values.loopback);
  if (values.engine !== "ebpf") return { packet, evaluation };
  // The evaluator's notes tell what nf_tables does.
  const notes = explainByEbpf(packet, evaluation, ruleset);
  return { packet, evaluation: { ...evaluation, notes } };
}

function dataOf(input: RedirectInput, values: Values): unknown {
  if (input.kind === "skip") {
    const { title, code, reason } = input;
    return { title, decision: "skip", code, reason };
  }
  const { packet, evaluation } = walk(input, values);
  return {
    title: input.title,
    packet,
    summary: `${packetText(packet)}: ${outcomeText(evaluation, input.config)}`,
    ...evaluation,
  };
}

/** Draws the way: one picture, since two cannot be in one document. */
function pictureOf(
  inputs: readonly RedirectInput[],
  values: Values,
  form: "svg" | "mermaid",
): string {
  const [input] = inputs;
  if (input === undefined || inputs.length > 1) {
    throw new Error(
      `--output ${form} draws the way through the rules of one pod, and the input has ` +
        `${inputs.length}; give one of them`,
    );
  }
  if (input.kind === "skip") {
    const text = `${input.title}: skipped, no packet is redirected. ${input.reason}`;
    return form === "svg" ? svgOfSkip(text) : mermaidOfSkip(text);
  }
  const way = { ...walk(input, values), config: input.config };
  return form === "svg" ? svgOfWay(way) : mermaidOfWay(way);
}

function textOf(input: RedirectInput, values: Values): string {
  const { title } = input;
  if (input.kind === "skip") {
    return `${title}: skipped, no packet is redirected. ${input.reason}\n`;
  }
  const { packet, evaluation } = walk(input, values);
  return explainPacket(packet, evaluation, input.config);
}

/** Marks the packet and the rules that it met. */
function painted(text: string, style: Style): string {
  return text.split("\n").map((line, index) =>
    index === 0 ? style.bold(line) : line.startsWith("  =>") ? style.green(line) : line
  ).join("\n");
}
