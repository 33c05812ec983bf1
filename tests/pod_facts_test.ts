/** What is read of a pod besides its annotations, from the API's JSON to the decision. */
import assert from "node:assert/strict";
import { parseResponse } from "../src/agent/messages.ts";
import { parsePod, type Pod } from "../src/kubernetes/pod.ts";
import { decideForPod } from "../src/pod/decide.ts";
import { loggedPod } from "../src/pod/logged_pod.ts";
import { podSettings } from "../src/pod/pod_settings.ts";
import { CONFIG_ANNOTATION, type RedirectConfigOptions } from "../src/pod/redirect_config.ts";
import { injectedPod, type InjectedPodOptions, plainPod, type PodObject } from "./support/pods.ts";

const nobody: RedirectConfigOptions = { allowPodSettings: new Set(), resolvers: [] };

/** Reads a pod as the plugin gets it: from the API server, and once more through the node agent. */
function read(pod: PodObject): Pod {
  const parsed = parsePod(JSON.parse(JSON.stringify(pod)));
  const response = parseResponse(JSON.stringify({ type: "pod", pod: parsed }));
  assert.ok(response.type === "pod");
  // One was made without a prototype; what stands in them must be the same.
  assert.deepEqual(JSON.parse(JSON.stringify(response.pod)), JSON.parse(JSON.stringify(parsed)));
  return response.pod;
}

function decide(pod: PodObject, options: Partial<RedirectConfigOptions> = {}) {
  const decision = decideForPod(read(pod), { ...nobody, ...options });
  if (decision.kind !== "redirect") assert.fail(decision.reason);
  return decision;
}

function withVariables(names: readonly string[], options: InjectedPodOptions): PodObject {
  const pod = injectedPod(options);
  const containers = [...pod.spec.containers, ...pod.spec.initContainers ?? []];
  const sidecar = containers.find(({ name }) => name === "kuma-sidecar")!;
  sidecar.env = [
    ...sidecar.env as unknown[],
    ...names.map((name) => ({ name, value: "15053" })),
    { name: "KUMA_DATAPLANE_RUNTIME_TOKEN", value: "s3cr3t" },
  ];
  return pod;
}

const embedded = "KUMA_DNS_PROXY_PORT";
const coredns = "KUMA_DNS_CORE_DNS_PORT";

Deno.test("the form of the DNS rules is what the sidecar's DNS server can answer", () => {
  const both = { annotations: { "kuma.io/transparent-proxying": "enabled" } };
  const rows: [readonly string[], InjectedPodOptions, "2.9" | "3", RegExp][] = [
    [[embedded], {}, "3", /^KUMA_DNS_PROXY_PORT of container kuma-sidecar$/],
    [[coredns], {}, "2.9", /^KUMA_DNS_CORE_DNS_PORT of container kuma-sidecar$/],
    [[coredns, embedded], {}, "3", /KUMA_DNS_PROXY_PORT/],
    [[], {}, "2.9", /^the kind of annotation$/],
    [[embedded], { form: "3" }, "3", /KUMA_DNS_PROXY_PORT/],
    [[coredns], { form: "3" }, "2.9", /KUMA_DNS_CORE_DNS_PORT/],
    [[], { form: "3" }, "3", /^the kind of annotation$/],
    [[embedded], { form: "3", ...both }, "3", /KUMA_DNS_PROXY_PORT/],
    [[], { form: "3", ...both }, "2.9", /^the kind of annotation$/],
  ];
  for (const [names, options, form, why] of rows) {
    for (const nativeSidecar of [false, true]) {
      const pod = withVariables(names, { ...options, nativeSidecar });
      const { config, origins } = decide(pod);
      const shown = JSON.stringify([names, options, nativeSidecar]);
      assert.equal(config.rulesVersion, form, shown);
      assert.match(origins.get("rulesVersion")!, why, shown);
      for (const rulesVersion of ["2.9", "3"] as const) {
        const chosen = decide(pod, { rulesVersion });
        assert.equal(chosen.config.rulesVersion, rulesVersion, shown);
        assert.match(chosen.origins.get("rulesVersion")!, /redirect_rules_version/);
      }
    }
  }
});

Deno.test("only the sidecar's environment counts, and nothing of it is kept", () => {
  const pod = withVariables([], {});
  pod.spec.containers.at(-1)!.env = [{ name: embedded, value: "15053" }];
  assert.equal(read(pod).sidecarDns, undefined);
  const kept = JSON.stringify(read(withVariables([embedded], {})));
  assert.match(kept, /"sidecarDns":"embedded"/);
  assert.doesNotMatch(kept, /s3cr3t|RUNTIME_TOKEN|CONTROL_PLANE/);
});

const byResolvers = "redirect: {dns: {enabled: true}}";

/** The addresses whose DNS is redirected, and the warnings. */
function resolversOf(
  spec: Record<string, unknown>,
  options: Partial<RedirectConfigOptions> = {},
): [string[], readonly string[], string | undefined] {
  const pod = injectedPod({ form: "3", annotations: { [CONFIG_ANNOTATION]: byResolvers } });
  Object.assign(pod.spec, spec);
  const { config, warnings, origins } = decide(pod, options);
  const addresses = config.dns.servers.map(({ address }) => address);
  return [addresses, warnings, origins.get("redirect.dns.servers")];
}

Deno.test("without the runtime's word a pod's resolvers are what kubelet writes", () => {
  const clusterDns = ["10.96.0.10", "fd00::a"];
  const dnsConfig = { nameservers: ["192.0.2.1", "192.0.2.2"] };
  const rows: [Record<string, unknown>, Partial<RedirectConfigOptions>, string[]][] = [
    [{}, { clusterDns }, ["10.96.0.10", "fd00::a"]],
    [{ dnsPolicy: undefined }, { clusterDns }, ["10.96.0.10", "fd00::a"]],
    [{ dnsPolicy: "ClusterFirstWithHostNet" }, { clusterDns }, ["10.96.0.10", "fd00::a"]],
    // Kubelet writes three at most.
    [{ dnsConfig }, { clusterDns }, ["10.96.0.10", "fd00::a", "192.0.2.1"]],
    [{ dnsPolicy: "None", dnsConfig }, { clusterDns }, ["192.0.2.1", "192.0.2.2"]],
    [{ dnsPolicy: "None", dnsConfig }, {}, ["192.0.2.1", "192.0.2.2"]],
    [{ dnsPolicy: "None", dnsConfig }, { resolvers: ["10.0.0.1"], clusterDns }, ["10.0.0.1"]],
    [{}, { resolvers: ["10.0.0.1"], clusterDns }, ["10.0.0.1"]],
  ];
  for (const [spec, options, expected] of rows) {
    const [addresses, warnings] = resolversOf(spec, options);
    assert.deepEqual([addresses, warnings], [expected, []], JSON.stringify([spec, options]));
  }
  assert.equal(
    resolversOf({ dnsConfig }, { clusterDns })[2],
    "network configuration kubernetes.cluster_dns + the pod's dnsConfig",
  );
});

Deno.test("what is not known of a pod's resolvers is said as it is, with a way out", () => {
  const dnsConfig = { nameservers: ["192.0.2.1"] };
  const cluster =
    /^DNS to the cluster's DNS servers is not redirected: .*CRI-O and Multus never do.*"kubernetes\.cluster_dns" in CNI_NETWORK_CONFIG/;
  const node = /^DNS to the node's resolvers.*dnsPolicy "Default".*set captureAll$/;
  const rows: [Record<string, unknown>, string[], RegExp][] = [
    [{}, [], cluster],
    [{ dnsConfig }, ["192.0.2.1"], cluster],
    [{ dnsPolicy: "Default" }, [], node],
    [{ dnsPolicy: "Default", dnsConfig }, ["192.0.2.1"], node],
    [{ dnsPolicy: "None" }, [], /^DNS is not redirected: .*the pod's dnsConfig names no server/],
    [
      { dnsPolicy: "None", dnsConfig: { nameservers: ["dns.example"] } },
      [],
      /^DNS to "dns\.example" is not redirected: not an IP address$/,
    ],
  ];
  for (const [spec, expected, warning] of rows) {
    const [addresses, warnings] = resolversOf(spec);
    assert.deepEqual(addresses, expected);
    assert.match(warnings[0]!, warning);
  }
  // With captureAll nobody needs to know.
  const all = injectedPod();
  all.spec.dnsPolicy = "Default";
  assert.deepEqual(decide(all).warnings, []);
});

Deno.test("a meshed pod that rules cannot reach gets one warning, by its runtime class", () => {
  const rows: [string, boolean][] = [
    ["kata", true],
    ["kata-qemu", true],
    ["gvisor", true],
    ["my-gVisor", true],
    ["runsc", true],
    ["runc", false],
    ["nvidia", false],
    ["", false],
  ];
  for (const [runtimeClassName, expected] of rows) {
    const pod = injectedPod();
    pod.spec.runtimeClassName = runtimeClassName;
    const { warnings } = decide(pod);
    assert.equal(warnings.length, expected ? 1 : 0, runtimeClassName);
    if (expected) assert.ok(warnings[0]!.includes(`"${runtimeClassName}"`), warnings[0]);
    const plain = plainPod();
    plain.spec.runtimeClassName = runtimeClassName;
    assert.equal(decideForPod(read(plain), nobody).kind, "skip");
  }
});

Deno.test("odd fields are not taken for a pod's", () => {
  const wrong: [string, (pod: PodObject) => void][] = [
    ["env", (pod) => pod.spec.containers[0]!.env = "x"],
    ["spec.dnsPolicy", (pod) => pod.spec.dnsPolicy = 5],
    ["spec.dnsConfig", (pod) => pod.spec.dnsConfig = []],
    ["spec.dnsConfig.nameservers", (pod) => pod.spec.dnsConfig = { nameservers: [5] }],
    ["spec.runtimeClassName", (pod) => pod.spec.runtimeClassName = {}],
  ];
  for (const [place, change] of wrong) {
    const pod = injectedPod();
    change(pod);
    assert.throws(
      () => parsePod(JSON.parse(JSON.stringify(pod))),
      (error) => error instanceof TypeError && error.message.includes(`"${place}"`),
      place,
    );
  }
  const pod = injectedPod();
  Object.assign(pod.spec, { dnsConfig: null, dnsPolicy: null, runtimeClassName: null });
  pod.spec.containers[0]!.env = null;
  parsePod(JSON.parse(JSON.stringify(pod)));
  for (const word of [{ sidecarDns: "unbound" }, { dns: { policy: "x" } }, { dns: 5 }]) {
    const line = JSON.stringify({ type: "pod", pod: { ...parsePod(injectedPod()), ...word } });
    assert.throws(() => parseResponse(line), TypeError);
  }
});

Deno.test("the debug log shows what decided about a pod, within bounds, and nothing else", () => {
  const pod = injectedPod({
    annotations: {
      "kubectl.kubernetes.io/last-applied-configuration": "s3cr3t",
      "vault.hashicorp.com/agent-inject-template": "s3cr3t",
      "team.kuma.io/notes": "s3cr3t",
      [CONFIG_ANNOTATION]: "x".repeat(200_000),
    },
  });
  pod.spec.containers.push(
    ...Array.from({ length: 5000 }, (_, at) => ({ name: `c${at}`, image: "x" })),
  );
  const shown = JSON.stringify(loggedPod(parsePod(pod)));
  assert.ok(!shown.includes("s3cr3t"), shown.slice(0, 500));
  assert.ok(shown.length < 8000, `${shown.length} characters`);
  assert.match(shown, /"kuma\.io\/sidecar-injected":"true"/);
  // Every annotation that a setting is read from is shown.
  const names = podSettings().flatMap(({ annotation }) => annotation ?? []);
  const annotations = Object.fromEntries(names.map((name) => [name, "1"]));
  const all = loggedPod({ ...parsePod(plainPod()), annotations });
  assert.deepEqual(Object.keys(all.annotations as object).sort(), names.sort());
});
