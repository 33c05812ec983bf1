/** `install-cni doctor`: what is wrong on this node, or with one pod, and the command that mends it. */
import type { Command } from "@commander-js/extra-typings";
import { messageOf } from "../../src/text/message_of.ts";
import { makeBundle } from "../doctor/bundle.ts";
import { diagnose, type Diagnosis } from "../doctor/diagnosis.ts";
import type { Finding } from "../doctor/finding.ts";
import { askOthers, lookAtNode } from "../doctor/look.ts";
import { healthUrl } from "../doctor/look_at_cluster.ts";
import { comparisonPatience, lookAtInstall } from "../doctor/look_at_install.ts";
import { lookAtPod } from "../doctor/look_at_pod.ts";
import { diagnosePod, type PodLifeSeen } from "../doctor/pod.ts";
import { isImpossible, type NodeSeen } from "../doctor/seen.ts";
import { sha256 } from "../host/journal.ts";
import type { Observed } from "../host/observe.ts";
import { Operations } from "../host/operations.ts";
import { plan } from "../plan/plan.ts";
import type { Plan } from "../plan/steps.ts";
import type { Settings } from "../settings/declarations.ts";
import { addSettings, sourceDirOf } from "./command_settings.ts";
import { doctorSettingsOf } from "./doctor_settings.ts";
import { findingsText } from "./findings.ts";
import { formatData, outputOption } from "./output.ts";
import { orFail } from "./redirect_options.ts";
import { print, type Style, styleOf } from "./terminal.ts";

const examples = `
Examples:
  install-cni doctor                            what is wrong on this node?
  install-cni doctor shop/web-0                 why is this pod meshed, or not?
  install-cni doctor --bundle /tmp/node.tar.gz  also writes what a helper needs, without secrets
  kubectl -n kube-system exec POD -- /install-cni doctor   in the agent's pod
  kubectl -n kube-system exec POD -- /install-cni doctor --bundle - > node.tar.gz

Exit code: 0 when nothing is wrong, 1 when something is odd, 2 when pods may not be captured or not
start. docs/doctor.md has every finding.
`;

/** Adds the command. */
export function register(program: Command): void {
  const command = program.command("doctor")
    .description("Tell what is wrong on this node, or with one pod, and how to mend it")
    .argument("[pod]", "pod as namespace/name: tell why it is meshed, or not")
    .addOption(outputOption(["text", "wide", "json", "yaml"]))
    .option(
      "--bundle <file>",
      'also write a support bundle (.tar.gz) without secrets; "-" = stdout',
    )
    .addHelpText("after", examples);
  addSettings(command as unknown as Command, "check");
  command.action((pod, values, command) =>
    orFail(command, async () => {
      const reference = pod === undefined ? undefined : referenceOf(pod);
      const { settings, areKnown } = doctorSettingsOf(command as unknown as Command);
      const operations = new Operations();
      const about = reference === undefined
        ? undefined
        : await lookAtPod(operations, settings, reference);
      const seen = about === undefined || values.bundle !== undefined
        ? await seenOf(operations, settings, areKnown)
        : undefined;
      const diagnosis = about === undefined ? diagnose(seen!) : diagnosePod(about);
      const { output } = values;
      const wide = output === "wide" || output === "json" || output === "yaml";
      const facts = seen !== undefined && wide ? factsOf(seen) : undefined;
      const isToStdout = values.bundle === "-";
      const told = output === "json" || output === "yaml"
        ? formatData({ ...diagnosis, ...(facts === undefined ? {} : { facts }) }, output)
        : textOf(diagnosis, isToStdout ? styleOf(false) : styleOf(), facts);
      if (isToStdout) console.error(told.trimEnd());
      else print(told);
      if (values.bundle !== undefined) {
        await writeBundle(values.bundle, diagnosis, seen!, about);
      }
      Deno.exit(diagnosis.exitCode);
    })
  );
}

async function seenOf(
  operations: Operations,
  settings: Settings,
  areKnown: boolean,
): Promise<NodeSeen> {
  const began = performance.now();
  const answers = await askOthers(settings);
  // What the others have taken is not there any more, but for a moment.
  const left = Math.max(200, comparisonPatience - (performance.now() - began));
  const observed = await lookAtInstall(operations, settings, sourceDirOf(settings), left);
  const plan = areKnown ? planOf(settings, observed) : undefined;
  return lookAtNode(operations, settings, observed, plan, answers);
}

function referenceOf(text: string): { readonly namespace: string; readonly name: string } {
  const [, namespace, name] = /^(?:([^/\s]+)\/)?([^/\s]+)$/.exec(text) ?? [];
  if (name === undefined) {
    throw new Error(`The pod is ${JSON.stringify(text)}, expected namespace/name`);
  }
  return { namespace: namespace ?? "default", name };
}

/** What was not compared is told as such, and keeps nothing else from being judged. */
export function planOf(settings: Settings, observed: Observed): Plan {
  const isUnseen = observed.plugin.kind === "unseen";
  return plan(settings, isUnseen ? { ...observed, plugin: { kind: "current" } } : observed);
}

/** The verdict first: who reads this at night may read no more than it. */
function textOf({ verdict, exitCode, findings }: Diagnosis, style: Style, facts?: Facts): string {
  const paint = [style.green, style.yellow, style.red][exitCode]!;
  const all: readonly Finding[] = [
    ...findings,
    ...(facts?.files ?? []).map((file): Finding => ({
      subject: "file",
      grade: "note",
      text: `"${file.name}" ${file.size} bytes, mode ${file.mode}, owner ${file.owner}, ` +
        `${file.modified}, sha256 ${file.sha256}`,
    })),
  ];
  const hint = exitCode === 0
    ? ""
    : "\n→ is what to do; docs/doctor.md has each finding by the name in brackets\n";
  return `${style.bold(paint(verdict))}\n\n${findingsText(all, style, true)}${hint}`;
}

interface Facts {
  readonly files: readonly {
    readonly name: string;
    readonly size: number;
    readonly mode: string;
    readonly owner: string;
    readonly modified: string;
    readonly sha256: string;
  }[];
  readonly runtime: Observed["view"]["runtime"];
  readonly changes: NodeSeen["changes"];
  readonly pods: NodeSeen["pods"];
}

/** What was seen, for whoever looks closer. */
function factsOf({ observed, changes, pods }: NodeSeen): Facts {
  return {
    files: observed.files.map(({ name, status, content }) => ({
      name,
      size: status.size,
      mode: status.mode.toString(8),
      owner: `${status.uid}:${status.gid}`,
      modified: new Date(status.modified).toISOString(),
      sha256: content === undefined ? "unknown" : sha256(content),
    })),
    runtime: observed.view.runtime,
    changes,
    pods,
  };
}

async function writeBundle(
  path: string,
  diagnosis: Diagnosis,
  node: NodeSeen,
  pod: PodLifeSeen | undefined,
): Promise<void> {
  const metrics = node.agent.readiness === undefined || isImpossible(node.agent.readiness)
    ? undefined
    : await metricsOf(node.settings);
  const bundle = await makeBundle({
    diagnosis,
    text: textOf(diagnosis, styleOf(false)),
    node,
    ...(pod === undefined ? {} : { pod }),
    ...(metrics === undefined ? {} : { metrics }),
  });
  if (path === "-") return await writeAll(bundle);
  try {
    // Never into what is there already: it may be a link that somebody else has put there.
    Deno.writeFileSync(path, bundle, { createNew: true, mode: 0o600 });
  } catch (error) {
    throw new Error(`Cannot write the bundle ${JSON.stringify(path)}: ${messageOf(error)}`);
  }
  console.error(`Bundle: ${path}, ${bundle.length} bytes`);
}

/** An image without tar has no `kubectl cp`, so the bundle can come out this way. */
async function writeAll(bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length;) {
    written += await Deno.stdout.write(bytes.subarray(written));
  }
}

async function metricsOf(settings: Settings): Promise<string | undefined> {
  try {
    const signal = AbortSignal.timeout(500);
    const response = await fetch(healthUrl(settings, "/metrics"), { signal });
    return (await response.text()).slice(0, 1 << 20);
  } catch {
    return undefined;
  }
}
