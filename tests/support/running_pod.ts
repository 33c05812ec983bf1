/** A pod as the node sees it: a network namespace, a sandbox process, a container's, their groups. */
import { addAddress, getLink } from "../../src/linux/addresses.ts";
import type { NodePod, PodLife } from "../../installer/ledger/pod_life.ts";
import { newContainerId } from "./runtime.ts";
import { createNamespace, type NamedNamespace, uniqueName } from "./topology.ts";
import { CgroupTree } from "./cgroups.ts";

/** A node's pods, which end with it. */
export class PodNode implements AsyncDisposable {
  readonly #groups = new CgroupTree(uniqueName("kuma-ledger-"));
  readonly #children: Deno.ChildProcess[] = [];
  readonly #namespaces: NamedNamespace[] = [];
  readonly pods: RunningPod[] = [];

  /** Makes a pod with a sandbox and one container, both in its namespace. */
  async pod(address: string, options: { readonly uid?: string } = {}): Promise<RunningPod> {
    const namespace = createNamespace();
    this.#namespaces.push(namespace);
    namespace.run(() => {
      // An address that nothing leads to is enough to tell pods apart.
      addAddress(getLink("lo").index, address, address.includes(":") ? 128 : 32);
    });
    const pod = new RunningPod(namespace, options.uid ?? crypto.randomUUID(), address);
    this.pods.push(pod);
    pod.holder = await this.process(namespace, `${pod.group}/cri-containerd-${pod.sandbox}.scope`);
    await this.process(namespace, `${pod.group}/cri-containerd-${pod.container}.scope`);
    return pod;
  }

  /** Starts a process in a namespace and, if one is named, in a group. */
  async process({ path }: NamedNamespace, group?: string): Promise<number> {
    const child = new Deno.Command("nsenter", {
      args: [`--net=${path}`, "sh", "-c", "echo; exec sleep 300"],
      stdout: "piped",
      stderr: "null",
      stdin: "null",
    }).spawn();
    this.#children.push(child);
    // Inside of the namespace once it has spoken.
    const reader = child.stdout.getReader();
    await reader.read();
    reader.releaseLock();
    if (group !== undefined) this.#groups.put(child.pid, group);
    return child.pid;
  }

  /** Ends a process and waits until it is gone. */
  async end(pid: number): Promise<void> {
    const at = this.#children.findIndex((child) => child.pid === pid);
    const [child] = this.#children.splice(at, 1);
    await endOf(child!);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#children.map(endOf));
    for (const namespace of this.#namespaces) namespace[Symbol.dispose]();
    this.#groups[Symbol.dispose]();
  }
}

async function endOf(child: Deno.ChildProcess): Promise<void> {
  try {
    child.kill("SIGKILL");
  } catch {
    // It has ended by itself.
  }
  await child.stdout.cancel();
  await child.status;
}

/** One pod of a {@linkcode PodNode}. */
export class RunningPod {
  readonly sandbox: string = newContainerId();
  readonly container: string = newContainerId();
  /** The sandbox's process. */
  holder = 0;

  constructor(
    readonly namespace: NamedNamespace,
    readonly uid: string,
    readonly address: string,
  ) {}

  /** Its group, as kubelet names it under systemd. */
  get group(): string {
    const uid = this.uid.replaceAll("-", "_");
    return `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${uid}.slice`;
  }

  /** What the API says about it. */
  object(life: Partial<PodLife> = {}): NodePod {
    return {
      pod: {
        namespace: "demo",
        name: `app-${this.uid.slice(0, 8)}`,
        uid: this.uid,
        annotations: { "kuma.io/sidecar-injected": "true" },
        containerNames: ["kuma-sidecar", "app"],
        initContainerNames: ["kuma-validation"],
      },
      life: {
        hostNetwork: false,
        isAlive: true,
        ips: [this.address],
        containerIds: [this.container],
        hasStarted: true,
        isServing: false,
        created: 0,
        ...life,
      },
    };
  }
}
