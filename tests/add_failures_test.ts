/**
 * ADD of a meshed pod when something is wrong: each trouble gets its CNI error within its time bound,
 * and the pod's namespace stays untouched.
 */
import assert from "node:assert/strict";
import { createNamespace, type NamedNamespace } from "./support/topology.ts";
import { ApiServer, htmlFault } from "./support/api_server.ts";
import { makeAuthority } from "./support/certificates.ts";
import { AGENT_VARIABLE } from "./support/agent_way.ts";
import { pluginOfRuntime } from "./support/compiled.ts";
import { namespaceState } from "./support/namespace_state.ts";
import { listRuleset, nftScript } from "./support/nft.ts";
import { injectedPod, plainPod, type PodObject } from "./support/pods.ts";
import { callPlugin, newContainerId, type PluginAnswer } from "./support/runtime.ts";

const plugin = await pluginOfRuntime();

/** A meshed pod in a namespace of its own, and an API server that knows it. */
class Scene implements AsyncDisposable {
  private constructor(
    readonly pod: PodObject,
    readonly api: ApiServer,
    readonly namespace: NamedNamespace,
    readonly folder: string,
  ) {}

  static async make(pod: PodObject = injectedPod()): Promise<Scene> {
    const api = await ApiServer.start({ objects: [pod] });
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
    const namespace = createNamespace();
    await api.writeKubeconfig(`${folder}/kubeconfig`);
    return new Scene(pod, api, namespace, folder);
  }

  get kubeconfig(): string {
    return `${this.folder}/kubeconfig`;
  }

  get logFile(): string {
    return `${this.folder}/kuma-cni.d/kuma-cni.log`;
  }

  /** Calls ADD; the look-up's total bound is one second unless told. */
  async add(
    change: { netns?: string; uid?: string; network?: Record<string, unknown> } = {},
    command: "ADD" | "CHECK" = "ADD",
  ): Promise<PluginAnswer> {
    const { metadata } = this.pod;
    return await callPlugin(plugin, {
      command,
      containerId: newContainerId(),
      netns: change.netns ?? this.namespace.path,
      pod: {
        namespace: metadata.namespace ?? "",
        name: metadata.name,
        uid: change.uid ?? metadata.uid ?? "",
      },
      network: {
        cniVersion: "0.4.0",
        name: "bed",
        type: "kuma-cni",
        log_level: "info",
        lookup_timeout_seconds: 1,
        kubernetes: { kubeconfig: this.kubeconfig, exclude_namespaces: ["kuma-system"] },
        ...change.network,
      },
      prevResult: { cniVersion: "0.4.0", ips: [] },
    });
  }

  /** The log after its first characters: an agent writes what it tells of after it has answered. */
  async log(from = 0): Promise<string> {
    for (let i = 0;; i++) {
      try {
        const text = Deno.readTextFileSync(this.logFile).slice(from);
        if (text !== "") return text;
      } catch (error) {
        if (i === 200) throw error;
      }
      if (i === 200) return "";
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  state(): string {
    return this.namespace.run(namespaceState);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.namespace[Symbol.dispose]();
    await this.api.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Asserts the error, that it names the pod, its time bound, and that nothing was touched. */
async function assertFails(
  scene: Scene,
  wanted: { code: number; text: RegExp; withinMilliseconds?: number },
  change: Parameters<Scene["add"]>[0] = {},
): Promise<void> {
  const before = scene.state();
  const answer = await scene.add(change);
  assert.equal(answer.code, 1, answer.stdout);
  const error = JSON.parse(answer.stdout);
  assert.equal(error.code, wanted.code, answer.stdout);
  assert.match(`${error.msg}; ${error.details ?? ""}`, wanted.text);
  assert.match(error.msg, /demo\/app-1/);
  assert.equal(error.cniVersion, "0.4.0");
  assert.equal(answer.stderr, "");
  // An agent that is asked first has half a second for the API server.
  const more = Deno.env.has(AGENT_VARIABLE) ? 1000 : 0;
  const bound = (wanted.withinMilliseconds ?? 1000) + more;
  assert.ok(answer.milliseconds < bound, `took ${answer.milliseconds} ms, bound ${bound} ms`);
  assert.equal(scene.state(), before);
  assert.match(await scene.log(), /\tERROR\tkuma-cni\tADD failed: /);
}

const lookupTroubles: {
  name: string;
  code: number;
  text: RegExp;
  withinMilliseconds?: number;
  arrange: (scene: Scene) => void | Promise<void>;
}[] = [
  {
    name: "hangs",
    code: 11,
    text: /within/,
    withinMilliseconds: 2000,
    arrange: ({ api }) => api.inject({ kind: "hang" }),
  },
  {
    name: "resets the connection",
    code: 11,
    text: /.*/,
    withinMilliseconds: 2000,
    arrange: ({ api }) => api.inject({ kind: "close" }),
  },
  {
    name: "breaks off in the middle of the pod",
    code: 11,
    text: /.*/,
    withinMilliseconds: 2000,
    arrange: ({ api }) => api.inject({ kind: "cut", afterBytes: 500 }),
  },
  {
    name: "sends the pod a byte at a time",
    code: 11,
    text: /within/,
    withinMilliseconds: 2000,
    arrange: ({ api }) => api.inject({ kind: "trickle", bytes: 1, milliseconds: 20 }),
  },
  {
    name: "sends interim answers without end",
    code: 11,
    text: /more than 16 interim answers/,
    withinMilliseconds: 2000,
    arrange: ({ api }) =>
      api.inject({ kind: "endless", first: "", then: "HTTP/1.1 100 Continue\r\n\r\n" }),
  },
  {
    name: "sends chunks of one byte without end",
    code: 11,
    text: /within/,
    withinMilliseconds: 2000,
    arrange: ({ api }) =>
      api.inject({
        kind: "endless",
        first: "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" +
          "transfer-encoding: chunked\r\n\r\n",
        then: "1\r\n \r\n",
      }),
  },
  {
    name: "is down",
    code: 11,
    text: /refused/,
    withinMilliseconds: 2000,
    arrange: ({ api }) => api.close(),
  },
  {
    name: "is a proxy that answers HTML",
    code: 100,
    text: /text\/html/,
    arrange: ({ api }) => api.inject(htmlFault),
  },
  {
    name: "answers nonsense that calls itself JSON",
    code: 100,
    text: /not JSON/,
    arrange: ({ api }) => api.inject({ kind: "body", body: '{"kind":"Pod",' }),
  },
  {
    name: "answers a pod that is not UTF-8",
    code: 100,
    text: /not UTF-8/,
    arrange: ({ api, pod }) => {
      // Read loosely, the mark of a meshed pod would be another text, and the pod skipped.
      const text = JSON.stringify(pod)
        .replace('"kuma.io/sidecar-injected":"true"', '"kuma.io/sidecar-injected":"tr\u0001e"');
      assert.notEqual(text, JSON.stringify(pod));
      const body = new TextEncoder().encode(text.replace("\u0001", "\x01"));
      body[body.indexOf(1)] = 0xff;
      api.inject({ kind: "body", body });
    },
  },
  {
    name: "answers another pod",
    code: 100,
    text: /other/,
    arrange: ({ api }) =>
      api.inject({
        kind: "body",
        body: JSON.stringify(plainPod({ namespace: "demo", name: "other" })),
      }),
  },
  {
    name: "answers a pod that is not UTF-8",
    code: 100,
    text: /not UTF-8/,
    arrange: ({ api, pod }) => {
      const body = new TextEncoder().encode(JSON.stringify(pod));
      body[body.indexOf("t".charCodeAt(0), 200)] = 0xff;
      api.inject({ kind: "body", body });
    },
  },
  {
    name: "refuses the right",
    code: 100,
    text: /403.*get.*pods/s,
    arrange: ({ api }) => api.forbid("get", "pods"),
  },
  {
    name: "refuses the token",
    code: 11,
    text: /401.*token/s,
    withinMilliseconds: 2000,
    arrange: ({ api }) => void api.rotateToken(),
  },
  {
    name: "does not know the pod",
    code: 11,
    text: /404/,
    withinMilliseconds: 2000,
    arrange: ({ api }) => api.inject({ kind: "status", code: 404, reason: "NotFound" }),
  },
  {
    name: "asks for patience",
    code: 11,
    text: /429/,
    withinMilliseconds: 2000,
    arrange: ({ api }) => api.inject({ kind: "status", code: 429, retryAfterSeconds: 60 }),
  },
  ...[500, 503, 504].map((code) => ({
    name: `answers ${code}`,
    code: 11,
    text: new RegExp(`${code}`),
    withinMilliseconds: 2000,
    arrange: ({ api }: Scene) => api.inject({ kind: "status", code }),
  })),
  {
    name: "has a certificate of somebody else",
    code: 100,
    text: /certificate/,
    arrange: async ({ api, kubeconfig }) => {
      const { certificate } = await makeAuthority("somebody else");
      Deno.writeTextFileSync(kubeconfig, api.kubeconfig({ certificateAuthority: certificate }));
    },
  },
];

for (const { name, arrange, ...wanted } of lookupTroubles) {
  Deno.test(`ADD fails with code ${wanted.code} when the API server ${name}`, async () => {
    await using scene = await Scene.make(injectedPod({ name: "app-1" }));
    await arrange(scene);
    await assertFails(scene, wanted);
  });
}

Deno.test("ADD fails when there is no usable kubeconfig", async () => {
  await using scene = await Scene.make();
  await assertFails(scene, { code: 7, text: /kubernetes\.kubeconfig/ }, {
    network: { kubernetes: {}, agent: { socket: `${scene.folder}/kuma-cni.d/agent.sock` } },
  });
  Deno.writeTextFileSync(scene.kubeconfig, "clusters: {[");
  await assertFails(scene, { code: 100, text: /kubeconfig/ });
  Deno.removeSync(scene.kubeconfig);
  await assertFails(scene, { code: 100, text: /does not exist; is install-cni running/ });
});

Deno.test("ADD fails when the pod with that name is not the one that starts", async () => {
  await using scene = await Scene.make();
  const wanted = { code: 11, text: /uid/i, withinMilliseconds: 2000 };
  await assertFails(scene, wanted, { uid: crypto.randomUUID() });
});

Deno.test("ADD heals what heals within its bound", async () => {
  await using scene = await Scene.make();
  scene.api.inject({ kind: "status", code: 503 }, { times: 1 });
  scene.api.inject({ kind: "close" }, { times: 1 });
  const answer = await scene.add({ network: { lookup_timeout_seconds: 10 } });
  assert.equal(answer.code, 0, answer.stdout);
  assert.equal(answer.stdout, '{"cniVersion":"0.4.0","ips":[]}');
});

Deno.test("ADD of a pod of two megabytes succeeds, meshed or not", async () => {
  for (const make of [injectedPod, plainPod]) {
    await using scene = await Scene.make(make({ padBytes: 2 * 1024 * 1024 }));
    const before = scene.state();
    const answer = await scene.add();
    assert.equal(answer.code, 0, answer.stdout);
    assert.equal(scene.state() === before, make === plainPod);
  }
});

Deno.test("ADD fails with code 8 when CNI_NETNS is not a network namespace of a pod", async () => {
  await using scene = await Scene.make();
  Deno.writeTextFileSync(`${scene.folder}/plain`, "");
  const wrong: [string, RegExp][] = [
    [`${scene.folder}/missing`, /missing/],
    [`${scene.folder}/plain`, /plain/],
    [scene.folder, /directory/],
    ["/proc/self/ns/uts", /uts/],
    ["/dev/null", /null/],
    ["/proc/self/ns/net", /own network namespace/],
  ];
  for (const [netns, text] of wrong) await assertFails(scene, { code: 8, text }, { netns });
});

Deno.test("ADD fails with code 7 when the pod's annotations ask for what cannot be done", async () => {
  const annotations = { "kuma.io/transparent-proxying-outbound-port": "99999" };
  await using scene = await Scene.make(injectedPod({ annotations }));
  await assertFails(scene, { code: 7, text: /transparent-proxying-outbound-port/ });
});

Deno.test("ADD honours what the administrator allows, and tells of mistakes in it", async () => {
  const annotations = { "kuma.io/sidecar-uid": "0" };
  await using scene = await Scene.make(injectedPod({ annotations }));
  await assertFails(scene, { code: 7, text: /sidecar-uid/ });
  const before = (await scene.log()).length;
  const allowed = { allow_pod_settings: ["kumaDPUser", "kumaDpUsr"] };
  const answer = await scene.add({ network: allowed });
  assert.equal(answer.code, 0, answer.stdout);
  assert.match(await scene.log(before), /\tWARN\t.*allow_pod_settings.*"kumaDpUsr"/);
});

Deno.test("No trouble of ours stops a pod that is known not to be meshed", async () => {
  await using scene = await Scene.make(injectedPod({ namespace: "kuma-system" }));
  await scene.api.close();
  Deno.removeSync(scene.kubeconfig);
  for (const netns of ["/nowhere", "/proc/self/ns/net"]) {
    const answer = await scene.add({ netns });
    assert.equal(answer.code, 0, answer.stdout);
    assert.ok(answer.milliseconds < 1000);
  }
  const log = await scene.log();
  assert.match(log, /\tINFO\tkuma-cni\t.*skipped.*kuma-system/);
});

Deno.test("CHECK and a second ADD agree with the first ADD", async () => {
  await using scene = await Scene.make();
  const missing = await scene.add({}, "CHECK");
  assert.equal(JSON.parse(missing.stdout).code, 102, missing.stdout);
  assert.equal((await scene.add()).code, 0);
  const check = await scene.add({}, "CHECK");
  assert.deepEqual([check.code, check.stdout], [0, ""]);
  assert.equal((await scene.add()).code, 0);
  assert.equal((await scene.add({}, "CHECK")).code, 0);
});

Deno.test("the debug log tells which form of the DNS rules was taken and why, and no manifest", async () => {
  const pod = injectedPod({
    annotations: { "kubectl.kubernetes.io/last-applied-configuration": "s3cr3t" },
  });
  pod.spec.containers[0]!.env = [{ name: "KUMA_DNS_PROXY_PORT", value: "15053" }];
  await using scene = await Scene.make(pod);
  const answer = await scene.add({ network: { log_level: "debug", engine: "nftables" } });
  assert.equal(answer.code, 0, answer.stdout);
  const log = await scene.log();
  assert.match(
    log,
    /"dnsOverTcp":\{"form":"3","because":"KUMA_DNS_PROXY_PORT of container kuma-sidecar"\}/,
  );
  assert.match(log, /"kuma\.io\/sidecar-injected":"true"/);
  assert.doesNotMatch(log, /s3cr3t|last-applied/);
});

Deno.test("Logs never fail a pod, and log_level decides about them", async () => {
  await using scene = await Scene.make();
  const answers: PluginAnswer[] = [];
  answers.push(await scene.add({ network: { log_level: "off" } }));
  assert.throws(() => Deno.statSync(scene.logFile), Deno.errors.NotFound);
  answers.push(await scene.add({ network: { log_level: "info" } }));
  const info = await scene.log();
  assert.match(info, /redirected/);
  assert.ok(!info.includes("\tDEBUG\t"));
  answers.push(await scene.add({ network: { log_level: "debug" } }));
  const debug = await scene.log(info.length);
  assert.match(debug, /\tDEBUG\t.*annotations/);
  assert.ok(!debug.includes(scene.api.token), "the token is in the log");
  Deno.removeSync(scene.logFile);
  Deno.mkdirSync(scene.logFile);
  answers.push(await scene.add({ network: { log_level: "debug" } }));
  for (const answer of answers) {
    assert.equal(answer.stdout, '{"cniVersion":"0.4.0","ips":[]}');
    assert.deepEqual([answer.code, answer.stderr], [0, ""]);
  }
});

Deno.test("CHECK shows foreign rules in bounded length", async () => {
  await using scene = await Scene.make();
  assert.equal((await scene.add()).code, 0);
  const [, chain] = /chain (\S*KUMA_MESH_OUTBOUND) /.exec(listRuleset(scene.namespace)) ?? [];
  const rule = `add rule inet kuma_mesh ${chain} ${"counter ".repeat(100)}accept\n`;
  nftScript(scene.namespace, rule.repeat(20));
  const { code, stdout } = await scene.add({}, "CHECK");
  assert.equal(code, 1);
  const { code: cniCode, details } = JSON.parse(stdout);
  assert.equal(cniCode, 102);
  assert.match(details, /and 10 more/);
  assert.ok(stdout.length < 10_000, `${stdout.length} characters`);
});

const oddKubeconfigs: Record<string, (path: string) => void> = {
  "a FIFO": (path) => void new Deno.Command("mkfifo", { args: [path] }).outputSync(),
  "a link to /dev/zero": (path) => Deno.symlinkSync("/dev/zero", path),
  "a folder": (path) => Deno.mkdirSync(path),
  "of a TiB": (path) => {
    Deno.writeTextFileSync(path, "");
    Deno.truncateSync(path, 2 ** 40);
  },
};

for (const [what, make] of Object.entries(oddKubeconfigs)) {
  Deno.test(`a kubeconfig that is ${what} ends ADD at once`, async () => {
    await using scene = await Scene.make();
    Deno.removeSync(scene.kubeconfig);
    make(scene.kubeconfig);
    await assertFails(scene, {
      code: 100,
      text: /kubeconfig": the file cannot be read: .* it is (a |larger)/,
    });
  });
}
