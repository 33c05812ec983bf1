/**
 * Chart and command give the same objects, take the same values and refuse the same ones: asked of
 * the real Helm, 3 and 4.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
// @ts-types="../src/types/std_yaml_parse.d.ts"
import { parse } from "@std/yaml/parse";
import { declaredValues } from "../installer/manifests/declarations.ts";
import { manifestObjects } from "../installer/manifests/objects.ts";
import { treeOfRow } from "../installer/manifests/platforms.ts";
import { yamlText } from "../installer/manifests/render.ts";
import { applySet, type SetFlag } from "../installer/manifests/set_syntax.ts";
import { type Tree, ValuesError } from "../installer/manifests/tree.ts";
import { parseControllerSettings } from "../installer/settings/settings.ts";
import { memberAt, resolveValues } from "../installer/manifests/values.ts";
import { chart as chartPath, platformRows } from "../scripts/values_docs.ts";
import { isRecord } from "../src/json/record.ts";
import { VERSION } from "../src/version.ts";
import { arbitraryValues, oddTexts } from "./support/arbitrary_values.ts";
import { type Helm, helms } from "./support/helm.ts";

const root = new URL("..", import.meta.url).pathname;
const chart = `${root}${chartPath}`;
const all = await helms();

/** Labels that only Helm gives; kumactl takes them away, too. */
const helmLabels = {
  "helm.sh/chart": `kuma-cni-${VERSION}`,
  "app.kubernetes.io/version": VERSION,
  "app.kubernetes.io/managed-by": "Helm",
};

/** Renders the chart; the objects by kind, namespace and name, without Helm's own labels. */
async function chartObjects(helm: Helm, files: readonly string[]): Promise<Map<string, unknown>> {
  const { success, stdout, stderr } = await helm.run([
    "template",
    "any-release",
    chart,
    // The job before an uninstallation is Helm's alone.
    "--no-hooks",
    ...files.flatMap((file) => ["-f", file]),
  ]);
  ok(success, `Helm ${helm.version}: ${stderr}`);
  const objects = stdout.split(/^---$/m).map((text) => parse(text)).filter(isRecord);
  return byName(objects.map(withoutHelmLabels));
}

function withoutHelmLabels(object: Tree): Tree {
  const metadata = object.metadata as Tree & { labels: Tree };
  const labels = { ...metadata.labels };
  for (const [key, value] of Object.entries(helmLabels)) {
    equal(labels[key], value, `${object.kind} has the label ${key}`);
    delete labels[key];
  }
  return { ...object, metadata: { ...metadata, labels } };
}

function byName(objects: readonly Tree[]): Map<string, unknown> {
  const keyOf = ({ kind, metadata }: Tree) => {
    const { namespace = "", name } = metadata as Tree;
    return `${kind} ${namespace}/${name}`;
  };
  const entries = objects.map((object) => [keyOf(object), object] as const);
  equal(new Set(entries.map(([key]) => key)).size, entries.length, "no object is there twice");
  return new Map(entries.sort(([a], [b]) => a < b ? -1 : 1));
}

/** What the command prints, as YAML would bring it over. */
function commandObjects(given: Tree): Map<string, unknown> {
  return byName(JSON.parse(JSON.stringify(manifestObjects(resolveValues(given)))));
}

async function withFile<T>(values: unknown, work: (path: string) => Promise<T>): Promise<T> {
  const path = await Deno.makeTempFile({ prefix: "kuma-test-", suffix: ".json" });
  try {
    await Deno.writeTextFile(path, JSON.stringify(values));
    return await work(path);
  } finally {
    await Deno.remove(path);
  }
}

for (const helm of all) {
  Deno.test(`chart and command give the same objects on every platform, Helm ${helm.version}`, async () => {
    const rows = platformRows();
    ok(rows.length > 15);
    for (const { name, platform, facts } of rows) {
      const rendered = await chartObjects(helm, [`${chart}/platforms/${name}.yaml`]);
      deepEqual(rendered, commandObjects(treeOfRow(platform.row(facts))), name);
    }
    deepEqual(await chartObjects(helm, []), commandObjects({}), "without a platform");
  });

  Deno.test(`chart and command give the same objects for random values, Helm ${helm.version}`, async () => {
    await fc.assert(
      fc.asyncProperty(arbitraryValues(), async (values) => {
        const rendered = await withFile(values, (file) => chartObjects(helm, [file]));
        deepEqual(rendered, commandObjects(values));
      }),
      { numRuns: 50 },
    );
  });

  Deno.test(`a job takes the taints away before an uninstallation, Helm ${helm.version}`, async () => {
    const { success, stdout, stderr } = await helm.run([
      "template",
      "any-release",
      chart,
      "--set=cni.controller.enabled=true,nameOverride=mesh,cni.taintController.key=kuma.io/x",
    ]);
    ok(success, stderr);
    const objects = stdout.split(/^---$/m).map((text) => parse(text)).filter(isRecord);
    const job = objects.find(({ kind }) => kind === "Job");
    ok(job !== undefined, "there is no Job");
    equal((memberAt(job, "metadata.annotations") as Tree)["helm.sh/hook"], "pre-delete");
    const [container] = memberAt(job, "spec.template.spec.containers") as Tree[];
    deepEqual(container!.command, ["/install-cni", "controller", "--remove-taints"]);
    const variables = new Map((container!.env as Tree[]).map(({ name, value }) => [name, value]));
    const settings = parseControllerSettings(
      ({ variable }) => variables.get(variable) as string | undefined,
      { needsApp: false },
    );
    deepEqual(
      [settings.taintKey, settings.taintEffect, settings.leaseName, settings.cniNamespace],
      [
        "kuma.io/x",
        "NoSchedule",
        "mesh-cni-controller",
        "kube-system",
      ],
    );
    // Its pod must count neither as the CNI's nor as one of the Deployment's.
    const labels = memberAt(job, "spec.template.metadata.labels") as Tree;
    equal(labels.app, "mesh-cni-controller-uninstall");
    const account = memberAt(job, "spec.template.spec.serviceAccountName");
    equal(account, "mesh-cni-controller");
  });

  Deno.test(`chart and command refuse the same values, Helm ${helm.version}`, async () => {
    for (const [path, value] of wrongValues()) {
      const values = treeAt(path, value);
      const { success, stderr } = await withFile(
        values,
        (file) => helm.run(["template", "any-release", chart, "-f", file]),
      );
      equal(success, false, `Helm takes ${path}=${JSON.stringify(value)}`);
      ok(/schema|validation/.test(stderr), stderr);
      let message = "";
      try {
        resolveValues(values);
      } catch (error) {
        ok(error instanceof ValuesError);
        message = error.message;
      }
      ok(message !== "", `the command takes ${path}=${JSON.stringify(value)}`);
      ok(!message.includes("\n"));
    }
  });

  Deno.test(`what is printed means the same to Go's YAML parser, Helm ${helm.version}`, async () => {
    const annotations = Object.fromEntries(oddTexts.map((text, i) => [`text-${i}`, text]));
    const values = resolveValues({ cni: { podAnnotations: annotations, netDir: "/a b/'\"&" } });
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
    try {
      await writeEcho(folder);
      for (const object of manifestObjects(values)) {
        await Deno.writeTextFile(`${folder}/object.yaml`, yamlText([object], ["comment: x"]));
        const { stdout, stderr } = await helm.run(
          ["template", "echo", folder, "-f", `${folder}/object.yaml`],
        );
        ok(stdout !== "", stderr);
        deepEqual(echoed(stdout), JSON.parse(JSON.stringify(object)));
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });

  Deno.test(`the chart passes Helm's own examination and says what to check next, Helm ${helm.version}`, async () => {
    const lint = await helm.run(["lint", "--strict", chart]);
    ok(lint.success, lint.stdout + lint.stderr);
    // Helm 3 asks a cluster for its version even for this.
    if (helm.version.startsWith("3.")) return;
    const { success, stdout, stderr } = await helm.run(
      ["install", "any-release", chart, "--dry-run=client", "--set", "nameOverride=mesh"],
    );
    ok(success, stderr);
    const notes = stdout.slice(stdout.indexOf("NOTES:"));
    ok(notes.includes("kubectl -n kube-system rollout status daemonset/mesh-cni-node"), notes);
  });

  Deno.test(`--set means what it means to Helm ${helm.version}`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
    try {
      await writeEcho(folder);
      await Deno.writeTextFile(`${folder}/text.txt`, "line 1\nline, 2\n");
      for (const [flag, argument] of setArguments(folder, helm.version)) {
        const { success, stdout, stderr } = await helm.run(
          ["template", "echo", folder, flag, argument],
        );
        const theirs = success ? echoed(stdout) : undefined;
        let own: unknown;
        try {
          own = applySet(flag, argument, {}, (path) => Deno.readTextFileSync(path));
        } catch (error) {
          ok(error instanceof ValuesError, String(error));
          // Helm drops some half keys without a word; here they are errors.
          deepEqual(theirs ?? {}, {}, `Helm takes ${flag} ${argument}`);
          continue;
        }
        ok(success, `${flag} ${argument} gives ${JSON.stringify(own)} here: ${stderr}`);
        deepEqual(own, theirs, `${flag} ${argument}`);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

/** Writes a chart that says which values it got. */
async function writeEcho(folder: string): Promise<void> {
  await Deno.mkdir(`${folder}/templates`);
  await Deno.writeTextFile(
    `${folder}/Chart.yaml`,
    "apiVersion: v2\nname: echo\nversion: 0.1.0\n",
  );
  await Deno.writeTextFile(
    `${folder}/templates/echo.yaml`,
    "values: {{ omit .Values `global` | toJson }}\n",
  );
}

function echoed(stdout: string): unknown {
  const text = /^values: (.*)$/m.exec(stdout)?.[1];
  ok(text !== undefined, stdout);
  return JSON.parse(text);
}

/** Every form of the syntax, right and wrong. */
function setArguments(folder: string, version: string): [SetFlag, string][] {
  const forms = [
    "a=1",
    "a=b,c=d",
    "a.b.c=x",
    "a.b=1,a.c=2",
    "a=",
    "a=,b=1",
    "a={x,y,3}",
    "a={}",
    "a={},b=1",
    "a={,}",
    "a={x}y=1",
    "a[1]=x,a[0]=y",
    "a[0]=",
    "a=1,",
    "a=\\",
    "a.b.=1",
    "a={x},b=1",
    "a.b={1,true,null,z}",
    "a[0]=x",
    "a[2]=x",
    "a[0].b=1,a[0].c=2,a[1].b=3",
    "a[0][1]=x",
    "a[0]={x,y}",
    "a=true,b=FALSE,c=null,d=0,e=007,f=-5,g=+5,h=1.5,i=1e3,j=12a",
    "kubernetes\\.io/os=linux",
    "a=x\\,y",
    "a={x\\,y,z}",
    "a=\\{x\\}",
    "a=x=y",
    "a= b ",
    "a=x\\\\y",
    "a=$(id)",
    "a=ä€",
    "a",
    "a.b",
    "a,b=1",
    "a[",
    "a[x]=1",
    "a[-1]=1",
    "a[0",
    "a[0]x=1",
    "a={x",
    "a[99999999]=1",
    "a=1,a.b=2",
    "a=1,a[0]=2",
    "",
  ];
  return [
    ...forms.map((form): [SetFlag, string] => ["--set", form]),
    ...forms.map((form): [SetFlag, string] => ["--set-string", form]),
    ["--set-json", 'a={"b":[1,2,{"c":null}]},d="x,y"'],
    // A whole object is younger than Helm 3.17.
    ...(version.startsWith("3.")
      ? []
      : [["--set-json", '{"a":{"b":1},"c":[true]}'] satisfies [SetFlag, string]]),
    ["--set-json", "a=[1,2],b=3"],
    ["--set-json", "a=x"],
    ["--set-json", "a.b[1]=1.5"],
    ["--set-json", "{x}"],
    ["--set-file", `a=${folder}/text.txt`],
    ["--set-file", `a.b=${folder}/text.txt,c=${folder}/text.txt`],
  ];
}

/** One wrong value of each kind for each value that has it. */
function wrongValues(): [path: string, value: unknown][] {
  const wrong = declaredValues().flatMap(([name, { kind }]): [string, unknown][] =>
    [true, 17, 1.5, "no such word", [{}], { none: 1 }, null].filter((value) =>
      value === null ? kind.empty === undefined : kind.problem(value, name) !== undefined
    ).slice(0, 2).map((value) => [name, value])
  );
  ok(wrong.length > 80, `${wrong.length}`);
  return [
    ...wrong,
    ["cni", 3],
    ["global.image", "x"],
    ["cni.chian", true],
    ["netDir", "/x"],
    ["cni.image.pullPolicy", "Always"],
    ["cni.netDir", "/etc/../x"],
    ["cni.netDir", "/.."],
    ["cni.chained", true],
    ["cni.confName", "kuma-cni.conflist"],
    ["cni.confName", "a/b.conf"],
    ["cni.healthPort", 70_000],
    ["cni.monitoring.podMonitor", true],
    ["cni.monitoring.serviceMonitor", true],
    ["cni.nodeSelector", ["a"]],
    ["cni.podAnnotations", { team: true }],
    ["cni.tolerations", [{ effect: "Never" }]],
    ["cni.containerSecurityContext.capabilities.add", ["CAP_CHOWN"]],
    ["cni.containerSecurityContext.capability", {}],
    ["cni.namespace", "Kube-System"],
    ["namespaceAllowList", ["a", "B"]],
    ["experimental.ebpf", { enabled: "true" }],
    ["experimental.ebpf", { enabled: true, bpffsPath: "/sys/../x" }],
    ["experimental.ebpf", { on: true }],
  ];
}

function treeAt(path: string, value: unknown): Tree {
  return path.split(".").reduceRight<unknown>((below, key) => ({ [key]: below }), value) as Tree;
}

Deno.test("the chart has the version of the programs", () => {
  const { version, appVersion } = parse(Deno.readTextFileSync(`${chart}/Chart.yaml`)) as Tree;
  deepEqual([version, appVersion], [VERSION, VERSION]);
});
