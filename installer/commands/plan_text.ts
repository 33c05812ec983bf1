/** A plan in words and as changes of files, for people. Pure. */
import type { Plan, Step } from "../plan/steps.ts";
import type { Settings } from "../settings/declarations.ts";
import { causeTexts, objectOf } from "../doctor/installed.ts";
import type { Style } from "./terminal.ts";

/** Returns what would be done, with the lines of configuration files that would change. */
export function planText(settings: Settings, plan: Plan, style: Style): string {
  const { steps, waitingFor, blocked, warnings } = plan;
  const lines = steps.flatMap((step) => [
    `${style.bold(actionText(settings, step))}, since it ${causeTexts[step.cause]}`,
    ...changedLines(settings, step).map((line) =>
      `    ${line.startsWith("+") ? style.green(line) : style.red(line)}`
    ),
  ]);
  if (waitingFor !== undefined) lines.push(`Wait for ${waitingFor}`);
  if (blocked !== undefined) lines.push(`Stay not ready: ${blocked}`);
  if (lines.length === 0) lines.push(`Nothing: everything is installed in "${plan.target}"`);
  return [...lines, ...warnings.map((warning) => style.yellow(`Warning: ${warning}`))]
    .map((line) => `${line}\n`).join("");
}

function actionText(settings: Settings, step: Step): string {
  const path = objectOf(settings, step);
  switch (step.kind) {
    case "install-plugin":
      return `Install the program "${path}"`;
    case "write":
      return step.expected === undefined ? `Create "${path}"` : `Change "${path}"`;
    case "remove":
      return `Remove "${path}"`;
  }
}

/** Lines that go and lines that come; none of the kubeconfig, which holds the token. */
function changedLines(settings: Settings, step: Step): string[] {
  if (step.kind !== "write" || step.name === settings.kubeconfigName) return [];
  const text = (bytes: Uint8Array | undefined) =>
    bytes === undefined ? [] : new TextDecoder().decode(bytes).split("\n");
  const before = text(step.expected);
  const after = text(step.content);
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start++;
  let end = 0;
  while (
    end < before.length - start && end < after.length - start &&
    before.at(-1 - end) === after.at(-1 - end)
  ) end++;
  const secret = (line: string) =>
    settings.networkConfig.includes("__SERVICEACCOUNT_TOKEN__")
      ? line.replace(/[\w-]+\.[\w-]+\.[\w-]+/g, "<token>")
      : line;
  return [
    ...before.slice(start, before.length - end).map((line) => `- ${line}`),
    ...after.slice(start, after.length - end).map((line) => `+ ${line}`),
  ].map(secret);
}
