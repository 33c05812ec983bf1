/** The Kubernetes objects of an installation; names, labels and fields are those of Kuma's chart. */
import { createHash } from "node:crypto";
import { VERSION } from "../../src/version.ts";
import { controllerObjects } from "./controller.ts";
import { daemonSet } from "./daemonset.ts";
import { monitoringObjects } from "./monitoring.ts";
import { networkConfig, prettyJson } from "./network_config.ts";
import { rightsObjects, serviceAccount } from "./rights.ts";
import type { Tree } from "./tree.ts";
import type { Values } from "./values.ts";

/** Names and labels that the objects of one installation have in common. */
export interface Names {
  readonly namespace: string;
  /** The account, its roles, and the label `app`; the others begin with it. */
  readonly cni: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** A Kubernetes object. */
export interface KubernetesObject extends Tree {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string } & Tree;
}

/** Returns the names and labels that follow from the values. */
export function namesOf(values: Values): Names {
  const name = values.get("nameOverride") || "kuma";
  const cni = `${name}-cni`;
  return {
    namespace: values.get("cni.namespace"),
    cni,
    labels: {
      app: cni,
      "app.kubernetes.io/name": name,
      "app.kubernetes.io/instance": values.get("instance"),
    },
  };
}

/** Returns the image that runs. */
export function imageOf(values: Values): string {
  const registry = values.get("cni.image.registry") || values.get("global.image.registry");
  const tag = values.get("cni.image.tag") || values.get("global.image.tag") || VERSION;
  return `${registry === "" ? "" : `${registry}/`}${values.get("cni.image.repository")}:${tag}`;
}

/** Returns all objects of an installation, in the order in which they are to be applied. */
export function manifestObjects(values: Values): readonly KubernetesObject[] {
  if (!values.get("cni.enabled")) return [];
  const names = namesOf(values);
  const config = prettyJson(networkConfig(values));
  return [
    serviceAccount(values, names),
    ...rightsObjects(values, names),
    configMap(names, config),
    ...controllerObjects(values, names, imageOf(values)),
    daemonSet(values, names, {
      image: imageOf(values),
      checksum: createHash("sha256").update(config).digest("hex"),
    }),
    ...monitoringObjects(values, names),
  ];
}

function configMap({ namespace, cni, labels }: Names, config: string): KubernetesObject {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: `${cni}-config`, namespace, labels },
    data: { cni_network_config: config },
  };
}
