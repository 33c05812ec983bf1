/** The objects of an installation: the reference's where they must be, and right for Kubernetes. */
import { deepEqual, equal, ok } from "node:assert/strict";
// @ts-types="../src/types/std_yaml_parse.d.ts"
import { parse } from "@std/yaml/parse";
import { imageOf, manifestObjects } from "../installer/manifests/objects.ts";
import { platforms, treeOfRow } from "../installer/manifests/platforms.ts";
import { yamlText } from "../installer/manifests/render.ts";
import { stepsFor } from "../installer/manifests/steps.ts";
import { memberAt, resolveValues, setAt } from "../installer/manifests/values.ts";
import { type Tree } from "../installer/manifests/tree.ts";
import { declarations } from "../installer/settings/declarations.ts";
import {
  controllerDeclarations,
  sharedDeclarations,
} from "../installer/settings/controller_declarations.ts";
import { parseControllerSettings, parseSettings } from "../installer/settings/settings.ts";
import { readPluginSettings } from "../src/cni/plugin_settings.ts";
import {
  generatedFiles,
  platformRows,
  valuesDocument,
  withValues,
} from "../scripts/values_docs.ts";
import { isRecord } from "../src/json/record.ts";
import { kubernetesSchema } from "./support/kubernetes_schema.ts";
import { accountObjects, installerObjects, rights } from "./support/reference_manifest.ts";

const root = new URL("..", import.meta.url).pathname;

function valuesOf(given: Readonly<Record<string, unknown>>): Tree {
  const tree: Tree = {};
  for (const [name, value] of Object.entries(given)) setAt(tree, name, value);
  return tree;
}

function objectsOf(given: Readonly<Record<string, unknown>> = {}): Tree[] {
  return JSON.parse(JSON.stringify(manifestObjects(resolveValues(valuesOf(given)))));
}

function find(objects: readonly unknown[], kind: string): Tree {
  const found = objects.find((object) => isRecord(object) && object.kind === kind);
  ok(isRecord(found), `there is no ${kind}`);
  return found;
}

/** Members at these paths. */
function at(object: Tree, paths: readonly string[]): unknown {
  return paths.map((path) => memberAt(object, path));
}

const everything = {
  "cni.healthPort": 9910,
  "cni.controller.enabled": true,
  "cni.taintController.agentMayRemove": true,
  "cni.rbac.watchPods": true,
  "cni.rbac.getDaemonSets": true,
  "cni.monitoring.podMonitor": true,
  "cni.monitoring.serviceMonitor": true,
  "cni.monitoring.prometheusRule": true,
  "cni.monitoring.grafanaDashboard": true,
  "global.imagePullSecrets": ["pull"],
} as const;

Deno.test("names, labels and selectors are the reference's", () => {
  const reference = [
    ...accountObjects(rights.reference),
    ...installerObjects({ netDir: "/x", binDir: "/y", confName: "z.conf" }),
  ] as Tree[];
  const objects = objectsOf();
  const helm = ["helm.sh/chart", "app.kubernetes.io/version", "app.kubernetes.io/managed-by"];
  for (const expected of reference) {
    const actual = find(objects, String(expected.kind));
    deepEqual(at(actual, ["metadata.name", "metadata.namespace", "apiVersion"]), [
      memberAt(expected, "metadata.name"),
      memberAt(expected, "metadata.namespace"),
      expected.apiVersion,
    ]);
    const labels = { ...memberAt(expected, "metadata.labels") as Tree };
    for (const label of helm) delete labels[label];
    deepEqual(memberAt(actual, "metadata.labels"), labels);
  }
  const paths = [
    "spec.selector",
    "spec.updateStrategy",
    "spec.template.metadata.labels",
    "spec.template.spec.priorityClassName",
    "spec.template.spec.nodeSelector",
    "spec.template.spec.tolerations",
    "spec.template.spec.serviceAccountName",
    "spec.template.spec.terminationGracePeriodSeconds",
  ];
  deepEqual(at(find(objects, "DaemonSet"), paths), at(find(reference, "DaemonSet"), paths));
});

Deno.test("the container is the reference's, and needs no shell unless it is to sleep", () => {
  const reference = find(
    installerObjects({
      netDir: "/etc/cni/net.d",
      binDir: "/opt/cni/bin",
      confName: "10-x.conflist",
      delayStartupSeconds: 40,
    }),
    "DaemonSet",
  );
  const given = {
    "cni.chained": true,
    "cni.netDir": "/etc/cni/net.d",
    "cni.binDir": "/opt/cni/bin",
    "cni.confName": "10-x.conflist",
    "cni.delayStartupSeconds": 40,
  };
  const containerOf = (daemonSet: Tree) =>
    (memberAt(daemonSet, "spec.template.spec.containers") as Tree[])[0]!;
  const expected = containerOf(reference);
  const actual = containerOf(find(objectsOf(given), "DaemonSet"));
  for (const key of ["name", "command", "args", "readinessProbe", "resources", "volumeMounts"]) {
    const sorted = (value: unknown) =>
      Array.isArray(value) ? value.map((item) => JSON.stringify(item, keysOf(item))).sort() : value;
    deepEqual(sorted(actual[key]), sorted(expected[key]), key);
  }
  const environment = actual.env as Tree[];
  deepEqual(environment.slice(0, 5), expected.env);
  const known = new Set<unknown>(Object.values(declarations).map(({ variable }) => variable));
  deepEqual(environment.filter(({ name }) => !known.has(String(name))), []);
  deepEqual(
    containerOf(find(objectsOf({ ...given, "cni.delayStartupSeconds": 0 }), "DaemonSet")).command,
    ["/install-cni"],
  );
});

function keysOf(value: unknown): string[] {
  return isRecord(value) ? Object.keys(value).sort() : [];
}

Deno.test("the least rights are the default", () => {
  const objects = objectsOf();
  deepEqual(objects.map(({ kind }) => kind), [
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "DaemonSet",
  ]);
  deepEqual(find(objects, "ClusterRole").rules, [
    { apiGroups: [""], resources: ["pods"], verbs: ["get"] },
  ]);
  const pod = memberAt(find(objects, "DaemonSet"), "spec.template.spec") as Tree;
  const [container] = pod.containers as Tree[];
  deepEqual(container!.securityContext, {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
    readOnlyRootFilesystem: true,
    runAsGroup: 0,
    runAsNonRoot: false,
    runAsUser: 0,
    seccompProfile: { type: "RuntimeDefault" },
  });
  deepEqual(at(pod, ["hostNetwork", "hostPID", "hostIPC"]), [undefined, undefined, undefined]);
  equal(find(objects, "ServiceAccount").automountServiceAccountToken, false);
});

Deno.test("the controller runs without privilege, and understands what its objects tell it", () => {
  const objects = objectsOf({
    "cni.controller.enabled": true,
    "cni.taintController.enabled": false,
    "cni.taintController.key": "kuma.io/x",
    "cni.taintController.graceSeconds": 5,
    nameOverride: "mesh",
  });
  const deployment = find(objects, "Deployment");
  const pod = memberAt(deployment, "spec.template.spec") as Tree;
  const [container] = pod.containers as Tree[];
  const variables = new Map((container!.env as Tree[]).map(({ name, value }) => [name, value]));
  const settings = parseControllerSettings(({ variable }) =>
    variables.get(variable) as string | undefined
  );
  deepEqual(settings, {
    taintEnabled: false,
    cniApp: "mesh-cni",
    cniNamespace: "kube-system",
    taintKey: "kuma.io/x",
    taintEffect: "NoSchedule",
    taintGrace: 5,
    attachmentsEnabled: true,
    leaseName: "mesh-cni-controller",
  });
  const known = new Set<unknown>(
    [...Object.values(controllerDeclarations), ...sharedDeclarations].map((one) => one.variable),
  );
  deepEqual([...variables.keys()].filter((name) => !known.has(name)), []);
  deepEqual(at(pod, ["securityContext.runAsNonRoot", "securityContext.runAsUser"]), [true, 65_532]);
  deepEqual(container!.securityContext, {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
    readOnlyRootFilesystem: true,
  });
  deepEqual(memberAt(deployment, "spec.replicas"), 2);
  ok((pod.tolerations as Tree[]).some(({ key }) => key === "kuma.io/x"));
  // Else a controller that is ready would count as a node's CNI pod.
  const labels = memberAt(deployment, "spec.template.metadata.labels") as Tree;
  equal(labels.app, "mesh-cni-controller");
});

Deno.test("a privileged container is not told to gain no privileges, which the API server refuses", () => {
  const daemonSet = find(
    objectsOf({ "cni.containerSecurityContext.privileged": true }),
    "DaemonSet",
  );
  const [container] = memberAt(daemonSet, "spec.template.spec.containers") as Tree[];
  const security = container!.securityContext as Tree;
  equal(security.privileged, true);
  equal(Object.hasOwn(security, "allowPrivilegeEscalation"), false);
});

Deno.test("the capabilities for meshed pods are asked for only by the value, and beside others", () => {
  const capabilitiesOf = (values: Parameters<typeof objectsOf>[0]) => {
    const daemonSet = find(objectsOf(values), "DaemonSet");
    const [container] = memberAt(daemonSet, "spec.template.spec.containers") as Tree[];
    return (container!.securityContext as Tree).capabilities;
  };
  deepEqual(capabilitiesOf({}), { drop: ["ALL"] });
  const asked = { "cni.shim.capabilities": true };
  deepEqual(capabilitiesOf(asked), { drop: ["ALL"], add: ["NET_ADMIN", "SYS_ADMIN"] });
  const add = "cni.containerSecurityContext.capabilities.add";
  deepEqual(capabilitiesOf({ ...asked, [add]: ["CHOWN", "SYS_ADMIN"] }), {
    drop: ["ALL"],
    add: ["CHOWN", "SYS_ADMIN", "NET_ADMIN"],
  });
  const privileged = { ...asked, "cni.containerSecurityContext.privileged": true };
  deepEqual(capabilitiesOf(privileged), { drop: ["ALL"] });
});

Deno.test("OpenShift 3.11 gets no field that Kubernetes 1.11 does not have", () => {
  const row = platforms.find(({ name }) => name === "openshift-3.11")!.row({});
  const text = JSON.stringify(manifestObjects(resolveValues(treeOfRow(row))));
  ok(text.includes('"privileged":true'));
  ok(!text.includes("seccompProfile"), text);
});

Deno.test("rights for the namespaces of the mesh alone cover install-cni's own pod", () => {
  const objects = objectsOf({ namespaceAllowList: ["shop"], "cni.namespace": "mesh-cni" });
  const bindings = objects.filter(({ kind }) => kind === "RoleBinding");
  deepEqual(bindings.map((binding) => memberAt(binding, "metadata.namespace")), [
    "mesh-cni",
    "shop",
  ]);
  for (const binding of bindings) {
    deepEqual(binding.subjects, [
      { kind: "ServiceAccount", name: "kuma-cni", namespace: "mesh-cni" },
    ]);
  }
  ok(!objects.some(({ kind }) => kind === "ClusterRoleBinding"));
  ok(!objectsOf({ skipRBAC: true }).some(({ kind }) => /Role/.test(String(kind))));
});

Deno.test("install-cni and the plugin understand what the objects tell them, on every platform", () => {
  for (const { name, platform, facts } of platformRows()) {
    const values = resolveValues(treeOfRow(platform.row(facts)));
    const objects = manifestObjects(values);
    const config = memberAt(find(objects, "ConfigMap"), "data.cni_network_config") as string;
    const [container] = memberAt(
      find(objects, "DaemonSet"),
      "spec.template.spec.containers",
    ) as Tree[];
    const environment = new Map(
      (container!.env as Tree[]).map(({ name, value }) => [name, value as string | undefined]),
    );
    environment.set("CNI_NETWORK_CONFIG", config);
    const settings = parseSettings(({ variable }) => environment.get(variable));
    equal(settings.netDir, values.get("cni.netDir"), name);
    equal(settings.chained, values.get("cni.chained"), name);
    const { settings: plugin, unknown } = readPluginSettings(
      JSON.parse(config.replace("__KUBECONFIG_FILEPATH__", "/k")),
    );
    deepEqual(unknown, [], name);
    equal(plugin.cniBinDir, values.get("cni.binDir"), name);
    ok(plugin.excludeNamespaces.includes(values.get("cni.namespace")), name);
  }
});

Deno.test("the namespace of install-cni is always skipped", () => {
  for (const namespace of ["kube-system", "mesh-cni"]) {
    const objects = objectsOf({ "cni.namespace": namespace, "cni.excludeNamespaces": ["a-*"] });
    const config = memberAt(find(objects, "ConfigMap"), "data.cni_network_config") as string;
    deepEqual(
      JSON.parse(config).kubernetes.exclude_namespaces,
      [...new Set(["kube-system", namespace]), "a-*"],
    );
  }
});

Deno.test("every object of every platform fits the schema of Kubernetes", async () => {
  const problemsOf = await kubernetesSchema();
  const daemonSet = find(objectsOf(), "DaemonSet");
  for (
    const [path, value, expected] of [
      [
        "spec.template.spec.hostPid",
        true,
        "spec.template.spec.hostPid is not a field of V1PodSpec",
      ],
      ["spec.selector", undefined, "spec.selector is missing"],
      ["spec.template.spec.tolerations", {}, "spec.template.spec.tolerations is not a list"],
    ] as const
  ) {
    const wrong = structuredClone(daemonSet);
    setAt(wrong, path, value);
    deepEqual(problemsOf(JSON.parse(JSON.stringify(wrong))), [`DaemonSet.${expected}`]);
  }
  let checked = 0;
  for (const { name, platform, facts } of platformRows()) {
    for (const more of [{}, everything, { namespaceAllowList: ["shop"] }]) {
      const tree = treeOfRow(platform.row(facts));
      for (const [path, value] of Object.entries(more)) setAt(tree, path, value);
      for (const object of manifestObjects(resolveValues(tree))) {
        // Those of the Prometheus Operator are not Kubernetes' own.
        if (object.apiVersion.startsWith("monitoring.")) continue;
        deepEqual(problemsOf(JSON.parse(JSON.stringify(object))), [], `${name}: ${object.kind}`);
        checked++;
      }
    }
  }
  ok(checked > 300, `${checked}`);
});

Deno.test("goldens: the objects of each platform are those in tests/goldens/manifests", () => {
  const refresh = Deno.env.get("REFRESH_GOLDENS") === "1";
  const folder = `${root}tests/goldens/manifests`;
  const names = platformRows().map(({ name, platform, facts }) => {
    const row = platform.row(facts);
    const values = resolveValues(treeOfRow(row));
    const text = yamlText(manifestObjects(values), [...row.steps, ...stepsFor(values, {})]);
    const path = `${folder}/${name}.yaml`;
    if (refresh) Deno.writeTextFileSync(path, text);
    equal(Deno.readTextFileSync(path), text, `${path}; refresh with REFRESH_GOLDENS=1`);
    return `${name}.yaml`;
  });
  deepEqual([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), names.sort());
});

Deno.test("printed YAML means the objects that were made", () => {
  const odd = {
    "cni.podAnnotations": { a: "yes", b: "0x10", c: "1e3", d: "~", e: "a\nb: c", f: "" },
  };
  for (const given of [{}, everything, odd]) {
    const objects = objectsOf(given);
    const texts = yamlText(manifestObjects(resolveValues(valuesOf(given))), ["a", "b: c"])
      .split(/^---$/m).slice(1);
    deepEqual(texts.map((text) => parse(text)), objects);
  }
});

Deno.test("the image is a value, and nobody else's by default", () => {
  const image = (given: Readonly<Record<string, unknown>>) =>
    imageOf(resolveValues(valuesOf(given)));
  ok(/^localhost\/kuma-cni:\d+\.\d+\.\d+$/.test(image({})));
  equal(
    image({ "global.image.registry": "r.example:5000/mesh", "global.image.tag": "1" }),
    "r.example:5000/mesh/kuma-cni:1",
  );
  equal(
    image({ "cni.image.registry": "a", "cni.image.repository": "b", "cni.image.tag": "c" }),
    "a/b:c",
  );
});

Deno.test("the rows of Kuma's documentation are as it has them", () => {
  const row = (name: string) => {
    const values = platforms.find((one) => one.name === name)!.row({}).values;
    return ["netDir", "binDir", "confName"].map((key) => values[`cni.${key}`]).join(" ");
  };
  equal(row("cilium"), "/etc/cni/net.d /opt/cni/bin 05-cilium.conflist");
  equal(row("calico"), "/etc/cni/net.d /opt/cni/bin 10-calico.conflist");
  equal(row("kind"), "/etc/cni/net.d /opt/cni/bin 10-kindnet.conflist");
  equal(row("azure"), "/etc/cni/net.d /opt/cni/bin 10-azure.conflist");
  equal(row("azure-overlay"), "/etc/cni/net.d /opt/cni/bin 15-azure-swift-overlay.conflist");
  equal(row("aws"), "/etc/cni/net.d /opt/cni/bin 10-aws.conflist");
  equal(row("gke-cilium"), "/etc/cni/net.d /home/kubernetes/bin 05-cilium.conflist");
  equal(row("gke-calico"), "/etc/cni/net.d /home/kubernetes/bin 10-calico.conflist");
});

Deno.test("the chart's values, its schema and docs/values.md are made from the declarations", async () => {
  for (const [path, text] of generatedFiles()) {
    equal(Deno.readTextFileSync(`${root}${path}`), text, `${path}; run scripts/values_docs.ts`);
  }
  const document = Deno.readTextFileSync(`${root}${valuesDocument}`);
  const command = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--ext", "md", "--line-width", "100", "-"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  await new Blob([withValues(document)]).stream().pipeTo(command.stdin);
  const { stdout } = await command.output();
  equal(document, new TextDecoder().decode(stdout), "Run scripts/values_docs.ts && deno fmt docs");
});

Deno.test("rights to look into running pods come with the values that need them, and not without", () => {
  const containerPaths = ["spec.template.spec"];
  const spec = (given: Record<string, unknown>) =>
    at(find(objectsOf(given), "DaemonSet"), containerPaths) as [Tree];
  const seen = (given: Record<string, unknown>) => {
    const [pod] = spec(given);
    const [container] = pod.containers as Tree[];
    const { capabilities } = container!.securityContext as Tree;
    const role = find(objectsOf(given), "ClusterRole");
    return {
      hostPID: pod.hostPID === true,
      added: (capabilities as Tree).add ?? [],
      netns: JSON.stringify(pod).includes('"/host/run/netns"'),
      cgroups: JSON.stringify(pod).includes('"/host/sys/fs/cgroup","readOnly":true'),
      events: JSON.stringify(role.rules).includes('"events"'),
      watch: JSON.stringify(role.rules).includes('"watch"'),
    };
  };
  const none = {
    ...{ hostPID: false, added: [], netns: false, cgroups: false },
    ...{ events: false, watch: false },
  };
  deepEqual(seen({}), none);
  deepEqual(seen({ "cni.repair.drift": "repair", "cni.repair.sweepSeconds": 60 }), none);
  const enters = { ...none, added: ["NET_ADMIN", "SYS_ADMIN"], netns: true, events: true };
  deepEqual(seen({ "cni.repair.enterPods": true }), enters);
  deepEqual(seen({ "cni.repair.enterPods": true, "cni.engine": "ebpf" }), {
    ...enters,
    added: ["BPF", "NET_ADMIN", "SYS_ADMIN"],
    cgroups: true,
  });
  equal(seen({ "cni.engine": "ebpf" }).cgroups, false);
  deepEqual(seen({ "cni.repair.earlyPods": "waiting" }), {
    ...enters,
    added: ["NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"],
    hostPID: true,
    watch: true,
  });
  const capabilities = { add: ["DAC_OVERRIDE", "SYS_ADMIN"], drop: ["ALL"] };
  const given = { "cni.repair.enterPods": true, "cni.containerSecurityContext": { capabilities } };
  deepEqual(seen(given).added, ["DAC_OVERRIDE", "SYS_ADMIN", "NET_ADMIN"]);
});
