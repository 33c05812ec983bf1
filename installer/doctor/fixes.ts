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
  if (isByHand(settings)) return "systemctl restart kuma-cni";
  const command = `kubectl delete pod ${agentHere(settings)}`;
  return settings.podName === "" && settings.nodeName === ""
    ? `${command}   # of all nodes; add --field-selector spec.nodeName=NAME for this one`
    : command;
}

/** Shows what the agent says. */
export function log(settings: Settings): string {
  return isByHand(settings)
    ? "journalctl -u kuma-cni -n 50"
    : `kubectl logs ${agentHere(settings)} --tail 50`;
}

/** Sets values of the chart, or what they are to a service. */
export function setValue(settings: Settings, assignment: string): string {
  return isByHand(settings)
    ? setByHand(assignment)
    : `${upgrade(settings)} --set ${shellWord(assignment)}`;
}

function upgrade(settings: Settings): string {
  return `helm upgrade kuma-cni deploy/helm/kuma-cni -n ${namespaceOf(settings)} --reuse-values`;
}

/** Gives back the role, the binding and the account, and changes nothing else. */
export function restoreRights(settings: Settings): string {
  return isByHand(settings) ? `${role("get")}; ${binding}` : upgrade(settings);
}

const binding = "kubectl create clusterrolebinding kuma-cni --clusterrole=kuma-cni " +
  "--serviceaccount=kube-system:kuma-cni";

function role(verbs: string): string {
  return `kubectl create clusterrole kuma-cni --verb=${verbs} --resource=pods ` +
    "--dry-run=client -o yaml | kubectl apply -f -";
}

/** What a value of the chart is called in the settings of a service. */
const namesByHand: Readonly<Record<string, (value: string) => string>> = {
  "cni.netDir": (value) => `CNI_NET_DIR=${value} and MOUNTED_CNI_NET_DIR=${value}`,
  "cni.binDir": (value) =>
    `MOUNTED_CNI_BIN_DIR=${value} and, in the JSON, "cni_bin_dir": "${value}"`,
  "cni.confName": (value) => `CNI_CONF_NAME=${value}`,
  "cni.confNameIsLoaded": (value) => `CNI_CONF_NAME_IS_LOADED=${value}`,
  "cni.engine": (value) => `in the JSON, "engine": "${value}"`,
  "cni.excludeNamespaces": (value) => `in the JSON, "exclude_namespaces": ${jsonList(value)}`,
  "cni.clusterDns": (value) => `in the JSON, "cluster_dns": ${jsonList(value)}`,
};

/** Without a chart somebody has to edit the file; the command is for afterwards. */
function setByHand(assignments: string): string {
  if (assignments === "cni.rbac.watchPods=true") return role("get,list,watch");
  if (assignments === "cni.controller.enabled=true") {
    return "systemctl is-enabled kuma-cni   # it must start before kubelet does";
  }
  const parts = assignments.match(/[\w.]+=(?:\{[^}]*\}|[^,]*)/g) ?? [];
  const told = parts.map((part) => {
    const at = part.indexOf("=");
    return namesByHand[part.slice(0, at)]?.(part.slice(at + 1)) ?? part;
  });
  return `systemctl restart kuma-cni   # once /etc/kuma-cni/install-cni.env has ${told.join(", ")}`;
}

/** A list as `--set` writes it, in JSON. */
function jsonList(value: string): string {
  return JSON.stringify(value.replace(/^\{|\}$/g, "").split(","));
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
