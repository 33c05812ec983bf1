import assert from "node:assert/strict";
import { parsePod } from "../src/kubernetes/pod.ts";
import { decideBeforeLookup, decideForPod } from "../src/pod/decide.ts";
import { ConfigError } from "../src/pod/redirect_config.ts";
import {
  builtinGatewayPod,
  gatewayPod,
  initContainerPod,
  injectedPod,
  nativeSidecarPod,
  plainPod,
  type PodObject,
} from "./support/pods.ts";

const options = { allowPodSettings: new Set<string>(), resolvers: [] };

function decide(pod: PodObject) {
  return decideForPod(parsePod(JSON.parse(JSON.stringify(pod))), options);
}

function skipCode(pod: PodObject): string {
  const decision = decide(pod);
  assert.equal(decision.kind, "skip");
  return decision.kind === "skip" ? decision.code : "";
}

function configOf(pod: PodObject) {
  const decision = decide(pod);
  if (decision.kind !== "redirect") assert.fail(decision.reason);
  return decision.config;
}

Deno.test("A: what is no Kubernetes pod is skipped", () => {
  const rows: [Parameters<typeof decideBeforeLookup>[0], string][] = [
    [{}, "K8S_POD_NAMESPACE"],
    [{ podName: "a" }, "K8S_POD_NAMESPACE"],
    [{ podNamespace: "", podName: "a" }, "K8S_POD_NAMESPACE"],
    [{ podNamespace: "demo" }, "K8S_POD_NAME"],
    [{ podNamespace: "demo", podName: "" }, "K8S_POD_NAME"],
  ];
  for (const [args, missing] of rows) {
    assert.deepEqual(decideBeforeLookup(args, []), {
      kind: "skip",
      code: "not-a-pod",
      reason: `CNI_ARGS has no ${missing}: this is not a Kubernetes pod`,
    });
  }
});

Deno.test("B: pods of excluded namespaces are skipped, by name or its beginning", () => {
  const decided = decideBeforeLookup({ podNamespace: "kube-system", podName: "a" }, [
    "kuma-system",
    "kube-system",
  ]);
  assert.equal(decided?.code, "excluded-namespace");
  assert.match(decided?.reason ?? "", /"kube-system"/);
  for (const excluded of [[], ["kube"], ["KUBE-SYSTEM"], ["kube-system-2"], ["*"]]) {
    const args = { podNamespace: "kube-system", podName: "a" };
    assert.equal(decideBeforeLookup(args, excluded), undefined);
  }
});

Deno.test("B: an entry that ends in * means all namespaces that begin so", () => {
  const isSkipped = (podNamespace: string, excluded: string[], included: string[] = []) =>
    decideBeforeLookup({ podNamespace, podName: "a" }, excluded, included) !== undefined;
  assert.equal(isSkipped("openshift-dns", ["openshift-*"]), true);
  assert.equal(isSkipped("openshift-", ["openshift-*"]), true);
  assert.equal(isSkipped("openshift", ["openshift-*"]), false);
  assert.equal(isSkipped("my-openshift-dns", ["openshift-*"]), false);
  assert.equal(isSkipped("a-b", ["a*b", "*"]), false);
  assert.equal(isSkipped("shop-1", [], ["shop-*"]), false);
});

Deno.test("B: with a list of included namespaces, pods of all others are skipped", () => {
  const decided = (podNamespace: string, excluded: string[] = []) =>
    decideBeforeLookup({ podNamespace, podName: "a" }, excluded, ["shop", "bank"]);
  assert.equal(decided("shop"), undefined);
  assert.equal(decided("bank"), undefined);
  assert.equal(decided("demo")?.code, "excluded-namespace");
  assert.match(decided("demo")?.reason ?? "", /"demo" is not in "kubernetes.include_namespaces"/);
  assert.match(decided("shop", ["shop"])?.reason ?? "", /exclude_namespaces/);
});

Deno.test("A comes before B", () => {
  assert.equal(decideBeforeLookup({ podNamespace: "demo" }, ["demo"])?.code, "not-a-pod");
});

Deno.test("C: a pod whose init container redirects is skipped", () => {
  assert.equal(skipCode(initContainerPod()), "init-container");
  assert.equal(skipCode(initContainerPod({ nativeSidecar: true })), "init-container");
});

Deno.test("D: a pod without sidecar is skipped", () => {
  assert.equal(skipCode(plainPod()), "no-sidecar");
  assert.equal(skipCode(builtinGatewayPod()), "no-sidecar");
  const claims = plainPod({ annotations: { "kuma.io/sidecar-injected": "true" } });
  assert.equal(skipCode(claims), "no-sidecar");
});

Deno.test("E: a pod that the injector has not marked is skipped", () => {
  const unmarked = injectedPod();
  delete unmarked.metadata.annotations!["kuma.io/sidecar-injected"];
  assert.equal(skipCode(unmarked), "not-injected");
  for (const value of ["", "True", "yes", "enabled", "true ", "false"]) {
    const pod = injectedPod({ annotations: { "kuma.io/sidecar-injected": value } });
    assert.equal(skipCode(pod), "not-injected", JSON.stringify(value));
  }
});

Deno.test("a reason quotes no more than a line of what a pod's author wrote", () => {
  const pod = injectedPod({
    annotations: { "kuma.io/sidecar-injected": "\u0001".repeat(200_000) },
  });
  const decision = decide(pod);
  assert.ok(decision.kind === "skip" && decision.reason.length < 1000);
  const turned = decide(
    injectedPod({ annotations: { "kuma.io/sidecar-injected": "a\u009b31m\u202eb\n\u2028" } }),
  );
  assert.ok(turned.kind === "skip");
  assert.match(turned.reason, /is "a\\u\{9b\}31m\\u\{202e\}b\\n\\u\{2028\}", not/);
});

Deno.test("C comes before D, D before E", () => {
  const both = plainPod();
  both.spec.initContainers = [{ name: "kuma-init", image: "x" }];
  assert.equal(skipCode(both), "init-container");
  assert.equal(
    skipCode(plainPod({ annotations: { "kuma.io/sidecar-injected": "no" } })),
    "no-sidecar",
  );
});

Deno.test("reasons are one line, whatever the pod says", () => {
  const pod = injectedPod({ annotations: { "kuma.io/sidecar-injected": "a\nb" } });
  const decision = decide(pod);
  assert(decision.kind === "skip");
  assert.equal(
    decision.reason,
    'Annotation "kuma.io/sidecar-injected" is "a\\nb", not "true"',
  );
});

Deno.test("an injected pod is redirected, in every form that the injector writes", () => {
  for (const form of ["2.9", "3"] as const) {
    for (const pod of [injectedPod({ form }), nativeSidecarPod({ form })]) {
      const config = configOf(pod);
      assert.equal(config.rulesVersion, form);
      assert.equal(config.ipFamilyMode, "dualstack");
      assert.equal(config.sidecarUid, 5678);
      assert.deepEqual([config.inbound.enabled, config.inbound.port], [true, 15006]);
      assert.deepEqual([config.outbound.enabled, config.outbound.port], [true, 15001]);
      assert.deepEqual(
        [config.dns.enabled, config.dns.port, config.dns.captureAll],
        [true, 15053, true],
      );
      assert(config.inbound.excludePorts.includes(9001));
    }
    assert.equal(configOf(gatewayPod({ form })).inbound.enabled, false);
    assert.equal(configOf(injectedPod({ form, ipFamilyMode: "ipv4" })).ipFamilyMode, "ipv4");
  }
});

Deno.test("a meshed pod that asks for nonsense is an error, not a pass", () => {
  const pods = [
    injectedPod({ annotations: { "kuma.io/transparent-proxying-inbound-port": "http" } }),
    injectedPod({ form: "3", annotations: { "traffic.kuma.io/transparent-proxy-config": "a: [" } }),
  ];
  for (const pod of pods) assert.throws(() => decide(pod), ConfigError);
});
