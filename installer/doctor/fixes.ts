/** Commands that findings advise. Pure. */
import type { Settings } from "../settings/declarations.ts";

/** Namespace and name of the agent's pods for kubectl. */
export function agentPods({ podNamespace, nodeName }: Settings): string {
  const node = nodeName === "" ? "" : ` --field-selector spec.nodeName=${nodeName}`;
  return `-n ${podNamespace || "kube-system"} -l app=kuma-cni${node}`;
}

/** Starts the node agent again, or says why it does not start. */
export function restart(settings: Settings): string {
  return `kubectl delete pod ${agentPods(settings)}; by hand: systemctl restart kuma-cni`;
}

/** Shows what the agent says. */
export function log(settings: Settings): string {
  return `kubectl logs ${agentPods(settings)}; by hand: journalctl -u kuma-cni`;
}

/** Sets a value of the chart. */
export function setValue(assignment: string): string {
  return `helm upgrade kuma-cni deploy/helm/kuma-cni -n kube-system --reuse-values --set ${assignment}`;
}

/** Gives back the role, the binding and the account. */
export const restoreRights =
  "helm upgrade kuma-cni deploy/helm/kuma-cni -n kube-system --reuse-values   # restores the rights";
