/** Pods that a cluster really runs: those of the injector, with programs that are to be had. */
import type { ContainerObject, PodObject } from "../../support/pods.ts";
import { box, envoy } from "./images.ts";

/** What pods of the tests may have besides. */
export interface WorkloadOptions {
  /** A user namespace of its own. */
  readonly userNamespace?: boolean;
  readonly node?: string;
  /** Labels by which a Service finds it. */
  readonly labels?: Readonly<Record<string, string>>;
  /** The container of the sidecar only sleeps: for pods whose rules alone matter. */
  readonly light?: boolean;
}

const server = "mkdir -p /www && echo hello >/www/index.html && exec httpd -f -p 8080 -h /www";

/** Returns the injector's pod with images and commands of this cluster. */
export function workload(pod: PodObject, options: WorkloadOptions = {}): PodObject {
  const { name, namespace = "demo", labels, annotations } = pod.metadata;
  const containers = (list: readonly ContainerObject[]) =>
    list.map((container) => runnable(container, options.light ?? false));
  const { initContainers = [], containers: apps } = pod.spec;
  const volumes = (pod.spec.volumes as { name: string }[])
    .filter(({ name }) => !name.startsWith("kube-api-access"));
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace,
      labels: { ...labels, ...options.labels },
      ...(annotations === undefined ? {} : { annotations }),
    },
    spec: {
      ...(options.userNamespace ? { hostUsers: false } : {}),
      ...(options.node === undefined
        ? {}
        : { nodeSelector: { "kubernetes.io/hostname": options.node } }),
      initContainers: containers(initContainers),
      containers: containers(apps),
      // A static pod may not name other objects.
      volumes: options.light
        ? volumes
        : [...volumes, { name: "sidecar", configMap: { name: "sidecar", optional: true } }],
      automountServiceAccountToken: false,
      terminationGracePeriodSeconds: 1,
      // A pod that a node's end has taken comes back with the node.
      restartPolicy: "Always",
    },
  };
}

function runnable(container: ContainerObject, light: boolean): ContainerObject {
  const { name, securityContext, restartPolicy } = container;
  const kept = {
    name,
    imagePullPolicy: "IfNotPresent",
    ...(securityContext === undefined ? {} : { securityContext }),
    ...(restartPolicy === undefined ? {} : { restartPolicy }),
    ...(name === "app" ? {} : { volumeMounts: container.volumeMounts }),
  };
  const shell = (script: string) => ({ ...kept, image: box, command: ["sh", "-c", script] });
  if (name === "kuma-validation") return { ...kept, image: box, command: ["validation"] };
  if (light) return { ...kept, image: box, command: ["sleep", "1000000"] };
  if (name !== "kuma-sidecar" && name !== "kuma-gateway") return shell(server);
  const arguments_ = ["-c", "/sidecar/envoy.json", "--concurrency", "1", "--disable-hot-restart"];
  return {
    ...kept,
    image: envoy,
    command: ["envoy", ...arguments_, "-l", "warning"],
    volumeMounts: [
      ...(container.volumeMounts as object[]),
      { name: "sidecar", mountPath: "/sidecar" },
    ],
    // A native sidecar's has to be up before the next container starts.
    ...(restartPolicy === undefined
      ? {}
      : { startupProbe: { tcpSocket: { port: 9001 }, periodSeconds: 1, failureThreshold: 60 } }),
  };
}

/** Readiness of the application as the injector rewrites it: by the sidecar's port of probes. */
export function withProbe(pod: PodObject): PodObject {
  const probe = { httpGet: { path: "/8080/index.html", port: 9001 }, periodSeconds: 1 };
  const containers = pod.spec.containers.map((container) =>
    container.name === "app" ? { ...container, readinessProbe: probe } : container
  );
  return { ...pod, spec: { ...pod.spec, containers } };
}
