/** Pods in each state of their life, and what doctor must say of them. */
import { pathsOf } from "../../installer/settings/paths.ts";
import { readNamespaceFacts } from "../../src/engine/choice/facts.ts";
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import { putEntry } from "../../src/ledger/folder.ts";
import { networkNamespaceIdentity } from "../../src/linux/namespace_identity.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import type { BrokenNode } from "./broken_node.ts";
import { type DoctorNode, nodeName } from "./doctor_bed.ts";
import { ledgerEntry } from "./ledger_entries.ts";
import { createNamespace } from "./topology.ts";
import {
  gatewayPod,
  initContainerPod,
  injectedPod,
  type KubernetesObject,
  plainPod,
} from "./pods.ts";

const shop = { namespace: "shop", nodeName };

function namespace(name: string, injection: string): KubernetesObject {
  const labels = { "kuma.io/sidecar-injection": injection };
  return { kind: "Namespace", apiVersion: "v1", metadata: { name, labels } };
}

/** A node with one pod in the namespace `shop`, which is injected. */
function withPod(pod: KubernetesObject, ...others: KubernetesObject[]): DoctorNode {
  return { objects: [namespace("shop", "enabled"), pod, ...others] };
}

const event = {
  apiVersion: "v1",
  kind: "Event",
  metadata: { name: "e", namespace: "shop" },
  involvedObject: { kind: "Pod", name: "stuck", namespace: "shop" },
  reason: "FailedCreatePodSandBox",
  message: "Failed to create pod sandbox: the\n\x1b[2J API server is away",
};

const onHost = plainPod({ ...shop, name: "host" });

/** The pods by what is the matter with them. */
export const brokenPods: Readonly<Record<string, BrokenNode>> = {
  "it is captured": {
    node: withPod(injectedPod({ ...shop, name: "good" })),
    pod: "shop/good",
    breaks: (bed) => bed.cache("shop", "good", true),
    finds: [],
    says: /^shop\/good is meshed and captured$/,
    fix: "none",
  },
  "it is a captured gateway": {
    node: withPod(gatewayPod({ ...shop, name: "gateway" })),
    pod: "shop/gateway",
    breaks: (bed) => bed.cache("shop", "gateway", true),
    finds: [],
    says: /^shop\/gateway is meshed and captured$/,
    fix: "none",
  },
  "it was started through a chain without the plugin": {
    node: withPod(injectedPod({ ...shop, name: "early" })),
    pod: "shop/early",
    breaks: (bed) => bed.cache("shop", "early", false),
    finds: ["pod-not-captured"],
    says: /is meshed but not captured: the chain that it was started with does not/,
  },
  "its rules were taken away": {
    node: withPod(injectedPod({ namespace: "demo", name: "app-0", uid: "uid-1", nodeName })),
    pod: "demo/app-0",
    breaks: (bed) => {
      const namespace = createNamespace();
      // The namespace's file below another root would be another one.
      Deno.mkdirSync(bed.path("/run"));
      Deno.symlinkSync("/run/netns", bed.path("/run/netns"));
      const identity = namespace.run(() => {
        new NftablesEngine().apply(compileRuleset(defaultRedirectConfig, readNamespaceFacts()));
        return networkNamespaceIdentity();
      });
      const entry = ledgerEntry({ netns: namespace.path, namespace: identity });
      putEntry(pathsOf(bed.settings).stateDir, entry);
      namespace.run(() => new NftablesEngine().remove());
      return namespace;
    },
    finds: ["pod-drifted"],
    says: /^demo\/app-0 was captured, but its rules have changed since$/,
  },
  "nothing tells of its sandbox": {
    node: withPod(injectedPod({ ...shop, name: "unseen" })),
    pod: "shop/unseen",
    finds: [],
    notes: ["not-seen"],
    says: /whether it was captured cannot be seen here/,
    fix: "none",
  },
  "it is on another node": {
    node: withPod(injectedPod({ ...shop, name: "far", nodeName: "node-y" })),
    pod: "shop/far",
    finds: [],
    notes: ["pod-elsewhere"],
    says: /is meshed; whether it is captured can be told on its node "node-y"/,
    fix: "shows",
  },
  "its sandbox cannot be made": {
    node: withPod(injectedPod({ ...shop, name: "stuck" }), event),
    pod: "shop/stuck",
    finds: ["pod-no-sandbox"],
    says: /does not start: Failed to create pod sandbox: the \[2J API server is away$/,
    fix: "shows",
  },
  "its validation has failed": {
    node: withPod({
      ...injectedPod({ ...shop, name: "invalid" }),
      status: {
        phase: "Pending",
        initContainerStatuses: [{
          name: "kuma-validation",
          state: { waiting: { reason: "CrashLoopBackOff" } },
          lastState: { terminated: { exitCode: 1 } },
        }],
      },
    }),
    pod: "shop/invalid",
    finds: ["pod-not-validated"],
    says: /is meshed but has no rules: kuma-validation finds none/,
  },
  "it is in the host's network": {
    node: withPod({ ...onHost, spec: { ...onHost.spec, hostNetwork: true } }),
    pod: "shop/host",
    finds: [],
    notes: ["pod-host-network"],
    says: /is not meshed: it uses the host's network/,
    fix: "none",
  },
  "the injector was away": {
    node: withPod(plainPod({ ...shop, name: "forgotten" })),
    pod: "shop/forgotten",
    finds: ["pod-not-injected"],
    says: /is not meshed: no container .* the injector was away$/,
  },
  "its namespace is not in the mesh": {
    node: {
      objects: [
        namespace("plain", "disabled"),
        plainPod({ namespace: "plain", name: "outside", nodeName }),
      ],
    },
    pod: "plain/outside",
    finds: [],
    notes: ["pod-unlabelled"],
    says: /is not meshed: no container .*sidecar-injection of namespace "plain" is/,
  },
  "its namespace is excluded": {
    node: { objects: [plainPod({ namespace: "kube-system", name: "dns", nodeName })] },
    pod: "kube-system/dns",
    finds: [],
    notes: ["pod-excluded"],
    says: /is not meshed: namespace "kube-system" is in "kubernetes.exclude_n/,
    fix: "none",
  },
  "it was injected for kuma-init": {
    node: withPod(initContainerPod({ ...shop, name: "init" })),
    pod: "shop/init",
    finds: ["pod-own-init"],
    says: /is meshed without the plugin: its init container kuma-init/,
  },
  "its annotations cannot be followed": {
    node: withPod(injectedPod({
      ...shop,
      name: "refused",
      annotations: { "kuma.io/transparent-proxying-inbound-port": "seventy" },
    })),
    pod: "shop/refused",
    finds: ["pod-refused"],
    says: /cannot start: .*seventy/,
    fix: "shows",
  },
  "there is none": {
    pod: "shop/nobody",
    finds: ["pod-not-found"],
    says: /^shop\/nobody does not exist$/,
    fix: "shows",
  },
  "the API server does not tell of it": {
    node: withPod(injectedPod({ ...shop, name: "good" })),
    pod: "shop/good",
    breaks: (bed) => bed.api.close(),
    finds: ["pod-unseen"],
    says: /^shop\/good cannot be judged: the API server does not tell of it/,
    fix: "shows",
  },
};
