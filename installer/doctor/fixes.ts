/** Commands that findings advise: each can be pasted into a shell as it stands. Pure. */
import { declarations, type Settings } from "../settings/declarations.ts";

/** Returns a text as one word of a shell: what others have named must not become a command. */
export function shellWord(text: string): string {
  return /^[\w./:=,@%+-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Namespace of install-cni's objects. */
function namespaceOf({ podNamespace }: Settings): string {
  return shellWord(podNamespace || "kube-system");
}

/** Whether install-cni runs on the node itself, as a service, and not as a pod. */
function isByHand({ podNamespace, tokenFile }: Settings): boolean {
  return podNamespace === "" && tokenFile !== declarations.tokenFile.default;
}

/** Words that choose the pods of a node for kubectl. */
function onNode({ nodeName }: Pick<Settings, "nodeName">): string {
  return nodeName === "" ? "" : ` --field-selector spec.nodeName=${shellWord(nodeName)}`;
}

/** Words that choose the agent's pod of a node for kubectl. */
function agentOn(settings: Settings, nodeName: string): string {
  return `-n ${namespaceOf(settings)} -l app=kuma-cni${onNode({ nodeName })}`;
}

/** Words that choose the agent's pod of this node: by its name where this runs in it. */
function agentHere(settings: Settings): string {
  return settings.podName === ""
    ? agentOn(settings, settings.nodeName)
    : `-n ${namespaceOf(settings)} ${shellWord(settings.podName)}`;
}

/** Starts the node agent again, which puts right whatever differs. */
export function restart(settings: Settings): string {
  return isByHand(settings)
    ? "systemctl restart kuma-cni"
    : `kubectl delete pod ${agentHere(settings)}`;
}

/** Shows what the agent says. */
export function log(settings: Settings): string {
  return isByHand(settings)
    ? "journalctl -u kuma-cni -n 50"
    : `kubectl logs ${agentHere(settings)} --tail 50`;
}

/** Sets a value of the chart. */
export function setValue(settings: Settings, assignment: string): string {
  return `${restoreRights(settings)} --set ${shellWord(assignment)}`;
}

/** Gives back the role, the binding and the account, and changes nothing else. */
export function restoreRights(settings: Settings): string {
  return `helm upgrade kuma-cni deploy/helm/kuma-cni -n ${namespaceOf(settings)} --reuse-values`;
}

/** Gets a new token: kubelet mounts one into a new pod; by hand it is that of the account's secret. */
export function renewToken(settings: Settings): string {
  return isByHand(settings)
    ? "kubectl -n kube-system get secret kuma-cni -o 'jsonpath={.data.token}' | base64 -d > " +
      shellWord(settings.tokenFile)
    : restart(settings);
}

/** Gets the cluster's authority, which likewise comes with the pod. */
export function renewAuthority(settings: Settings): string {
  return isByHand(settings)
    ? "kubectl get configmap kube-root-ca.crt -o 'jsonpath={.data.ca\\.crt}' > " +
      shellWord(settings.caFile)
    : restart(settings);
}

/** Shows the node's pods, the primary CNI plugin's among them. */
export function showNodePods(settings: Settings): string {
  return `kubectl get pods -A -o wide${onNode(settings)}`;
}

/** Shows which container runtime the node has. */
export function showRuntime({ nodeName }: Settings): string {
  return `kubectl get nodes ${nodeName === "" ? "" : `${shellWord(nodeName)} `}-o wide`;
}

/** Starts a pod anew by deleting it: whoever made it makes another. */
export function deletePod(namespace: string, name: string): string {
  return `kubectl delete pod -n ${shellWord(namespace)} ${shellWord(name)}`;
}

/** Asks the doctor on another node about a pod. */
export function askOnNode(settings: Settings, node: string, pod: string): string {
  const agent = `kubectl get pod -o name ${agentOn(settings, node)}`;
  return `kubectl exec -n ${namespaceOf(settings)} $(${agent}) -- /install-cni doctor ` +
    shellWord(pod);
}

/** Lets the control plane inject for a CNI plugin. */
export const injectForCni = "helm upgrade kuma kuma/kuma -n kuma-system --reuse-values " +
  "--set-string controlPlane.envVars.KUMA_RUNTIME_KUBERNETES_INJECTOR_CNI_ENABLED=true";
