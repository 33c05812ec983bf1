/**
 * Calls a CNI plugin as containerd does: with its environment, its arguments in random order and
 * the network configuration as libcni serialises it.
 */

/** The pod that a call is about. */
export interface PodReference {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** One call of a plugin. */
export interface PluginCall {
  readonly command: "ADD" | "DEL" | "CHECK" | "STATUS";
  readonly containerId: string;
  /** Path of the pod's network namespace; empty as in containerd's second DEL. */
  readonly netns: string;
  readonly pod: PodReference;
  /** What stands in the plugin's entry of the conflist, without `prevResult`. */
  readonly network: Readonly<Record<string, unknown>>;
  readonly prevResult?: unknown;
  /** Instead of those that containerd sends. */
  readonly args?: string;
  /** `eth0` unless told. */
  readonly interfaceName?: string;
}

/** What a plugin did. */
export interface PluginAnswer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Wall time of the whole process in milliseconds. */
  readonly milliseconds: number;
}

/** A container identifier as containerd makes them: 64 hexadecimal digits. */
export function newContainerId(): string {
  return Array.from(
    crypto.getRandomValues(new Uint8Array(32)),
    (byte) => byte.toString(16).padStart(2, "0"),
  ).join("");
}

/** Puts `CNI_ARGS` together; the order of its pairs changes from call to call, as in Go's maps. */
export function cniArgs(containerId: string, pod: PodReference): string {
  return [
    `K8S_POD_INFRA_CONTAINER_ID=${containerId}`,
    `K8S_POD_UID=${pod.uid}`,
    "IgnoreUnknown=1",
    `K8S_POD_NAMESPACE=${pod.namespace}`,
    `K8S_POD_NAME=${pod.name}`,
  ].map((pair) => ({ pair, order: Math.random() }))
    .sort((a, b) => a.order - b.order)
    .map(({ pair }) => pair)
    .join(";");
}

/**
 * `CNI_ARGS` as thin Multus 3.9 and later hands them on: its own pairs first, in the order of its
 * source and with its spelling of `IgnoreUnknown`, then those of the runtime again.
 */
export function multusArgs(containerId: string, pod: PodReference): string {
  return [
    "IgnoreUnknown=true",
    `K8S_POD_NAMESPACE=${pod.namespace}`,
    `K8S_POD_NAME=${pod.name}`,
    `K8S_POD_INFRA_CONTAINER_ID=${containerId}`,
    `K8S_POD_UID=${pod.uid}`,
    cniArgs(containerId, pod),
  ].join(";");
}

/** The result of the plugins before this one: a pod with an IPv4 and an IPv6 address. */
export function bridgeResult(
  netns: string,
  addresses: { readonly ipv4: string; readonly ipv6?: string; readonly gateway4: string },
): Record<string, unknown> {
  return {
    cniVersion: "0.4.0",
    interfaces: [
      { name: "cni0", mac: "6e:2d:1d:0c:5b:01" },
      { name: "vethb9d26105", mac: "9a:1c:33:fe:08:02" },
      { name: "eth0", mac: "02:bd:0f:5e:77:03", sandbox: netns },
    ],
    ips: [
      {
        version: "4",
        interface: 2,
        address: `${addresses.ipv4}/24`,
        gateway: addresses.gateway4,
      },
      ...(addresses.ipv6 === undefined
        ? []
        : [{ version: "6", interface: 2, address: `${addresses.ipv6}/64` }]),
    ],
    routes: [{ dst: "0.0.0.0/0" }, { dst: "::/0" }],
    dns: {},
  };
}

/** The text that a plugin gets on standard input: one JSON object, keys sorted. */
export function networkConfigText(
  network: Readonly<Record<string, unknown>>,
  prevResult?: unknown,
): string {
  const all = prevResult === undefined ? network : { ...network, prevResult };
  return JSON.stringify(Object.fromEntries(Object.entries(all).sort(([a], [b]) => a < b ? -1 : 1)));
}

/** The environment of a call, as containerd makes it. */
export function pluginEnvironment(
  call: Omit<PluginCall, "network" | "prevResult">,
): Record<string, string> {
  return {
    PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
    HOME: "/root",
    CNI_COMMAND: call.command,
    CNI_CONTAINERID: call.containerId,
    CNI_NETNS: call.netns,
    CNI_IFNAME: call.interfaceName ?? "eth0",
    CNI_PATH: "/opt/cni/bin",
    CNI_ARGS: call.args ?? cniArgs(call.containerId, call.pod),
  };
}

/**
 * Runs a plugin once and waits for it.
 *
 * @param plugin path of the program
 */
export async function callPlugin(plugin: string, call: PluginCall): Promise<PluginAnswer> {
  const started = performance.now();
  const child = new Deno.Command(plugin, {
    clearEnv: true,
    env: pluginEnvironment(call),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const output = child.output();
  try {
    const stdin = child.stdin.getWriter();
    await stdin.write(new TextEncoder().encode(networkConfigText(call.network, call.prevResult)));
    await stdin.close();
  } catch (error) {
    // A plugin may answer and end without having read its input.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
  const { code, stdout, stderr } = await output;
  return {
    code,
    stdout: new TextDecoder().decode(stdout),
    stderr: new TextDecoder().decode(stderr),
    milliseconds: performance.now() - started,
  };
}
