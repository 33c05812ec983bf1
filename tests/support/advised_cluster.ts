/** What a cluster does about the commands that doctor advises: the DaemonSet, Helm and a runtime, played. */
import { equal, ok } from "node:assert/strict";
import { parseArgs } from "node:util";
import { manifestObjects } from "../../installer/manifests/objects.ts";
import { gatherValues } from "../../installer/manifests/sources.ts";
import type { Tree } from "../../installer/manifests/tree.ts";
import { resolveValues, setAt } from "../../installer/manifests/values.ts";
import type { Call } from "./advised_commands.ts";
import { type DoctorBed, nodeName } from "./doctor_bed.ts";
import { injectedPod, type KubernetesObject, plainPod } from "./pods.ts";

/** The cluster of one node. */
export class AdvisedCluster {
  #values: Tree = {};
  /** The objects of the last `helm upgrade` of kuma-cni. */
  objects: readonly Tree[] = [];

  constructor(private readonly bed: DoctorBed) {
    const { CNI_NET_DIR, CNI_CONF_NAME = "", CNI_RUNTIME = "auto", CNI_NETWORK_CONFIG } =
      bed.environment;
    const values = {
      "cni.chained": true,
      "cni.netDir": CNI_NET_DIR,
      "cni.binDir": JSON.parse(CNI_NETWORK_CONFIG!).kubernetes.cni_bin_dir,
      "cni.confName": CNI_CONF_NAME,
      "cni.runtime": CNI_RUNTIME,
      "cni.engine": JSON.parse(CNI_NETWORK_CONFIG!).engine ?? "auto",
    };
    for (const [name, value] of Object.entries(values)) setAt(this.#values, name, value);
  }

  /** Does what the call of a program would lead to; a call that only shows something leads to nothing. */
  async react([program, ...args]: Call): Promise<void> {
    if (program === "helm") return await this.#helm(args);
    if (program === "systemctl") {
      deepEqualWords(args, "restart kuma-cni");
      return await this.bed.startAgent();
    }
    if (program !== "kubectl") return;
    const { values, positionals } = parseArgs({
      args,
      allowPositionals: true,
      options: {
        namespace: { type: "string", short: "n" },
        selector: { type: "string", short: "l" },
        output: { type: "string", short: "o" },
        "all-namespaces": { type: "boolean", short: "A" },
        "field-selector": { type: "string" },
        tail: { type: "string" },
        overwrite: { type: "boolean" },
        "show-labels": { type: "boolean" },
      },
    });
    const [verb, kind, name, ...rest] = positionals;
    if (verb === "delete") {
      equal(kind, "pod");
      if (name !== undefined && name !== this.bed.environment.POD_NAME) {
        return this.#startAnew(values.namespace!, name);
      }
      if (name === undefined) {
        equal(values.selector, "app=kuma-cni");
        equal(values["field-selector"], `spec.nodeName=${nodeName}`);
      }
      await this.bed.startAgent();
    } else if (verb === "label") {
      equal(kind, "namespace");
      this.#label(name!, rest[0]!, values.overwrite === true);
    } else {
      ok(["get", "logs", "describe", "exec"].includes(verb!), `kubectl ${verb}`);
    }
  }

  async #helm(args: readonly string[]): Promise<void> {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        namespace: { type: "string", short: "n" },
        "reuse-values": { type: "boolean" },
        set: { type: "string", multiple: true, default: [] },
        "set-string": { type: "string", multiple: true, default: [] },
      },
    });
    ok(values["reuse-values"], "else all other values are lost");
    equal(positionals[0], "upgrade");
    if (positionals[1] === "cilium") {
      // From then on it leaves others' files alone, and Services to the host's namespace.
      this.bed.write(
        "/run/cilium/state/globals/node_config.h",
        "#define ENABLE_SOCKET_LB_HOST_ONLY 1",
      );
      return await this.bed.startAgent();
    }
    if (positionals[1] === "kuma") return;
    deepEqualWords(positionals, "upgrade kuma-cni deploy/helm/kuma-cni");
    this.#values = gatherValues({
      platform: this.#values,
      files: [],
      flags: [],
      setJson: [],
      set: values.set,
      setString: values["set-string"],
      setFile: [],
      readFile: () => "",
    });
    this.objects = manifestObjects(resolveValues(this.#values));
    this.#allow();
    await this.#roll();
  }

  /** The role, as the API server then sees it. */
  #allow(): void {
    const role = this.object("ClusterRole") as {
      rules: { resources: string[]; verbs: string[] }[];
    };
    for (const verb of ["get", "list", "watch"]) {
      const isAllowed = role.rules.some(({ resources, verbs }) =>
        resources.includes("pods") && verbs.includes(verb)
      );
      if (isAllowed) this.bed.api.allow(verb, "pods");
      else this.bed.api.forbid(verb, "pods");
    }
  }

  /** The DaemonSet's new pod, with its environment and mounts. */
  async #roll(): Promise<void> {
    const { spec: { template: { spec } } } = this.object("DaemonSet") as {
      spec: { template: { spec: { containers: Container[]; volumes: Volume[] } } };
    };
    const config = this.object("ConfigMap") as { data: { cni_network_config: string } };
    const { environment } = this.bed;
    for (const { name, value } of spec.containers[0]!.env) {
      // A test's own paths of the log, the ready file and so on stay.
      if (value !== undefined && name.startsWith("CNI_")) environment[name] = value;
    }
    environment.CNI_NETWORK_CONFIG = config.data.cni_network_config;
    const folder = (name: string) =>
      spec.volumes.find((volume) => volume.name === name)!.hostPath!.path;
    environment.CNI_NET_DIR = folder("cni-net-dir");
    await this.bed.startAgent(folder("cni-bin-dir"));
  }

  /** Returns the object of a kind. */
  object(kind: string): Tree {
    const object = this.objects.find((object) => object.kind === kind);
    ok(object, `The chart has no ${kind}`);
    return object;
  }

  #label(namespace: string, assignment: string, mayOverwrite: boolean): void {
    const [key, value] = assignment.split("=") as [string, string];
    const { store } = this.bed.api;
    const object = store.get("namespaces", undefined, namespace);
    const labels = object.metadata.labels ?? {};
    ok(mayOverwrite || labels[key] === undefined, "kubectl refuses to change a label");
    store.put({ ...object, metadata: { ...object.metadata, labels: { ...labels, [key]: value } } });
  }

  /** The successor of a deleted pod: injected if it is to be, and started through the present chain. */
  #startAnew(namespace: string, name: string): void {
    const { store } = this.bed.api;
    const before = store.get("pods", namespace, name);
    const isMeshed = before.metadata.annotations?.["kuma.io/sidecar-injected"] === "true" ||
      isEnabled(
        store.has("namespaces", undefined, namespace)
          ? store.get("namespaces", undefined, namespace)
          : undefined,
      );
    store.delete("pods", namespace, name);
    const options = { namespace, name, nodeName };
    store.put(isMeshed ? injectedPod(options) : plainPod(options));
    this.bed.startPod(namespace, name);
  }
}

interface Container {
  readonly env: readonly { readonly name: string; readonly value?: string }[];
}

interface Volume {
  readonly name: string;
  readonly hostPath?: { readonly path: string };
}

function isEnabled(namespace: KubernetesObject | undefined): boolean {
  return namespace?.metadata.labels?.["kuma.io/sidecar-injection"] === "enabled";
}

function deepEqualWords(words: readonly string[], expected: string): void {
  equal(words.join(" "), expected);
}
