/** Random values of an installation, right ones. */
import fc from "fast-check";
import type { ValueName } from "../../installer/manifests/declarations.ts";
import type { Tree } from "../../installer/manifests/tree.ts";
import { resolveValues, setAt } from "../../installer/manifests/values.ts";

const word = fc.stringMatching(/^[a-z]([a-z0-9-]{0,12}[a-z0-9])?$/);
/** Text with what templates, YAML and JSON could stumble over. */
export const oddTexts: readonly string[] = [
  "",
  "yes",
  "true",
  "null",
  "~",
  "0x10",
  "1_000",
  "1e3",
  "01",
  "12:30",
  "2001-01-01",
  "a: b",
  "- a",
  "{{ .Values }}",
  "<&>",
  "\u2028",
  '"',
  "'",
  "\\",
  "#",
  "a # b",
  "@x",
  "%",
  "line\nline",
  " x ",
  "ä€",
  "=",
  "on",
  "!",
];
const text = fc.oneof(word, fc.constantFrom(...oddTexts));
const key = fc.oneof(
  word,
  fc.constantFrom("example.com/team", "checksum/config", "a.b", "yes", "1"),
);
const texts = fc.dictionary(key, text, { maxKeys: 4, noNullPrototype: true });
const labels = fc.dictionary(fc.oneof(word, fc.constant("app")), fc.oneof(word, fc.constant("")), {
  maxKeys: 3,
  noNullPrototype: true,
});
const names = fc.array(word, { maxLength: 4 });
const path = fc.array(
  fc.oneof(word, fc.constantFrom(".x", "..x", "a&b", "<x>", "a b", "x.d", "'", '"', "$x")),
  { minLength: 1, maxLength: 4 },
).map((parts) => `/${parts.join("/")}`);
const flag = fc.boolean();

const toleration = fc.record({
  key: word,
  operator: fc.constantFrom("Exists", "Equal"),
  value: text,
  effect: fc.constantFrom("NoSchedule", "NoExecute", "PreferNoSchedule"),
  tolerationSeconds: fc.nat(3600),
}, { requiredKeys: [], noNullPrototype: true });

const security = fc.record({
  privileged: flag,
  allowPrivilegeEscalation: fc.option(flag),
  readOnlyRootFilesystem: flag,
  runAsUser: fc.nat(65_535),
  seLinuxOptions: fc.record({ type: fc.constantFrom("spc_t", "container_t") }, {
    noNullPrototype: true,
  }),
  capabilities: fc.record({
    add: fc.subarray(["DAC_OVERRIDE", "CHOWN", "FOWNER"]),
    drop: fc.option(fc.constant(["ALL"])),
  }, { requiredKeys: [], noNullPrototype: true }),
  seccompProfile: fc.option(fc.constant({ type: "Unconfined" })),
}, { requiredKeys: [], noNullPrototype: true });

const amounts = fc.option(
  fc.dictionary(
    fc.constantFrom("cpu", "memory", "ephemeral-storage"),
    fc.oneof(fc.constantFrom("100m", "1", "64Mi", "1.5", "2Gi"), fc.integer({ min: 1, max: 8 })),
    { noNullPrototype: true },
  ),
);

/** What each value can be; absent ones keep their default. */
const choices: Partial<Record<ValueName, fc.Arbitrary<unknown>>> = {
  "cni.enabled": fc.oneof({ weight: 20, arbitrary: fc.constant(true) }, fc.constant(false)),
  "cni.chained": flag,
  "cni.netDir": path,
  "cni.binDir": path,
  "cni.confName": fc.constantFrom("", "05-cilium.conflist", "10-x.conf", "a b.json", '".conf'),
  "cni.confNameIsLoaded": flag,
  "cni.runtime": fc.constantFrom("auto", "containerd", "cri-o", "multus"),
  "cni.hostFolders": fc.array(path, { maxLength: 3 }),
  "cni.logLevel": fc.constantFrom("off", "info", "debug"),
  "cni.engine": fc.constantFrom("auto", "nftables", "iptables", "ebpf"),
  "cni.ebpf.strict": flag,
  "cni.ebpf.allowPods": flag,
  "cni.excludeNamespaces": fc.array(fc.oneof(word, fc.constantFrom("openshift-*", "kube-system"))),
  "cni.clusterDns": fc.constantFrom([], ["10.96.0.10"], ["fd00::a", "10.96.0.10"]),
  "cni.namespace": fc.oneof(word, fc.constant("kube-system")),
  "cni.nodeSelector": fc.oneof(texts, fc.constant({ "kubernetes.io/os": null }), fc.constant(null)),
  "cni.tolerations": fc.array(toleration, { maxLength: 3 }),
  "cni.podAnnotations": texts,
  "cni.affinity": fc.constantFrom({}, {
    nodeAffinity: {
      requiredDuringSchedulingIgnoredDuringExecution: {
        nodeSelectorTerms: [{ matchExpressions: [{ key: "x", operator: "Exists" }] }],
      },
    },
  }),
  "cni.priorityClassName": fc.constantFrom("", "system-node-critical", "1", "true"),
  "cni.maxUnavailable": fc.oneof(
    fc.integer({ min: 1, max: 100_000 }),
    fc.constantFrom("10%", "100%"),
  ),
  "cni.image.registry": fc.constantFrom("", "registry.example:5000/mesh"),
  "cni.image.repository": fc.constantFrom("kuma-cni", "other/kuma-cni"),
  "cni.image.tag": fc.constantFrom("", "1.0", "12"),
  "cni.image.imagePullPolicy": fc.constantFrom("IfNotPresent", "Always", "Never"),
  "cni.delayStartupSeconds": fc.oneof(fc.constant(0), fc.nat(3600)),
  "cni.healthPort": fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 65_535 })),
  "cni.resources": fc.record({ limits: amounts, requests: amounts }, {
    requiredKeys: [],
    noNullPrototype: true,
  }),
  "cni.podSecurityContext": fc.constantFrom({}, { fsGroup: 0 }, null),
  "cni.containerSecurityContext": security,
  "cni.rbac.watchPods": flag,
  "cni.rbac.getDaemonSets": flag,
  "cni.repair.enterPods": flag,
  "cni.repair.sweepSeconds": fc.oneof(fc.constantFrom(0, 600), fc.nat(86_400)),
  "cni.repair.drift": fc.constantFrom("report", "repair"),
  "cni.repair.earlyPods": fc.constantFrom("off", "waiting", "always"),
  "cni.uninstall.onStop": flag,
  "cni.uninstall.whenRefused": flag,
  "cni.monitoring.podMonitor": flag,
  "cni.monitoring.serviceMonitor": flag,
  "cni.monitoring.prometheusRule": flag,
  "cni.monitoring.grafanaDashboard": flag,
  "cni.monitoring.interval": fc.constantFrom("15s", "1m"),
  "cni.monitoring.labels": labels,
  "cni.monitoring.dashboardLabels": labels,
  "cni.controller.enabled": flag,
  "cni.controller.replicas": fc.integer({ min: 1, max: 5 }),
  "cni.controller.healthPort": fc.integer({ min: 1, max: 65_535 }),
  "cni.controller.resources": fc.record({ limits: amounts, requests: amounts }, {
    requiredKeys: [],
    noNullPrototype: true,
  }),
  "cni.controller.nodeSelector": fc.oneof(texts, fc.constant({ "kubernetes.io/os": null })),
  "cni.controller.tolerations": fc.array(toleration, { maxLength: 3 }),
  "cni.controller.priorityClassName": fc.constantFrom("", "system-cluster-critical", "1"),
  "cni.taintController.enabled": flag,
  "cni.attachmentController.enabled": flag,
  "cni.taintController.agentMayRemove": flag,
  "cni.taintController.key": fc.constantFrom("NodeReadiness", "kuma.io/x", "1", "true"),
  "cni.taintController.effect": fc.constantFrom("NoSchedule", "NoExecute", "PreferNoSchedule"),
  "cni.taintController.graceSeconds": fc.oneof(fc.constant(0), fc.nat(86_400)),
  "global.image.registry": fc.constantFrom("", "registry.example"),
  "global.image.tag": fc.constantFrom("", "2.0"),
  "global.imagePullSecrets": names,
  "nameOverride": fc.constantFrom("", "mesh"),
  "instance": word,
  "skipRBAC": flag,
  "namespaceAllowList": fc.oneof(fc.constant([]), names),
  "experimental.ebpf.enabled": flag,
  "experimental.ebpf.bpffsPath": fc.oneof(path, fc.constant("/sys/fs/bpf")),
  "experimental.ebpf.cgroupPath": fc.oneof(path, fc.constant("/sys/fs/cgroup")),
  "experimental.ebpf.tcAttachIface": text,
  "controlPlane": fc.constant({ envVars: { X: "1" } }),
};

/** Random values that all rules allow. */
export function arbitraryValues(): fc.Arbitrary<Tree> {
  return fc.record(choices, { requiredKeys: [], noNullPrototype: true })
    .map((chosen) => {
      const tree: Tree = {};
      for (const [name, value] of Object.entries(chosen)) setAt(tree, name, value);
      return tree;
    })
    .filter((tree) => {
      try {
        resolveValues(tree);
        return true;
      } catch {
        return false;
      }
    });
}
