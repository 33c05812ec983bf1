/** What is special about the compiled plugin: V8 without compilers, and bytecode made when it was built. */
import assert from "node:assert/strict";
import { asScripts } from "../scripts/bundle.ts";
import { PARTS } from "../scripts/compiled_plugin/modules.ts";
import { bundleModule, compileModule, root, writeForCompiler } from "../scripts/deno_tools.ts";
import { findDenort } from "../scripts/denort.ts";
import { createNamespace } from "../src/linux/topology.ts";
import { ApiServer } from "./support/api_server.ts";
import { makeAuthority } from "./support/certificates.ts";
import { compiledPlugin } from "./support/compiled.ts";
import { injectedPod } from "./support/pods.ts";
import { callPlugin, newContainerId } from "./support/runtime.ts";

const plugin = await compiledPlugin();
const target = `${Deno.build.arch}-unknown-linux-gnu`;

async function inFolder(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    await work(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

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
    await inFolder(async (folder) => {
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
  await inFolder(async (folder) => {
    // Where the runtime pretends that the executable's files are.
    const pretended = `${folder}/deno-compile-kuma-cni`;
    await Deno.mkdir(pretended);
    for (const name of ["plugin_start.js", "plugin_start.cache", "start.js"]) {
      await Deno.writeTextFile(`${pretended}/${name}`, "console.log('planted');");
    }
    const { code, stdout, stderr } = await outputOf(plugin, ["--version"], { TMPDIR: folder });
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^kuma-cni [0-9.]+\n$/);
  });
});

Deno.test("a program whose bytecode V8 refuses runs from its text", async () => {
  const { path: denort } = await findDenort(target, root, () => {});
  await inFolder(async (folder) => {
    const module = await bundleModule("scripts/compiled_plugin/start.ts", `${folder}/b`);
    const modules = new Map([
      ["./main.js", `import{a as x}from"./x.js";import("./y.js").then(({b:y})=>console.log(x,y));`],
      ["./x.js", `var a="from";export{a};`],
      ["./y.js", `import{a}from"./x.js";var text="the text";export{text as b};`],
    ]);
    const scripts = asScripts(modules, "./main.js");
    for (const [i, bytes] of [new Uint8Array(), new Uint8Array(64).fill(7)].entries()) {
      for (const part of PARTS) {
        await writeForCompiler(`${folder}/b/plugin_${part}.js`, scripts[part]);
        await writeForCompiler(`${folder}/b/plugin_${part}.cache`, bytes);
      }
      await compileModule({
        module,
        include: PARTS.flatMap((part) => [`plugin_${part}.js`, `plugin_${part}.cache`]),
        output: `${folder}/program${i}`,
        denort,
        target,
        permissions: ["--allow-read"],
        v8Flags: ["--jitless"],
      });
      const { stdout, stderr } = await outputOf(`${folder}/program${i}`, []);
      assert.equal(stdout, "from the text\n", stderr);
    }
  });
});
