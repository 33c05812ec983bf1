/**
 * Keeps the account's token out of files that others than root can read, when the administrator's
 * text puts it into the plugin's entry. Our own files are for root only then; a file of somebody else
 * keeps its mode, so it gets no token. Pure.
 */
import type { Observed } from "../host/observe.ts";
import { ownGid, ownUid } from "../host/owner.ts";
import type { Settings } from "../settings/declarations.ts";
import { classify } from "./detect.ts";
import type { Plan, Step } from "./steps.ts";

/** The placeholder that a kubeconfig makes unnecessary. */
export const tokenPlaceholder = "__SERVICEACCOUNT_TOKEN__";

const others = 0o077;

/** Returns the plan with no token in a file that others can read. */
export function withTokenHidden<T extends Omit<Plan, "warnings">>(
  settings: Settings,
  seen: Observed,
  plan: T,
): Omit<Plan, "warnings"> {
  const name = plan.target;
  if (name === undefined || !settings.networkConfig.includes(tokenPlaceholder)) return plan;
  const file = seen.files.find((file) => file.name === name);
  const kind = file === undefined ? "own" : classify(file).kind;
  if (file !== undefined && kind !== "own" && kind !== "derived") {
    if ((file.status.mode & others) === 0) return plan;
    return {
      steps: [],
      waitingFor: `"${name}" to be readable for root alone (chmod 600), since CNI_NETWORK_CONFIG ` +
        `puts the account's token into it; or use "kubernetes.kubeconfig" instead of ` +
        tokenPlaceholder,
    };
  }
  const attributes = { mode: 0o600, uid: ownUid(), gid: ownGid() };
  const isWrite = (step: Step) => step.kind === "write" && step.name === name;
  const steps = plan.steps.map((step) => isWrite(step) ? { ...step, attributes } as Step : step);
  const isOpen = file?.content !== undefined && (file.status.mode & others) !== 0;
  if (!isOpen || steps.some(isWrite)) return { ...plan, steps };
  const { content } = file;
  const known = seen.journal.get(name)?.before ?? { kind: "absent" };
  return {
    ...plan,
    steps: [
      ...steps,
      {
        kind: "write",
        cause: "file-changed",
        name,
        expected: content,
        content: content!,
        attributes,
        before: known,
      },
    ],
  };
}
