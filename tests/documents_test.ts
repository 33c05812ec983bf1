/** Documents say what the code says: settings, metrics, messages, names of tests, links. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { commandLine } from "../installer/main.ts";
import { AgentService } from "../installer/agent/service.ts";
import { flagOf, parseSettings } from "../installer/settings/settings.ts";
import { pathsOf } from "../installer/settings/paths.ts";
import { ControllerMetrics } from "../installer/controller/controller_metrics.ts";
import { MetricsRegistry } from "../installer/agent/metrics.ts";
import { libc } from "../src/linux/libc.ts";
import { createNamespace, uniqueName } from "./support/topology.ts";
import {
  type SettingsDocument,
  settingsDocuments,
  withSettings,
} from "../scripts/installer_docs.ts";
import { exists } from "./support/files.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const root = new URL("..", import.meta.url).pathname;

function textOf(path: string): string {
  return Deno.readTextFileSync(`${root}${path}`);
}

/** Paths of all documents; pictures lie in a folder beside them. */
function documentsInFolder(): string[] {
  return Array.from(Deno.readDirSync(`${root}docs`)).filter(({ isFile }) => isFile)
    .map(({ name }) => `docs/${name}`);
}

/** Cells of all table rows of a document. */
function rowsOf(path: string): string[][] {
  return textOf(path).split("\n").filter((line) => line.startsWith("|"))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
}

function* sourcesBelow(folder: string): Generator<string> {
  for (const { name, isDirectory } of Deno.readDirSync(`${root}${folder}`)) {
    if (isDirectory) yield* sourcesBelow(`${folder}/${name}`);
    else if (name.endsWith(".ts")) yield `${folder}/${name}`;
  }
}

for (const document of settingsDocuments) {
  const name = document.file.pathname.split("/").at(-1);
  Deno.test(`docs/${name} has the settings as declared`, () => hasItsSettings(document));
}

async function hasItsSettings(settingsDocument: SettingsDocument): Promise<void> {
  const document = Deno.readTextFileSync(settingsDocument.file);
  const command = new Deno.Command(Deno.execPath(), {
    args: ["fmt", "--ext", "md", "--line-width", "100", "-"],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  await new Blob([withSettings(settingsDocument)]).stream().pipeTo(command.stdin);
  const { stdout, success } = await command.output();
  ok(success);
  equal(
    document,
    new TextDecoder().decode(stdout),
    "Run deno run -A scripts/installer_docs.ts && deno fmt docs",
  );
  // The document says that a flag is the variable in small letters.
  const unlike = settingsDocument.settings.filter((declaration) =>
    flagOf(declaration) !== `--${declaration.variable.toLowerCase().replaceAll("_", "-")}`
  );
  deepEqual(unlike, []);
}

/** Holds a document's table of metrics to what is exposed; returns the exposed names. */
function hasItsMetrics(path: string, { registry }: { readonly registry: MetricsRegistry }) {
  const text = registry.expose();
  const types = new Map(
    Array.from(text.matchAll(/^# TYPE (\S+) (\S+)$/gm), ([, name, type]) => [name!, type!]),
  );
  const exposed = Array.from(
    text.matchAll(/^# HELP (\S+) (.*)$/gm),
    ([, name, help]) => [`\`${name}\``, types.get(name!), help],
  );
  const rows = rowsOf(path);
  const start = rows.findIndex(([first]) => first === "metric");
  const documented = rows.slice(start + 2, start + 2 + exposed.length)
    .map(([name, type, , meaning]) => [name, type, meaning]);
  deepEqual(documented, exposed);
  return new Set(types.keys());
}

Deno.test("docs/controller.md has every metric as it is exposed", () => {
  hasItsMetrics("docs/controller.md", new ControllerMetrics(new MetricsRegistry(), () => 0));
});

Deno.test("docs/installer.md has every cause of a repair", () => {
  const source = textOf("installer/plan/steps.ts");
  const type = /export type Cause =([^;]*);/.exec(source)?.[1] ?? "";
  const causes = Array.from(type.matchAll(/"([a-z-]+)"/g), ([, cause]) => `\`${cause}\``);
  ok(causes.length > 5);
  const rows = rowsOf("docs/installer.md");
  const start = rows.findIndex(([first]) => first === "cause");
  deepEqual(rows.slice(start + 2, start + 2 + causes.length).map(([first]) => first), causes);
});

Deno.test("docs/operations.md has every metric as it is exposed, and alerts on no other", () => {
  const settings = parseSettings(() => undefined, { needsConfig: false });
  const service = new AgentService(settings);
  const unused = undefined as never;
  service.start({
    settings,
    log: unused,
    paths: pathsOf(settings),
    state: () => ({ ready: true, reason: "" }),
    liveness: () => ({ alive: true, reason: "" }),
  });
  const exposed = hasItsMetrics("docs/operations.md", service.metrics);
  const named = textOf("docs/operations.md").match(/\b(?:kuma_cni|process)_[a-z_]+\b/g) ?? [];
  const unknown = named.filter((name) => !exposed.has(name.replace(/_(?:bucket|sum|count)$/, "")));
  deepEqual(unknown, []);
});

Deno.test("docs/operations.md quotes messages that the plugin has", () => {
  const files = ["main.ts", ...sourcesBelow("src")];
  // Strings that are put together over several lines count as one.
  const source = files.map(textOf).join("\n").replace(/["'`]\s*\+\s*["'`]/g, "")
    .replace(/["'`]\s*\+\s*\n\s*/g, "").replaceAll('\\"', '"');
  const rows = rowsOf("docs/operations.md");
  const messages = rows.filter(([code]) => /^\d+$/.test(code ?? "")).map(([, message]) => message);
  const log = rows.slice(rows.findIndex(([first]) => first === "log")).map(([first]) => first)
    .filter((first) => /^`Pod(?:'s| is) /.test(first ?? ""));
  ok(messages.length > 12 && log.length === 2);
  const wrong = [...messages, ...log].flatMap((cell) => {
    const text = /^`(.*)`$/.exec(cell ?? "")?.[1];
    ok(text, `no message in ${cell}`);
    const fragments = text.split("…").filter((fragment) => /[a-z]{3}/.test(fragment));
    ok(fragments.length > 0, text);
    return fragments.filter((fragment) => !source.includes(fragment.trim()));
  });
  deepEqual(wrong, []);
});

Deno.test("docs/operations.md has every reason for passing a pod through", () => {
  const type = /code:([^;]*);/.exec(textOf("src/pod/decision.ts"))?.[1] ?? "";
  const codes = Array.from(type.matchAll(/"([a-z-]+)"/g), ([, code]) => code!);
  ok(codes.length >= 5);
  const document = textOf("docs/operations.md");
  deepEqual(codes.filter((code) => !document.includes(`\`${code}\``)), []);
});

Deno.test("docs/operations.md has every reason for being degraded", () => {
  const kinds = /type ConnectionFailureKind =([^;]*);/.exec(
    textOf("src/kubernetes/connection_state.ts"),
  )?.[1] ?? "";
  const codes = Array.from(kinds.matchAll(/^ +\| "([a-z-]+)"/gm), ([, kind]) => `api-${kind}`);
  ok(codes.length >= 6);
  const rows = rowsOf("docs/operations.md");
  const start = rows.findIndex(([first]) => first === "reason");
  const listed = rows.slice(start + 2).map(([first]) => first!).join();
  const missing = [...codes, "token-expires", "token-expired"]
    .filter((code) => !listed.includes(`\`${code}\``));
  deepEqual(missing, []);
});

/** What stands in a document's blocks of commands and in its code within sentences. */
function commandsIn(path: string): string {
  const fences = /^```(\w*)\n([^]*?)^```$/gm;
  const blocks = Array.from(
    textOf(path).matchAll(fences),
    ([, language, block]) =>
      language === "" || language === "sh" ? block!.replace(/ #.*$|^#.*$/gm, "") : "",
  );
  return blocks.concat(textOf(path).replace(fences, "").match(/`install-cni [^`]*`/g) ?? [])
    .join("\n");
}

Deno.test("docs/installer.md has every command, and the documents name no other", () => {
  const commands = commandLine().commands.map((command) => command.name());
  ok(commands.length > 10);
  const listed = rowsOf("docs/installer.md").map(([first]) => first!).join();
  const missing = commands.filter((name) => !listed.includes(`\`install-cni ${name}`));
  // The names of tests in docs/reliability.md are sentences.
  const documents = documentsInFolder()
    .filter((path) => path !== "docs/reliability.md");
  const unknown = [...documents, "README.md"].flatMap((path) =>
    Array.from(
      commandsIn(path).matchAll(/\binstall-cni ([a-z]+(?:-[a-z]+)?)\b/g),
      ([, name]) => name!,
    ).filter((name) => name !== "help" && !commands.includes(name))
      .map((name) => `${path}: ${name}`)
  );
  deepEqual({ missing, unknown }, { missing: [], unknown: [] });
});

Deno.test("docs/reliability.md names tests that are there", () => {
  const proofs = Array.from(
    textOf("docs/reliability.md").matchAll(/^ +- `([\w/]+_test\.ts)`:\s+`([^`]+)`$(?!\n +`)/gm),
    ([, file, name]) => ({ file: file!, name: name!.replace(/\s+/g, " ") }),
  );
  const items = textOf("docs/reliability.md").match(/^ +- /gm) ?? [];
  equal(proofs.length, items.length, "each proof is a file and the name of a test");
  ok(proofs.length > 50);
  const pattern = /Deno\.test\(\s*(?:\{[^{]*?\bname:\s*)?(["'`])((?:\\.|(?!\1)[^])*)\1/g;
  const missing = proofs.filter(({ file, name }) => {
    const names = Array.from(textOf(`tests/${file}`).matchAll(pattern), ([, , found]) => found);
    return !names.includes(name);
  });
  deepEqual(missing, []);
});

/** The pod of the README's examples. */
const examplePod = `
apiVersion: v1
kind: Pod
metadata:
  name: web-0
  namespace: shop
  annotations:
    kuma.io/sidecar-injected: "true"
    kuma.io/transparent-proxying: enabled
    traffic.kuma.io/exclude-outbound-ports: "3306"
spec:
  containers: [{ name: web, image: web }, { name: kuma-sidecar, image: kuma-dp }]
`;

Deno.test("the README's examples show what the commands print", async () => {
  using namespace = createNamespace(uniqueName("kuma-readme-"));
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    Deno.writeTextFileSync(`${folder}/web-0.yaml`, examplePod);
    const blocks = textOf("README.md").match(/^```\n\$ [^]*?^```$/gm) ?? [];
    const examples = blocks.flatMap((block) => block.slice(4, -4).split(/^(?=\$ )/m));
    deepEqual(examples.map((example) => example.split(" ")[2]), ["rules", "explain", "check"]);
    for (const example of examples) {
      const [line, ...shown] = example.trimEnd().split("\n");
      const words = line!.split(" ").slice(2);
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", `--config=${root}deno.json`, `${root}installer/main.ts`]
          .concat(words.map((word) => word.replace("/run/netns/web-0", namespace.path))),
        cwd: folder,
      }).output();
      const printed = new TextDecoder().decode(stdout)
        .replaceAll(namespace.path, "/run/netns/web-0").trimEnd().split("\n");
      const isCut = shown.at(-1) === "...";
      deepEqual(
        isCut ? printed.slice(0, shown.length - 1) : printed,
        isCut ? shown.slice(0, -1) : shown,
        new TextDecoder().decode(stderr),
      );
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("paths and tasks in the documents are there", () => {
  const { tasks } = JSON.parse(textOf("deno.json"));
  const documents = [
    "README.md",
    ...documentsInFolder(),
  ];
  const wrong = documents.flatMap((path) => {
    const text = textOf(path);
    const paths = text.match(
      /\b(?:src|installer|scripts|tests|docs)\/[\w/.-]*\w\.(?:ts|md|txt)\b/g,
    ) ?? [];
    const beside = Array.from(text.matchAll(/`([a-z_-]+\.md)`/g), ([, name]) => `docs/${name}`);
    const used = Array.from(text.matchAll(/deno task ([\w:]+)/g), ([, name]) => name!);
    return [
      ...[...paths, ...beside].filter((file) => !exists(`${root}${file}`)),
      ...used.filter((name) => !Object.hasOwn(tasks, name)),
    ].map((what) => `${path}: ${what}`);
  });
  deepEqual(wrong, []);
});

Deno.test("the README's table has every document", () => {
  const listed = rowsOf("README.md").flatMap(([first]) => /^`(docs\/.*)`$/.exec(first!)?.[1] ?? []);
  const there = documentsInFolder();
  deepEqual(listed.toSorted(), there.toSorted());
});

/** Titles that a document's sections have. */
function titlesOf(path: string): Set<string> {
  return new Set(textOf(path).match(/^#+ .*$/gm)?.map((line) => line.replace(/^#+ /, "")) ?? []);
}

Deno.test("sections that the documents send their readers to are there", () => {
  const documents = documentsInFolder();
  const wrong = [...documents, "README.md"].flatMap((path) => {
    const text = textOf(path).replace(/\s+/g, " ");
    return Array.from(
      text.matchAll(/(?:`(?:docs\/)?([a-z-]+\.md)`|(README)), "([^"]+)"/g),
      ([, document, , title]) => ({
        path: document === undefined ? "README.md" : `docs/${document}`,
        title: title!,
      }),
    ).filter(({ path, title }) => !titlesOf(path).has(title))
      .map((missing) => `${path}: ${missing.path}, "${missing.title}"`);
  });
  deepEqual(wrong, []);
});

Deno.test("files that comments send their readers to are there", () => {
  const sources = ["src", "installer", "scripts"].flatMap((path) => [...sourcesBelow(path)]);
  const wrong = ["main.ts", ...sources].flatMap((path) => {
    const named = textOf(path).match(
      /\b(?:src|installer|scripts|tests|docs|deploy)\/[\w/.-]*\w\.(?:ts|md|json)\b/g,
    ) ?? [];
    return named.filter((name) => !exists(`${root}${name}`)).map((name) => `${path}: ${name}`);
  });
  deepEqual(wrong, []);
});
