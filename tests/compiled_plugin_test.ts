/** What is special about the compiled plugin: V8 without compilers, and bytecode made when it was built. */
import assert from "node:assert/strict";
import { packed } from "../scripts/packs.ts";
import { scriptPath } from "../scripts/compiled_plugin/script.ts";
import { bundleModule, compileModule, root, writeForCompiler } from "../scripts/deno_tools.ts";
import { findDenort } from "../scripts/denort.ts";
import { toldBy } from "../scripts/bench/lib/plugin_phases.ts";
import { createNamespace } from "./support/topology.ts";
import { ApiServer } from "./support/api_server.ts";
import { makeAuthority } from "./support/certificates.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { withFolder } from "./support/files.ts";
import { injectedPod } from "./support/pods.ts";
import { callPlugin, newContainerId } from "./support/runtime.ts";

const plugin = await compiledPlugin();
const target = `${Deno.build.arch}-unknown-linux-gnu`;

async function outputOf(program: string, args: string[], env: Record<string, string> = {}) {
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}

const identity = await (await makeAuthority("people")).issue({ commonName: "me", usage: "client" });

/** Lines of a kubeconfig's cluster and user; each needs other modules of the runtime. */
const ways: Record<string, { cluster: (ca: string) => string[]; user: string[] }> = {
  "a server that is not verified": {
    cluster: () => ["insecure-skip-tls-verify: true"],
    user: [],
  },
  "a server of another name": {
    cluster: (ca) => [
      `certificate-authority-data: ${btoa(ca)}`,
      "tls-server-name: kubernetes.default.svc",
    ],
    user: [],
  },
  "a client certificate": {
    cluster: (ca) => [`certificate-authority-data: ${btoa(ca)}`],
    user: [
      `client-certificate-data: ${btoa(identity.certificate)}`,
      `client-key-data: ${btoa(identity.key)}`,
    ],
  },
};

for (const [way, { cluster, user }] of Object.entries(ways)) {
  Deno.test(`the compiled plugin redirects a pod's traffic with ${way}`, async () => {
    await withFolder(async (folder) => {
      const pod = injectedPod({ uid: "uid-1" });
      await using api = await ApiServer.start({ objects: [pod] });
      using namespace = createNamespace();
      const lines = (list: readonly string[]) => list.map((line) => `    ${line}\n`).join("");
      await Deno.writeTextFile(
        `${folder}/kubeconfig`,
        `apiVersion: v1
kind: Config
clusters:
- name: c
  cluster:
    server: ${api.url}
${lines(cluster(api.certificateAuthority))}users:
- name: u
  user:
    token: ${api.token}
${lines(user)}contexts:
- name: x
  context:
    cluster: c
    user: u
current-context: x
`,
      );
      const { code, stdout } = await callPlugin(plugin, {
        command: "ADD",
        containerId: newContainerId(),
        netns: namespace.path,
        pod: { namespace: pod.metadata.namespace ?? "", name: pod.metadata.name, uid: "uid-1" },
        network: {
          cniVersion: "0.4.0",
          name: "bed",
          type: "kuma-cni",
          kubernetes: { kubeconfig: `${folder}/kubeconfig` },
          lookup_timeout_seconds: 5,
        },
      });
      assert.equal(code, 0, stdout);
      assert.equal(api.requests.length, 1);
    });
  });
}

Deno.test("files in the temporary folder do not take the place of the plugin's own", async () => {
  await withFolder(async (folder) => {
    // Where the runtime pretends that the executable's files are.
    const pretended = `${folder}/deno-compile-kuma-cni`;
    await Deno.mkdir(pretended);
    for (const name of ["plugin_main.js", "plugin_main.js.cache", "start.js"]) {
      await Deno.writeTextFile(`${pretended}/${name}`, "console.log('planted');");
    }
    const { code, stdout, stderr } = await outputOf(plugin, ["--version"], { TMPDIR: folder });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^kuma-cni [0-9.]+ \((commit|unknown) [^)]+\)\n$/);
  });
});

Deno.test("V8 takes the bytecode of all modules of an ADD; debug log and agent are told", async () => {
  const [told] = await toldBy(plugin, 1, { annotations: {}, logLevel: "debug" });
  assert.equal(told?.outcome?.result, "redirected");
  assert.equal(told?.outcome?.bytecode, "used");
  const record = told?.records.find(({ message }) => message.includes("bytecode"));
  assert.deepEqual([record?.severity, record?.fields.bytecode], ["debug", "used"]);
});

/** Compiles three modules that print what they came from and what V8 did with their bytecode. */
async function compileModules(
  folder: string,
  output: string,
  bytecode: (name: string) => Uint8Array,
) {
  const { path: denort } = await findDenort(target, root, () => {});
  const module = await bundleModule("scripts/compiled_plugin/start.ts", `${folder}/b`);
  const state = `globalThis[Symbol.for("kuma-cni.bytecode")]`;
  const modules = new Map([
    [
      "main.js",
      `import{a as x}from"./x.js";import("./y.js").then(({b})=>console.log(x,b,${state}));`,
    ],
    ["x.js", `var a="from";export{a};`],
    ["y.js", `import{a}from"./x.js";var text="the text";export{text as b};`],
  ]);
  const include: string[] = [];
  for (const [name, script] of packed(modules, [])) {
    const path = scriptPath(`${folder}/b`, `./${name}`);
    await writeForCompiler(path, script);
    await writeForCompiler(`${path}.cache`, bytecode(name));
    include.push(path, `${path}.cache`);
  }
  await compileModule({
    module,
    include: include.map((path) => path.slice(path.lastIndexOf("/") + 1)),
    output,
    denort,
    target,
    permissions: ["--allow-read"],
    v8Flags: ["--jitless"],
  });
}

const bytecodes: Record<string, (name: string) => Uint8Array> = {
  missing: () => new Uint8Array(),
  // The one bad script counts, however many good or missing ones there are.
  refused: (name) => name === "y.js" ? new Uint8Array(64).fill(7) : new Uint8Array(),
};

for (const [state, bytecode] of Object.entries(bytecodes)) {
  Deno.test(`a program whose bytecode is ${state} runs from its text, and says so`, async () => {
    await withFolder(async (folder) => {
      await compileModules(folder, `${folder}/program`, bytecode);
      const { stdout, stderr } = await outputOf(`${folder}/program`, []);
      assert.equal(stdout, `from the text ${state}\n`, stderr);
    });
  });
}
