/**
 * The reference's DaemonSet on one node, started in a container runtime as a kubelet would: command,
 * environment, mounts, rights and probe all come from its manifest.
 */
import { uniqueName } from "./topology.ts";
import type { ApiServer } from "./api_server.ts";
import type { Containerd, Sandbox, SandboxRequest } from "./containerd.ts";
import { plainPod } from "./pods.ts";
import { installerObjects, type ManifestValues } from "./reference_manifest.ts";

interface DaemonSet {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly containers: readonly [Container];
        readonly volumes: readonly {
          readonly name: string;
          readonly hostPath?: { readonly path: string };
        }[];
      };
    };
  };
}

interface Container {
  readonly name: string;
  readonly image: string;
  readonly command: readonly string[];
  readonly args: readonly string[];
  readonly env: readonly {
    readonly name: string;
    readonly value?: string;
    readonly valueFrom?: { readonly configMapKeyRef: { readonly key: string } };
  }[];
  readonly readinessProbe: { readonly exec: { readonly command: readonly string[] } };
  readonly resources: { readonly limits: { readonly memory: string } };
  readonly securityContext: {
    readonly readOnlyRootFilesystem: boolean;
    readonly runAsUser: number;
    readonly runAsGroup: number;
    readonly allowPrivilegeEscalation?: boolean;
    readonly capabilities?: { readonly drop: readonly string[] };
    readonly seccompProfile?: { readonly type: "RuntimeDefault" };
  };
  readonly volumeMounts: readonly { readonly mountPath: string; readonly name: string }[];
}

/** Choices of a run. */
export interface InstallerContainerOptions {
  readonly containerd: Containerd;
  /** Must be reached at the same address by pods and by the node. */
  readonly api: ApiServer;
  readonly values: ManifestValues;
  /** Added to the environment. */
  readonly env?: Readonly<Record<string, string>>;
}

/** The DaemonSet's pod. */
export class InstallerContainer {
  private constructor(
    private readonly options: InstallerContainerOptions,
    private readonly spec: DaemonSet["spec"]["template"]["spec"],
    private readonly sandbox: Sandbox,
    readonly id: string,
  ) {}

  /** Starts the pod's sandbox and its container; waits for nothing. */
  static async start(options: InstallerContainerOptions): Promise<InstallerContainer> {
    const { containerd, api, values } = options;
    const [configMap, daemonSet] = installerObjects(values) as [
      { data: Record<string, string> },
      DaemonSet,
    ];
    const { spec } = daemonSet.spec.template;
    const [container] = spec.containers;
    const pod = plainPod({ namespace: "kube-system", name: uniqueName("kuma-cni-node-") });
    api.store.put(pod);
    const { name, uid } = pod.metadata;
    const request: SandboxRequest = { namespace: "kube-system", name, uid: uid! };
    const sandbox = await containerd.runPodSandbox(request);
    const folder = Deno.makeTempDirSync({ dir: containerd.folder, prefix: "pod-" });
    const { hostname, port } = new URL(api.url);
    const env = {
      KUBERNETES_SERVICE_HOST: hostname,
      KUBERNETES_SERVICE_PORT: port,
      ...Object.fromEntries(container.env.map(({ name, value, valueFrom }) => [
        name,
        value ?? configMap.data[valueFrom!.configMapKeyRef.key]!,
      ])),
      ...options.env,
    };
    const volume = (name: string): string => {
      const path = spec.volumes.find((each) => each.name === name)?.hostPath?.path;
      return path ?? made(`${folder}/${name}`);
    };
    const { securityContext } = container;
    const id = await containerd.startContainer(sandbox.id, request, {
      metadata: { name: container.name },
      image: { image: container.image },
      command: container.command,
      args: container.args,
      envs: Object.entries(env).map(([key, value]) => ({ key, value })),
      mounts: [
        ...container.volumeMounts.map(({ mountPath, name }) => ({
          container_path: mountPath,
          host_path: volume(name),
        })),
        {
          container_path: "/var/run/secrets/kubernetes.io/serviceaccount",
          host_path: serviceAccount(`${folder}/account`, api),
          readonly: true,
        },
      ],
      linux: {
        resources: {
          memory_limit_in_bytes: parseInt(container.resources.limits.memory) * 2 ** 20,
        },
        security_context: {
          run_as_user: { value: securityContext.runAsUser },
          run_as_group: { value: securityContext.runAsGroup },
          readonly_rootfs: securityContext.readOnlyRootFilesystem,
          no_new_privs: securityContext.allowPrivilegeEscalation === false,
          capabilities: { drop_capabilities: securityContext.capabilities?.drop ?? [] },
          seccomp: {
            profile_type: securityContext.seccompProfile?.type === "RuntimeDefault" ? 0 : 1,
          },
        },
      },
    });
    return new InstallerContainer(options, spec, sandbox, id);
  }

  /** What it has written. */
  get log(): string {
    return this.options.containerd.containerLog(this.sandbox.id);
  }

  /** Waits until the readiness probe of the manifest succeeds. */
  async untilReady(): Promise<void> {
    const { containerd } = this.options;
    const probe = this.spec.containers[0].readinessProbe.exec.command;
    let last = "";
    for (let attempt = 0; attempt < 150; attempt++) {
      if (!(await containerd.containerStatus(this.id)).running) {
        throw new Error(`install-cni has ended; its log:\n${this.log}`);
      }
      const { code, output } = await containerd.execSync(this.id, probe);
      if (code === 0) return;
      last = output;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    throw new Error(`Waited 30 s in vain for ${probe.join(" ")} (${last}); log:\n${this.log}`);
  }

  /** Process of install-cni on the host. */
  async pid(): Promise<number> {
    return (await this.options.containerd.containerStatus(this.id)).pid;
  }

  /** Ends the pod as a kubelet does; returns the exit code of its container. */
  async stop(): Promise<number> {
    const { containerd } = this.options;
    const code = await containerd.stopContainer(
      this.id,
      this.spec.terminationGracePeriodSeconds,
    );
    await containerd.stopPodSandbox(this.sandbox.id);
    await containerd.removePodSandbox(this.sandbox.id);
    return code;
  }
}

function made(folder: string): string {
  Deno.mkdirSync(folder, { recursive: true });
  return folder;
}

function serviceAccount(folder: string, api: ApiServer): string {
  made(folder);
  Deno.writeTextFileSync(`${folder}/ca.crt`, api.certificateAuthority);
  Deno.writeTextFileSync(`${folder}/namespace`, "kube-system");
  Deno.writeTextFileSync(`${folder}/token`, api.token);
  return folder;
}
