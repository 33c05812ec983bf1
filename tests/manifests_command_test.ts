/** `install-cni manifests` as people call it: what wins over what, what is refused, what is printed. */
import { deepEqual, equal, ok } from "node:assert/strict";
// @ts-types="../src/types/std_yaml_parse.d.ts"
import { parse } from "@std/yaml/parse";
import { declaredValues } from "../installer/manifests/declarations.ts";
import { gatherValues } from "../installer/manifests/sources.ts";
import { type Tree, ValuesError } from "../installer/manifests/tree.ts";
import { parseValuesFile } from "../installer/manifests/values_file.ts";

const root = new URL("..", import.meta.url).pathname;

interface Answer {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function manifests(
  args: readonly string[],
  stdin = "",
  env: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `--config=${root}deno.json`, `${root}installer/main.ts`]
      .concat("manifests", args),
    env: { ...env },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await new Blob([stdin]).stream().pipeTo(child.stdin).catch(() => {
    // It may end before it has read everything.
  });
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** What is wrong, and what the one line must name. */
const badInput: readonly [args: readonly string[], stdin: string, names: readonly string[]][] = [
  [["-f", "-"], "- a\n- b\n", ["-", "a list", "expected a mapping"]],
  [["-f", "-"], "just text", ["the text", "expected a mapping"]],
  [["-f", "-"], "cni: &a\n  chained: true\nother: *a\n", ["line 1", "anchor", "write them out"]],
  [["-f", "-"], "cni:\n  logLevel: info\n  logLevel: off\n", ["duplicated key", "line 3"]],
  [["-f", "-"], `x: "${"a".repeat(10 * 1024 * 1024)}"`, ["10485765 bytes", "at most 1048576"]],
  [["-f", "-"], "cni: [", ["YAML"]],
  [["-f", "-"], "a: 1\n---\nb: 2\n", ["YAML", "1 document"]],
  [["-f", "/nonexistent/values.yaml"], "", ["/nonexistent/values.yaml"]],
  [["--set", "a.b"], "", ["--set", "a.b", "a.b=VALUE"]],
  [["--set", "cni.netDir=net.d"], "", ["cni.netDir", '"net.d"', "absolute path"]],
  [["--set", "cni.logLevel=verbose"], "", ["cni.logLevel", '"verbose"', "off, info or debug"]],
  [["--set", "cni.nodeSelector={a,b}"], "", ["cni.nodeSelector", "a list", "a mapping"]],
  [["--set", "cni.chained=yes"], "", ["cni.chained", '"yes"', "true or false"]],
  [["--set", "cni.podAnnotations.team=7"], "", ["cni.podAnnotations.team", "--set-string"]],
  [["--set", "cni.logLevle=info"], "", ["cni.logLevle", "did you mean cni.logLevel?"]],
  [["--set", "netDir=/x"], "", ["netDir", "did you mean cni.netDir?"]],
  [["--set", "cni=1"], "", ["cni is 1", "a mapping"]],
  [["--set", "cni.chained=true"], "", ["cni.confName", "chain"]],
  [["--set", "cni.logLevel=null"], "", ["cni.logLevel", "null"]],
  [["--set-json", "cni.resources={"], "", ["--set-json", "cni.resources", "JSON"]],
  [["--set-file", "cni.confName=/nonexistent/x"], "", ["/nonexistent/x"]],
  [["--cni-node-selector", "x"], "", ["--cni-node-selector", "NAME=VALUE"]],
  [["--platform", "ciilum"], "", ["--platform", "ciilum", "cilium"]],
  [["--platform", "k3s", "--kubelet-version", "new"], "", ["--kubelet-version", "new"]],
  [["--platform", "kind", "--auxiliary-chain"], "", ["--auxiliary-chain", "openshift"]],
  [["--platform", "auto", "--cluster", "-"], "{}", ["items", "kubectl get"]],
  [["--platform", "auto", "--cluster", "-"], "x", ["JSON", "kubectl get"]],
  [["--platform", "auto", "--cluster", "-"], '{"items":[]}', ["Cannot choose", "--platform"]],
  [["--platform", "kind", "--cluster", "-"], "{}", ["--cluster", "--platform auto"]],
  [["--auxiliary-chain"], "", ["--auxiliary-chain", "--platform openshift"]],
  [["--kubelet-version", "v1.31.0"], "", ["--kubelet-version", "--platform"]],
  [["--set", "__proto__.x=1"], "", ["__proto__"]],
  [["--set", "constructor=1"], "", ["constructor"]],
];

for (const [args, stdin, names] of badInput) {
  const shown = `${args.join(" ")}${
    stdin === "" ? "" : ` of ${JSON.stringify(stdin.slice(0, 40))}`
  }`;
  Deno.test(`bad input is one line with key and fix: ${shown}`, async () => {
    const { code, stdout, stderr } = await manifests(args, stdin);
    equal(code, 1, stderr);
    equal(stdout, "");
    const lines = stderr.trimEnd().split("\n");
    equal(lines.length, 1, stderr);
    ok(lines[0]!.length < 700, stderr);
    for (const name of names) ok(stderr.includes(name), `${name} is not in: ${stderr}`);
  });
}

Deno.test("the words of Kuma's documentation give objects, and what must be done elsewhere", async () => {
  const { code, stdout, stderr } = await manifests([
    "--set",
    "cni.enabled=true",
    "--set",
    "cni.chained=true,cni.netDir=/etc/cni/net.d,cni.binDir=/opt/cni/bin",
    "--set",
    "cni.confName=10-aws.conflist",
    "--set",
    "controlPlane.envVars.KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_IP_FAMILY_MODE=ipv4",
  ]);
  equal(code, 0, stderr);
  const [head, ...documents] = stdout.split(/^---$/m);
  deepEqual(documents.map((text) => (parse(text) as Tree).kind), [
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "DaemonSet",
  ]);
  ok(/Set controlPlane\.envVars\.KUMA_\w+_FAMILY_MODE for the control plane/.test(stderr), stderr);
  const comments = head!.trimEnd().split("\n").map((line) => line.replace(/^# /, ""));
  deepEqual(comments, stderr.trimEnd().split("\n"), "comments and stderr say the same");
});

Deno.test("later sources win: platform, files, kumactl's flags, JSON, set, text, files of values", () => {
  const nothing = { files: [], flags: [], setJson: [], set: [], setString: [], setFile: [] };
  const readFile = () => "debug";
  const platform = { cni: { logLevel: "p", netDir: "/p" } };
  const files = [
    { name: "1", text: "cni: {logLevel: f1, binDir: /f1}" },
    { name: "2", text: "cni: {logLevel: f2}" },
  ];
  const flags = [{ name: "cni.logLevel", value: "flag" }] as const;
  const steps = [
    { files },
    { flags },
    { setJson: ['cni.logLevel="j"'] },
    { set: ["cni.logLevel=s"] },
    { setString: ["cni.logLevel=t"] },
    { setFile: ["cni.logLevel=x"] },
  ];
  const expected = ["p", "f2", "flag", "j", "s", "t", "debug"];
  expected.forEach((logLevel, i) => {
    const given = Object.assign({}, nothing, ...steps.slice(0, i));
    const tree = gatherValues({ platform, readFile, ...given });
    deepEqual(tree, {
      cni: { logLevel, netDir: "/p", ...(i === 0 ? {} : { binDir: "/f1" }) },
    });
  });
});

Deno.test("a platform's values give way to what is set, and can be had as a file for Helm", async () => {
  const { stdout } = await manifests([
    "--platform",
    "cilium",
    "--set",
    "cni.binDir=/x/bin",
    "--output",
    "values",
  ]);
  deepEqual(parse(stdout), {
    cni: {
      chained: true,
      netDir: "/etc/cni/net.d",
      binDir: "/x/bin",
      confName: "05-cilium.conflist",
    },
  });
});

Deno.test("kumactl's flags are those of the values", async () => {
  const { code, stdout, stderr } = await manifests([
    "--cni-enabled",
    "--cni-chained",
    "--cni-net-dir",
    "/n",
    "--cni-bin-dir=/b",
    "--cni-conf-name",
    "c.conflist",
    "--cni-node-selector",
    "a=b,kubernetes.io/os=linux",
    "--output",
    "values",
  ]);
  equal(code, 0, stderr);
  deepEqual(parse(stdout), {
    cni: {
      enabled: true,
      chained: true,
      netDir: "/n",
      binDir: "/b",
      confName: "c.conflist",
      nodeSelector: { a: "b", "kubernetes.io/os": "linux" },
    },
  });
});

/** A cluster of one kind node, as lists of the API have it: without the kind of their items. */
const kindNode = {
  metadata: { name: "n1", labels: { "kubernetes.io/os": "linux" } },
  spec: { providerID: "kind://docker/kind/n1" },
  status: { nodeInfo: { kubeletVersion: "v1.36.0", osImage: "Debian" } },
};
const kindnet = { metadata: { name: "kindnet", namespace: "kube-system" }, spec: {} };

Deno.test("--platform auto reads what kubectl prints, and says what it chose and why", async () => {
  const items = [{ kind: "Node", ...kindNode }, { kind: "DaemonSet", ...kindnet }];
  const { code, stdout, stderr } = await manifests(
    ["--platform", "auto", "--cluster", "-", "--output", "values"],
    JSON.stringify({ kind: "List", items }),
  );
  equal(code, 0, stderr);
  equal((parse(stdout) as { cni: Tree }).cni.confName, "10-kindnet.conflist");
  ok(/^Platform kind: node n1: provider ID kind:.*kindnet/.test(stderr), stderr);
});

Deno.test("--platform auto asks the API server of the kubeconfig, and needs the right to", async () => {
  let isAllowed = true;
  await using server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    const { pathname } = new URL(request.url);
    if (!isAllowed) {
      return Response.json({ kind: "Status", message: "nodes is forbidden" }, { status: 403 });
    }
    if (pathname === "/api/v1/nodes") return Response.json({ items: [kindNode] });
    if (pathname === "/apis/apps/v1/daemonsets") return Response.json({ items: [kindnet] });
    return new Response("", { status: 404 });
  });
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    const url = `http://127.0.0.1:${server.addr.port}`;
    await Deno.writeTextFile(
      `${folder}/config`,
      JSON.stringify({
        "current-context": "c",
        contexts: [{ name: "c", context: { cluster: "k", user: "u" } }],
        clusters: [{ name: "k", cluster: { server: url } }],
        users: [{ name: "u", user: { token: "t" } }],
      }),
    );
    const ask = (name = "config") =>
      manifests(["--platform", "auto", "--output", "values"], "", {
        KUBECONFIG: `${folder}/${name}`,
        NO_PROXY: "127.0.0.1",
      });
    const { code, stderr } = await ask();
    equal(code, 0, stderr);
    ok(stderr.includes("Platform kind: "), stderr);
    isAllowed = false;
    const refused = await ask();
    deepEqual([refused.code, refused.stdout], [1, ""]);
    ok(/^install-cni: .*403.*forbidden\n$/.test(refused.stderr), refused.stderr);
    const { stderr: missing } = await ask("gone");
    ok(
      /^install-cni: There is no kubeconfig ".*gone"; set KUBECONFIG .*\n$/.test(missing),
      missing,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("--help lists every value", async () => {
  const { stdout } = await manifests(["--help"]);
  for (const [name, { help }] of declaredValues()) {
    ok(stdout.includes(`  ${name} (`), name);
    ok(stdout.includes(help), name);
  }
});

Deno.test("anchors are found where values begin, and nowhere else", () => {
  for (
    const text of [
      "a: &x 1",
      "a: *x",
      "&x a: 1",
      "- &x 1",
      "a: [&x 1]",
      "a: {b: &x 1}",
      "a: {b: [1, *x]}",
      "? &x a\n: 1",
      "a:\n  &x\n  b: 1",
    ]
  ) {
    let message = "";
    try {
      parseValuesFile(text, "v");
    } catch (error) {
      ok(error instanceof ValuesError);
      message = error.message;
    }
    ok(message.includes("anchor"), text);
  }
  for (
    const text of [
      "a: x & y",
      "a: 'x: &y'",
      'a: "- *x"',
      "a: 1 # - &x",
      "a: |\n  - &x 1\n  b: *y\nc: 1",
      "a: >-\n  &x\nc: 1",
      "a: fish&chips",
      "a: x*y",
    ]
  ) {
    ok("a" in parseValuesFile(text, "v"), text);
  }
});
