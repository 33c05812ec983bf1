/** The CNI protocol over real stdin and stdout, played against the compiled plugin. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { supportedVersions } from "../src/cni/versions.ts";
import { AGENT_VARIABLE } from "./support/agent_way.ts";
import { pluginOfRuntime } from "./support/compiled.ts";

const plugin = await pluginOfRuntime();
const encoder = new TextEncoder();
const decoder = new TextDecoder();

const entry = new URL("../main.ts", import.meta.url).pathname;

const POD = "IgnoreUnknown=1;K8S_POD_NAMESPACE=kuma-system;K8S_POD_NAME=app-0;K8S_POD_UID=7d0c";

interface Run {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly milliseconds: number;
}

/** Runs the plugin with a complete environment, changed by `change`; `undefined` unsets. */
async function run(
  command: string | undefined,
  stdin: string | Uint8Array | undefined,
  change: Readonly<Record<string, string | undefined>> = {},
  args: readonly string[] = [],
): Promise<Run> {
  const variables = {
    CNI_COMMAND: command,
    CNI_CONTAINERID: "e96a5a12",
    CNI_NETNS: "/var/run/netns/cni-that-is-gone",
    CNI_IFNAME: "eth0",
    CNI_PATH: "/opt/cni/bin",
    CNI_ARGS: POD,
    ...change,
  };
  const env = Object.fromEntries(
    Object.entries(variables).filter((pair): pair is [string, string] => pair[1] !== undefined),
  );
  const started = performance.now();
  const child = new Deno.Command(plugin, {
    args: [...args],
    env,
    clearEnv: true,
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const output = child.output();
  if (stdin !== undefined) {
    const writer = child.stdin.getWriter();
    try {
      await writer.write(typeof stdin === "string" ? encoder.encode(stdin) : stdin);
      await writer.close();
    } catch {
      // The plugin need not read all of a stdin that it refuses.
    }
  }
  const { code, stdout, stderr } = await output;
  return {
    code,
    stdout: decoder.decode(stdout),
    stderr: decoder.decode(stderr),
    milliseconds: performance.now() - started,
  };
}

function config(cniVersion: string | undefined, more: Record<string, unknown> = {}): string {
  return JSON.stringify({
    cniVersion,
    name: "bed",
    type: "kuma-cni",
    kubernetes: { exclude_namespaces: ["kuma-system"] },
    ...more,
  });
}

function assertError(result: Run, code: number): { msg: string; details?: string } {
  assert.equal(result.code, 1, result.stdout + result.stderr);
  const object = JSON.parse(result.stdout);
  assert.equal(object.code, code, result.stdout);
  assert.equal(result.stderr, "");
  return object;
}

Deno.test("The binary answers VERSION, with and without a stdin", async () => {
  for (const stdin of [undefined, "", '{"cniVersion":"1.0.0"}', "nonsense"]) {
    const result = await run("VERSION", stdin, { CNI_PATH: undefined, CNI_ARGS: undefined });
    assert.equal(result.code, 0);
    const answer = { cniVersion: "1.1.0", supportedVersions: supportedVersions() };
    assert.deepEqual(JSON.parse(result.stdout), answer);
  }
});

Deno.test("The binary introduces itself to a person", async () => {
  const bare = await run(undefined, undefined);
  assert.deepEqual([bare.code, bare.stdout], [0, ""]);
  assert.match(bare.stderr, /^kuma-cni \d+\.\d+\.\d+\n.*0\.1\.0, .*1\.1\.0\n$/);
  const version = await run(undefined, undefined, {}, ["--version"]);
  assert.match(version.stdout, /^kuma-cni \d+\.\d+\.\d+ \((commit|unknown) [^)]+\)\n$/);
  const help = await run(undefined, undefined, {}, ["--help"]);
  assert.match(help.stdout, /CNI_COMMAND/);
  assert.equal((await run(undefined, undefined, {}, ["--nonsense"])).code, 1);
  const asPlugin = await run("VERSION", undefined, {}, ["--help"]);
  assert.equal(JSON.parse(asPlugin.stdout).cniVersion, "1.1.0");
});

Deno.test("The binary names all missing variables and refuses unknown commands", async () => {
  const none = {
    CNI_CONTAINERID: undefined,
    CNI_NETNS: undefined,
    CNI_IFNAME: "",
    CNI_PATH: undefined,
  };
  const { msg } = assertError(await run("ADD", config("1.0.0"), none), 4);
  for (const name of Object.keys(none)) assert.ok(msg.includes(name), msg);
  assert.ok(!assertError(await run("DEL", config("1.0.0"), none), 4).msg.includes("CNI_NETNS"));
  assertError(await run("UPDATE", config("1.0.0")), 4);
});

Deno.test("The binary serves every verb in every version", async () => {
  for (const [index, version] of supportedVersions().entries()) {
    const stdin = config(version);
    const empty = index >= 5 ? { cniVersion: version } : { cniVersion: version, dns: {} };
    const add = await run("ADD", stdin);
    assert.deepEqual([add.code, JSON.parse(add.stdout), add.stderr], [0, empty, ""]);
    for (const [verb, since] of [["DEL", 0], ["CHECK", 4], ["GC", 6], ["STATUS", 6]] as const) {
      const result = await run(verb, stdin);
      if (index < since) assertError(result, 1);
      else assert.deepEqual([result.code, result.stdout, result.stderr], [0, "", ""], verb);
    }
  }
});

Deno.test("The binary returns prevResult of an excluded namespace byte for byte", async () => {
  const previous =
    `{"zone":"\\u00fc\\ud83d\\ude00ü😀","n":123456789012345678901234567890, "e":1e400,
    "f":0.10,"ips":[{"interface":2,"address":"10.90.0.3/24"}],"cniVersion":"1.0.0","a":{ },
    "a":null,"interfaces":[{"name":"eth0","sandbox":"/x","mtu":1500,"future":{"x":[]}}] }`;
  for (const namespace of ["kuma-system", ""]) {
    const stdin = `{"prevResult":${previous},"name":"bed","cniVersion":"1.0.0",` +
      `"kubernetes":{"exclude_namespaces":["kuma-system"],"kubeconfig":"/nowhere/kubeconfig"}}`;
    const result = await run("ADD", stdin, {
      CNI_ARGS: `K8S_POD_NAME=app-0;K8S_POD_NAMESPACE=${namespace}`,
    });
    assert.equal(result.stdout, previous);
    assert.equal(result.code, 0);
  }
});

Deno.test("The binary passes a prevResult of megabytes through a pipe", async () => {
  const previous = JSON.stringify({ cniVersion: "1.0.0", pad: "é".repeat(1_500_000) });
  const result = await run("ADD", `{"name":"bed","cniVersion":"1.0.0","prevResult":${previous}}`, {
    CNI_ARGS: "",
  });
  assert.ok(result.stdout === previous, "stdout differs from prevResult");
  assert.equal(result.code, 0);
});

Deno.test("DEL succeeds five times, whatever is gone", async () => {
  const changes: [Record<string, string | undefined>, Record<string, unknown>][] = [
    [{}, { prevResult: { cniVersion: "0.4.0", ips: [] } }],
    [{ CNI_NETNS: "" }, {}],
    [{ CNI_NETNS: undefined }, { prevResult: "odd" }],
    [{ CNI_NETNS: "/proc/self/ns/net" }, { log_level: "nonsense", kubernetes: 5 }],
    [{ CNI_ARGS: "nonsense" }, { kubernetes: { kubeconfig: "/nowhere" } }],
  ];
  for (const [change, more] of changes) {
    const result = await run("DEL", config("0.4.0", more), change);
    assert.deepEqual([result.code, result.stdout, result.stderr], [0, "", ""]);
  }
});

Deno.test("Bad stdin gets the right code from the binary", async () => {
  const whole = config("1.0.0");
  const cases: [string | undefined, number][] = [
    [undefined, 6],
    ["", 6],
    [whole.slice(0, -2), 6],
    ["not json", 6],
    ["[]", 7],
    ['{"cniVersion":"1.0.0"}', 7],
    [config("3.0.0"), 1],
    [config("1.0.0", { prevResult: 1 }), 7],
    [config("1.0.0", { log_level: 1 }), 7],
    [config("1.0.0", { kubernetes: { exclude_namespaces: "kuma-system" } }), 7],
  ];
  for (const [stdin, code] of cases) assertError(await run("ADD", stdin), code);
});

Deno.test("Newlines and other oddities in CNI_ARGS are code 4", async () => {
  const odd = [
    "K8S_POD_NAMESPACE=demo;K8S_POD_NAME=app\n0",
    "K8S_POD_NAMESPACE=demo;K8S_POD_NAME=../../secrets/x",
    "K8S_POD_NAMESPACE=demo\n;K8S_POD_NAME=app",
    "K8S_POD_NAMESPACE=demo;K8S_POD_NAME=app;K8S_POD_UID=a\tb",
    "K8S_POD_NAMESPACE=demo;K8S_POD_NAME",
    "K8S_POD_NAMESPACE=demo;K8S_POD_NAME=app;NEW=1",
  ];
  for (const text of odd) {
    assertError(await run("ADD", config("1.0.0"), { CNI_ARGS: text }), 4);
  }
});

Deno.test("Ten megabytes of stdin are refused quickly", async () => {
  const result = await run("ADD", config("1.0.0", { pad: "x".repeat(10_000_000) }));
  assert.match(assertError(result, 6).msg, /longer than 8388608 bytes/);
  assert.ok(result.milliseconds < 3000, `${result.milliseconds} ms`);
});

Deno.test("A stdin that is never closed ends in an error, not in a hanging pod", async () => {
  const env = {
    CNI_COMMAND: "ADD",
    CNI_CONTAINERID: "x",
    CNI_NETNS: "/x",
    CNI_IFNAME: "eth0",
    CNI_PATH: "/x",
  };
  const started = performance.now();
  const child = new Deno.Command(plugin, {
    env,
    clearEnv: true,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(encoder.encode(config("1.0.0")));
  const { code, stdout } = await child.output();
  const took = performance.now() - started;
  await writer.abort().catch(() => {});
  assert.equal(code, 1);
  assert.equal(JSON.parse(decoder.decode(stdout)).code, 5);
  // The shim has waited before, when an agent was there to be asked.
  const bound = Deno.env.has(AGENT_VARIABLE) ? 25_000 : 15_000;
  assert.ok(took > 9_000 && took < bound, `${took} ms`);
});

Deno.test("A stdout that nobody reads makes the call fail, without a crash", async () => {
  const child = new Deno.Command(plugin, {
    env: {
      CNI_COMMAND: "ADD",
      CNI_CONTAINERID: "x",
      CNI_NETNS: "/x",
      CNI_IFNAME: "eth0",
      CNI_PATH: "/x",
    },
    clearEnv: true,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  await child.stdout.cancel();
  const writer = child.stdin.getWriter();
  await writer.write(encoder.encode(config("1.0.0")));
  await writer.close();
  const [status, stderr] = await Promise.all([child.status, child.stderr.text()]);
  assert.deepEqual([status.code, status.signal, stderr], [1, null, ""]);
});

Deno.test("A panic becomes one error object, whatever happens afterwards", async () => {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    const panics = [
      'Promise.reject(new Error("boom", { cause: "inner" }));',
      'throw new Error("boom", { cause: "inner" });',
    ];
    for (const panic of panics) {
      // While the plugin waits for the node agent.
      await Deno.writeTextFile(
        `${folder}/panic.ts`,
        `Deno.connect = () => {
          setInterval(() => { ${panic} }, 5);
          return new Promise(() => {});
        };`,
      );
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--quiet", `--preload=${folder}/panic.ts`, entry],
        env: {
          CNI_COMMAND: "ADD",
          CNI_CONTAINERID: "x",
          CNI_NETNS: "/x",
          CNI_IFNAME: "eth0",
          CNI_PATH: "/x",
          CNI_ARGS: "K8S_POD_NAMESPACE=demo;K8S_POD_NAME=app",
        },
        stdin: "piped",
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const config = { cniVersion: "0.4.0", name: "n", type: "kuma-cni", agent: { socket: "/x" } };
      const writer = child.stdin.getWriter();
      await writer.write(new TextEncoder().encode(JSON.stringify(config)));
      await writer.close();
      const { code, stdout } = await child.output();
      assert.equal(code, 1);
      assert.equal(decoder.decode(stdout), '{"code":999,"msg":"boom: inner"}\n');
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("STATUS tells of what cannot heal, and of nothing else", async () => {
  const hopeless = [
    { log_level: "loud" },
    { kubernetes: { kubeconfig: "relative/path" } },
    { lookup_timeout_seconds: -1 },
  ];
  for (const more of hopeless) {
    assert.match(assertError(await run("STATUS", config("1.1.0", more)), 50).msg, /must be/);
  }
  const away = { kubernetes: { kubeconfig: "/nowhere/x" }, agent: { socket: "/nowhere/y" } };
  const result = await run("STATUS", config("1.1.0", away));
  assert.deepEqual([result.code, result.stdout], [0, ""]);
});

Deno.test("Whatever comes, the binary puts out one JSON object or nothing, and exits 0 or 1", async () => {
  const variable = fc.oneof(
    fc.constant(undefined),
    fc.string({ unit: "grapheme", maxLength: 12 }).map((text) => text.replaceAll("\0", "")),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("ADD", "DEL", "CHECK", "GC", "STATUS"),
      fc.record({ CNI_CONTAINERID: fc.oneof(variable, fc.constant("c")), CNI_ARGS: variable }),
      fc.oneof(
        fc.uint8Array({ maxLength: 60 }),
        fc.record({
          cniVersion: fc.constantFrom(...supportedVersions(), "7"),
          name: fc.constantFrom("bed", "", "-"),
          prevResult: fc.jsonValue(),
          log_level: fc.constantFrom("off", "info", 1),
        }).map((value) => encoder.encode(JSON.stringify(value))),
      ),
      async (command, change, stdin) => {
        const result = await run(command, stdin, change);
        assert.equal(result.stderr, "");
        if (result.code === 0 && command !== "ADD") {
          assert.equal(result.stdout, "");
        } else {
          const object = JSON.parse(result.stdout);
          assert.ok(typeof object === "object" && object !== null);
          assert.ok(result.code === 0 || (result.code === 1 && typeof object.code === "number"));
        }
      },
    ),
    { numRuns: 80 },
  );
});
