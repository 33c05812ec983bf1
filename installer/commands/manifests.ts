/** `install-cni manifests`: the Kubernetes objects of an installation. */
import { type Command, Option } from "@commander-js/extra-typings";
import { isRecord } from "../../src/json/record.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { choosePlatform } from "../manifests/choose_platform.ts";
import { declaredValues, type ValueName } from "../manifests/declarations.ts";
import { manifestObjects } from "../manifests/objects.ts";
import { type PlatformFacts, platformRow, platforms, treeOfRow } from "../manifests/platforms.ts";
import { yamlText } from "../manifests/render.ts";
import { valuesFile } from "../manifests/schema.ts";
import { gatherValues } from "../manifests/sources.ts";
import { stepsFor } from "../manifests/steps.ts";
import { type Tree, ValuesError } from "../manifests/tree.ts";
import { resolveValues } from "../manifests/values.ts";
import { clusterClient } from "./cluster_access.ts";
import { formatData, outputOption } from "./output.ts";
import { orFail } from "./redirect_options.ts";

const examples = `
Examples:
  install-cni manifests --platform cilium | kubectl apply -f -
  install-cni manifests --platform k3s --kubelet-version v1.31.1+k3s1 --set cni.healthPort=9910
  kubectl get nodes,daemonsets -A -o json | install-cni manifests --platform auto --cluster -
  install-cni manifests --platform kind --output values | helm install kuma-cni CHART -n kube-system -f -
`;

/** What the command line says. */
interface ManifestsOptions {
  readonly platform?: string;
  readonly cluster?: string;
  readonly kubeletVersion?: string;
  readonly auxiliaryChain: boolean;
  readonly values: string[];
  readonly set: string[];
  readonly setString: string[];
  readonly setJson: string[];
  readonly setFile: string[];
  readonly output: "yaml" | "json" | "values";
}

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command("manifests")
    .description("Print the Kubernetes objects of an installation, for kubectl apply -f -")
    .addOption(
      new Option("--platform <name>", "values of an environment, or of the one that is found")
        .choices(["auto", ...platforms.map(({ name }) => name)]),
    )
    .addOption(
      new Option(
        "--cluster <file>",
        'for --platform auto: output of "kubectl get nodes,daemonsets -A -o json", "-" = stdin; ' +
          "without it, the API server of the kubeconfig is asked",
      ),
    )
    .option("--kubelet-version <version>", "version of the nodes, for k3s and k3d")
    .option("--auxiliary-chain", "openshift: come in by Multus' auxiliary chain (4.18+)", false)
    .addOption(repeatable("-f, --values <file>", 'values file, "-" = stdin (repeatable)'))
    .addOption(repeatable("--set <values>", "values, as a,b=c of Helm (repeatable)"))
    .addOption(repeatable("--set-string <values>", "values that stay text (repeatable)"))
    .addOption(repeatable("--set-json <values>", "values in JSON (repeatable)"))
    .addOption(repeatable("--set-file <values>", "values that are the text of a file (repeatable)"))
    .addOption(outputOption(["yaml", "json", "values"]));
  for (const [name, { flag, help, kind }] of declaredValues()) {
    if (flag === undefined) continue;
    const argument = kind.schema.type === "boolean" ? "[value]" : "<value>";
    command.addOption(new Option(`${flag} ${argument}`, `${help} (${name}, as kumactl)`));
  }
  command.addHelpText("after", () => `\n${valuesHelp()}\n${examples}`)
    .action((options, self) => orFail(self, () => run(options as never)));
}

function repeatable(flags: string, help: string): Option {
  return new Option(flags, help)
    .argParser((value: string, before: string[]) => [...before, value]).default([]);
}

function valuesHelp(): string {
  const lines = declaredValues().map(([name, { default: preset, help, kind }]) =>
    `  ${name} (${kind.words}; default ${JSON.stringify(preset)})\n      ${help}`
  );
  return ["Values:", ...lines].join("\n");
}

async function run(options: ManifestsOptions & Tree): Promise<void> {
  const platform = await platformOf(options);
  const given = gatherValues({
    platform: platform.tree,
    files: options.values.map((name) => ({ name, text: readText(name) })),
    flags: flagsOf(options),
    setJson: options.setJson,
    set: options.set,
    setString: options.setString,
    setFile: options.setFile,
    readFile: readText,
  });
  const values = resolveValues(given);
  const objects = manifestObjects(values);
  const notes = [...platform.notes, ...stepsFor(values, given).map(toDo)];
  if (options.output === "values") {
    await write(valuesFile(given));
  } else if (options.output === "json") {
    await write(formatData({ apiVersion: "v1", kind: "List", items: objects }, "json"));
  } else {
    await write(yamlText(objects, notes));
  }
  for (const note of notes) console.error(note);
}

function toDo(step: string): string {
  return `To do: ${step}`;
}

/** The platform's values, and what to say about it; nothing without a platform. */
async function platformOf(
  options: ManifestsOptions,
): Promise<{ readonly tree: Tree; readonly notes: readonly string[] }> {
  const { platform, cluster, auxiliaryChain, kubeletVersion: kubelet } = options;
  if (platform !== "auto" && cluster !== undefined) {
    throw new ValuesError("--cluster needs --platform auto");
  }
  if (platform === undefined) {
    if (auxiliaryChain) throw new ValuesError("--auxiliary-chain needs --platform openshift");
    if (kubelet !== undefined) throw new ValuesError("--kubelet-version needs --platform");
    return { tree: {}, notes: [] };
  }
  const notes: string[] = [];
  let name = platform;
  let facts: PlatformFacts = { kubelet, auxiliaryChain };
  if (platform === "auto") {
    const choice = choosePlatform(await clusterObjects(cluster));
    if (choice.kind === "unsure") {
      throw new ValuesError(
        `Cannot choose the platform: ${choice.reason}; name it with --platform`,
      );
    }
    notes.push(`Platform ${choice.platform}: ${choice.reason}`);
    name = choice.platform;
    facts = { ...facts, kubelet: kubelet ?? choice.kubelet };
  }
  const row = platformRow(name, facts);
  return { tree: treeOfRow(row), notes: [...notes, ...row.steps.map(toDo)] };
}

async function clusterObjects(file: string | undefined): Promise<unknown[]> {
  if (file !== undefined) {
    const list = parseJson(readText(file), file);
    if (isRecord(list) && Array.isArray(list.items)) return list.items;
    throw new ValuesError(
      `${file} has no "items", expected the output of kubectl get nodes,daemonsets -A -o json`,
    );
  }
  using client = clusterClient();
  const request = { maximumBytes };
  const lists = await Promise.all([
    client.getJson("/api/v1/nodes", { ...request, what: "nodes" }),
    client.getJson("/apis/apps/v1/daemonsets", { ...request, what: "DaemonSets" }),
  ]);
  // The items of a list leave out their kind.
  return lists.flatMap(({ items }, i) =>
    Array.isArray(items)
      ? items.map((item) => ({ ...item, kind: i === 0 ? "Node" : "DaemonSet" }))
      : []
  );
}

function parseJson(text: string, file: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new ValuesError(
      `${file} is not JSON, expected the output of kubectl get nodes,daemonsets -A -o json`,
    );
  }
}

/** kumactl's flags that were given, by the value that they are for. */
function flagsOf(options: Tree): { name: ValueName; value: string }[] {
  return declaredValues().flatMap(([name, { flag }]) => {
    const option = flag?.slice(2).replace(/-([a-z])/g, (_, letter) => letter.toUpperCase());
    const value = option === undefined ? undefined : options[option];
    return value === undefined ? [] : [{ name, value: String(value) }];
  });
}

/** Most that is read of one file: the objects of a large cluster. */
const maximumBytes = 256 * 1024 * 1024;

function readText(path: string): string {
  try {
    using file = path === "-" ? undefined : Deno.openSync(path);
    const source = file ?? Deno.stdin;
    const decoder = new TextDecoder();
    const buffer = new Uint8Array(64 * 1024);
    let text = "";
    for (let read = 0;;) {
      const count = source.readSync(buffer);
      if (count === null) return text + decoder.decode();
      read += count;
      if (read > maximumBytes) throw new Error(`it has more than ${maximumBytes} bytes`);
      text += decoder.decode(buffer.subarray(0, count), { stream: true });
    }
  } catch (error) {
    throw new ValuesError(
      `Cannot read "${path}": ${messageOf(error)}`,
    );
  }
}

async function write(text: string): Promise<void> {
  await new Blob([text]).stream().pipeTo(Deno.stdout.writable, { preventClose: true });
}
