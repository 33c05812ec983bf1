/** The CNI protocol, in one process: the same tables over every version of the specification. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { CniError, CniErrorCode } from "../src/cni/errors.ts";
import { parseCniArgs, podReferenceOf } from "../src/cni/args.ts";
import { topLevelValueSpan } from "../src/json/span.ts";
import { parseNetworkConfig } from "../src/cni/network_config.ts";
import { readPluginSettings } from "../src/cni/plugin_settings.ts";
import { type Handlers, type ProcessOutput, serve } from "../src/cni/serve.ts";
import { networkSettings, readSettings } from "../src/cni/settings.ts";
import { readInput } from "../src/cni/stdin.ts";
import { isSupportedVersion, supportedVersions } from "../src/cni/versions.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

const ENVIRONMENT: Readonly<Record<string, string>> = {
  CNI_CONTAINERID: "e96a5a12",
  CNI_NETNS: "/var/run/netns/cni-5e38c98a",
  CNI_IFNAME: "eth0",
  CNI_PATH: "/opt/cni/bin",
};

/** Plays one call; `calls` collects which handlers ran. */
async function play(
  environment: Readonly<Record<string, string | undefined>>,
  stdin: string | Uint8Array,
  handlers: Partial<Handlers> = {},
): Promise<ProcessOutput & { text: string; calls: string[] }> {
  const calls: string[] = [];
  const note = (name: string) => () => void calls.push(name);
  const answer = await serve({
    variable: (name) => environment[name],
    input: () => Promise.resolve(typeof stdin === "string" ? encoder.encode(stdin) : stdin),
    about: "kuma-cni 1.2.3",
  }, { add: note("ADD"), check: note("CHECK"), status: note("STATUS"), ...handlers });
  return { ...answer, text: decoder.decode(answer.stdout), calls };
}

function config(cniVersion: string | undefined, more: Record<string, unknown> = {}): string {
  return JSON.stringify({ cniVersion, name: "bed", type: "kuma-cni", ...more });
}

/** Asserts that an answer is exactly one error object with this code, and returns it. */
function assertFailure(answer: ProcessOutput, code: number): { msg: string; details?: string } {
  assert.equal(answer.exitCode, 1);
  const object = JSON.parse(decoder.decode(answer.stdout));
  assert.equal(object.code, code, JSON.stringify(object));
  assert.equal(typeof object.msg, "string");
  assert.notEqual(object.msg, "");
  return object;
}

for (const version of [...supportedVersions(), undefined]) {
  const shown = version ?? "none (0.1.0)";
  const at = supportedVersions().indexOf(version ?? "0.1.0");

  Deno.test(`cniVersion ${shown}: ADD without prevResult gives an empty result`, async () => {
    const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: "ADD" }, config(version));
    assert.equal(answer.exitCode, 0);
    assert.deepEqual(answer.calls, ["ADD"]);
    assert.equal(
      answer.text,
      at >= 5 ? `{"cniVersion":"${version}"}` : `{"cniVersion":"${version ?? "0.1.0"}","dns":{}}`,
    );
  });

  Deno.test(`cniVersion ${shown}: ADD returns prevResult byte for byte`, async () => {
    const previous = ` { "zeta" : 12345678901234567890.10, "ips":[{"version":"", "x":-0e5}],
      "cniVersion":"${version ?? "0.1.0"}","a":"\\u00e9é\\ud83d", "dns":{ } }`.trim();
    const stdin = `\n{"name":"bed","prevResult":{"old":1},"n":"\\"prevResult\\":{}",` +
      `"prev\\u0052esult" :\t${previous} ,"nested":{"prevResult":{"no":1}}` +
      (version === undefined ? "}" : `,"cniVersion":"${version}"}\n`);
    const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: "ADD" }, stdin);
    assert.equal(answer.text, previous);
    assert.equal(answer.exitCode, 0);
  });

  Deno.test(`cniVersion ${shown}: DEL succeeds whatever is missing or wrong`, async () => {
    for (const netns of ["/var/run/netns/gone", "", undefined]) {
      for (const prevResult of [undefined, null, {}, 5, "x", [1]]) {
        const stdin = config(version, { prevResult, log_level: 5, kubernetes: [] });
        const environment = {
          ...ENVIRONMENT,
          CNI_COMMAND: "DEL",
          CNI_NETNS: netns,
          CNI_ARGS: "\n",
        };
        const answer = await play(environment, stdin);
        assert.deepEqual([answer.exitCode, answer.text, answer.calls], [0, "", []]);
      }
    }
  });

  Deno.test(`cniVersion ${shown}: CHECK exists since 0.4.0, GC and STATUS since 1.1.0`, async () => {
    const first = { CHECK: 4, GC: 6, STATUS: 6 };
    for (const [verb, since] of Object.entries(first)) {
      const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: verb }, config(version));
      if (at < since) {
        assertFailure(answer, CniErrorCode.IncompatibleVersion);
        assert.deepEqual(answer.calls, []);
      } else {
        assert.deepEqual([answer.exitCode, answer.text], [0, ""]);
        assert.deepEqual(answer.calls, verb === "GC" ? [] : [verb]);
      }
    }
  });

  Deno.test(`cniVersion ${shown}: a failed ADD names the version that it was asked in`, async () => {
    const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: "ADD" }, config(version), {
      add: () => {
        throw new CniError(CniErrorCode.TryAgainLater, "Not now", "Later");
      },
    });
    assert.deepEqual(JSON.parse(answer.text), {
      cniVersion: version ?? "0.1.0",
      code: 11,
      msg: "Not now",
      details: "Later",
    });
  });
}

Deno.test("An empty cniVersion means 0.1.0, like an absent one", async () => {
  const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: "ADD" }, config(""));
  assert.equal(answer.text, '{"cniVersion":"0.1.0","dns":{}}');
});

Deno.test("VERSION lists all versions without reading stdin", async () => {
  const answer = await serve({
    variable: (name) => name === "CNI_COMMAND" ? "VERSION" : undefined,
    input: () => Promise.reject(new Error("read")),
    about: "",
  }, { add() {}, check() {}, status() {} });
  assert.equal(
    decoder.decode(answer.stdout).trim(),
    '{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}',
  );
  assert.equal(answer.exitCode, 0);
});

Deno.test("Without CNI_COMMAND the program introduces itself on stderr", async () => {
  for (const command of [undefined, ""]) {
    const answer = await play({ CNI_COMMAND: command }, "");
    assert.equal(answer.text, "");
    assert.equal(answer.exitCode, 0);
    assert.equal(
      answer.stderr,
      "kuma-cni 1.2.3\nCNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
    );
  }
});

Deno.test("All missing variables of a verb are named at once", async () => {
  const required: Record<string, string[]> = {
    ADD: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
    CHECK: ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"],
    DEL: ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"],
    GC: ["CNI_PATH"],
    STATUS: ["CNI_PATH"],
  };
  for (const [verb, names] of Object.entries(required)) {
    const { msg } = assertFailure(await play({ CNI_COMMAND: verb }, ""), 4);
    for (const name of names) assert.ok(msg.includes(name), msg);
    for (const name of names) {
      const environment = { ...ENVIRONMENT, CNI_COMMAND: verb, [name]: "" };
      const one = assertFailure(await play(environment, config("1.1.0")), 4).msg;
      assert.deepEqual(names.filter((other) => one.includes(other)), [name]);
    }
  }
});

Deno.test("Malformed environment is code 4", async () => {
  const wrong: Record<string, string>[] = [
    { CNI_COMMAND: "add" },
    { CNI_COMMAND: "ADD\n" },
    { CNI_COMMAND: "UPDATE" },
    ...["-x", "a/b", "a b", "a\n", "é", ".."].map((id) => ({ CNI_CONTAINERID: id })),
    ...["a".repeat(16), "é".repeat(8), ".", "..", "a/b", "a:b", "a b", "a\tb", "a\u00a0b"]
      .map((name) => ({ CNI_IFNAME: name })),
  ];
  for (const change of wrong) {
    const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: "ADD", ...change }, config("1.0.0"));
    assertFailure(answer, 4);
    assert.deepEqual(answer.calls, []);
  }
  const longest = { ...ENVIRONMENT, CNI_COMMAND: "ADD", CNI_IFNAME: "a".repeat(15) };
  assert.equal((await play(longest, config("1.0.0"))).exitCode, 0);
});

Deno.test("What is no JSON is code 6, what is no network configuration is code 7", async () => {
  const whole = config("1.0.0", { prevResult: { a: 1 } });
  const cases: [string | Uint8Array, number][] = [
    ["", 6],
    [whole.slice(0, -1), 6],
    [whole.slice(0, 20), 6],
    [whole + "x", 6],
    ["\ufeff" + whole, 6],
    [new Uint8Array([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 6],
    ["[".repeat(100_000), 6],
    ["null", 7],
    ["[]", 7],
    ['"text"', 7],
    ["{}", 7],
    ['{"name":""}', 7],
    ['{"name":5}', 7],
    ['{"name":"-bed"}', 7],
    ['{"name":"bed\\n"}', 7],
    ['{"name":"bed","cniVersion":1}', 7],
    ['{"name":"bed","type":[]}', 7],
    ['{"name":"bed","prevResult":[]}', 7],
    ['{"name":"bed","prevResult":"x"}', 7],
    ['{"name":"bed","prevResult":0}', 7],
    ['{"name":"bed","cniVersion":"1.2.0"}', 1],
    ['{"name":"bed","cniVersion":"0.4"}', 1],
    ['{"name":"bed","cniVersion":" "}', 1],
  ];
  for (const [stdin, code] of cases) {
    const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: "ADD" }, stdin);
    assertFailure(answer, code);
    assert.deepEqual(answer.calls, []);
  }
});

Deno.test("An unsupported version is answered with the supported ones", async () => {
  const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: "DEL" }, config("2.0.0"));
  const { details } = assertFailure(answer, 1);
  assert.match(details ?? "", /"2\.0\.0".*"0\.1\.0".*"1\.1\.0"/);
});

Deno.test("A decoding error does not quote the configuration, which can hold a token", async () => {
  const stdin = '{"name":"bed","token":"s3cr3t" oops}';
  const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: "ADD" }, stdin);
  assertFailure(answer, 6);
  assert.ok(!answer.text.includes("s3cr3t"), answer.text);
  assert.match(answer.text, /position 31/);
  // V8 tells what stands round a word that it does not know.
  for (
    const text of ['{"t":["s3cr3t",oops]}', `{"name":"${"n".repeat(60)}","t":["s3cr3t",oops]}`]
  ) {
    assert.throws(() => JSON.parse(text), /s3cr3t/);
    const { text: told } = await play({ ...ENVIRONMENT, CNI_COMMAND: "ADD" }, text);
    assert.ok(!told.includes("s3cr3t") && told.includes("Unexpected token"), told);
  }
});

Deno.test("Whatever a handler throws becomes one error object", async () => {
  const chain = new Error("outer", { cause: new Error("inner", { cause: "cause" }) });
  const thrown: [unknown, string][] = [
    [chain, "outer: inner: cause"],
    [new RangeError(""), "RangeError"],
    ["text", "text"],
    [undefined, "Unknown error"],
    [null, "Unknown error"],
    [Object.create(null), "A thrown object without a text form"],
  ];
  for (const [value, msg] of thrown) {
    const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: "ADD" }, config("1.0.0"), {
      add: () => Promise.reject(value),
    });
    assert.equal(assertFailure(answer, 999).msg, msg);
  }
});

Deno.test("CNI_ARGS are read in any order", () => {
  const pairs = [
    "IgnoreUnknown=1",
    "K8S_POD_NAMESPACE=demo",
    "K8S_POD_NAME=app-0",
    "K8S_POD_UID=7d0c",
    "K8S_POD_INFRA_CONTAINER_ID=e96a",
    "OTHER=a=b",
    "",
  ];
  const expected = {
    podNamespace: "demo",
    podName: "app-0",
    podUid: "7d0c",
    infraContainerId: "e96a",
  };
  fc.assert(fc.property(
    fc.shuffledSubarray(pairs, { minLength: pairs.length }),
    (order) => assert.deepEqual(parseCniArgs(order.join(";")), expected),
  ));
  assert.deepEqual(parseCniArgs(""), {});
  assert.deepEqual(parseCniArgs("K8S_POD_NAME=;IP=10.0.0.1"), { ip: "10.0.0.1" });
  assert.deepEqual(parseCniArgs("K8S_POD_NAME=a;K8S_POD_NAME=a"), { podName: "a" });
});

Deno.test("Malformed CNI_ARGS are code 4", () => {
  const wrong = [
    "K8S_POD_NAME",
    "=x",
    "K8S_POD_NAME=a;K8S_POD_NAME=b",
    "K8S_POD_NAMESPACE=a;K8S_POD_NAMESPACE=b",
    "K8S_POD_UID=a;K8S_POD_UID=;K8S_POD_UID=b",
    "IgnoreUnknown=1;IgnoreUnknown=yes",
    "IgnoreUnknown=0;IgnoreUnknown=false;UNKNOWN=1",
    "UNKNOWN=1",
    "IgnoreUnknown=0;UNKNOWN=1",
    "IgnoreUnknown=yes",
    "ignoreunknown=1",
  ];
  for (const text of wrong) assert.throws(() => parseCniArgs(text), { code: 4 }, text);
});

Deno.test("CNI_ARGS may say a thing twice, as thin Multus does", () => {
  const pod = { podNamespace: "kube-system", podName: "a" };
  const rows: [string, ReturnType<typeof parseCniArgs>][] = [
    ["IgnoreUnknown=true;K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=a;IgnoreUnknown=1", pod],
    [
      "IgnoreUnknown=1;X=1;IgnoreUnknown=0;X=2;K8S_POD_NAME=a;K8S_POD_NAMESPACE=kube-system",
      pod,
    ],
    ["K8S_POD_NAMESPACE=kube-system;K8S_POD_NAME=a;K8S_POD_NAME=a;K8S_POD_NAMESPACE=", pod],
    ["K8S_POD_NAMESPACE=;K8S_POD_NAME=a;K8S_POD_NAMESPACE=kube-system", pod],
    [
      "K8S_POD_INFRA_CONTAINER_ID=1;IP=10.0.0.1;K8S_POD_INFRA_CONTAINER_ID=2;IP=",
      { infraContainerId: "2", ip: "10.0.0.1" },
    ],
  ];
  for (const [text, expected] of rows) assert.deepEqual(parseCniArgs(text), expected, text);
});

Deno.test("Only names that a pod can have are looked up", () => {
  const wrong: [string, string, string?][] = [
    ["demo", "../secrets/x"],
    ["demo", "a?watch=1"],
    ["demo", "a\nb"],
    ["demo", "a\0b"],
    ["demo", "A"],
    ["demo", "a".repeat(254)],
    ["demo", "a\n"],
    ["de.mo", "a"],
    ["a".repeat(64), "a"],
    ["demo\n", "a"],
    ["demo", "a", "u id"],
    ["demo", "a", "u\n"],
  ];
  for (const [podNamespace, podName, podUid] of wrong) {
    const args = { podNamespace, podName, ...(podUid === undefined ? {} : { podUid }) };
    assert.throws(() => podReferenceOf(args), { code: 4 }, JSON.stringify(args));
  }
  assert.deepEqual(
    podReferenceOf({ podNamespace: "demo", podName: "web-0.a", podUid: "a41c5e8eb22c4f7d" }),
    { namespace: "demo", name: "web-0.a", uid: "a41c5e8eb22c4f7d" },
  );
});

/** Puts a value at a dotted path of a configuration. */
function withValue(path: string, value: unknown): Uint8Array {
  const keys = path.split(".");
  const nested = keys.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value);
  return encoder.encode(config("1.0.0", nested as Record<string, unknown>));
}

Deno.test("Every setting refuses every wrong type, naming itself and what it got", () => {
  const right: Record<string, string> = {
    log_level: "",
    "kubernetes.kubeconfig": "",
    "kubernetes.exclude_namespaces": "array",
    "kubernetes.include_namespaces": "array",
    "kubernetes.cni_bin_dir": "string",
    "kubernetes.cluster_dns": "",
    engine: "",
    "ebpf.strict": "boolean",
    "ebpf.bpffs_path": "",
    "ebpf.cgroup_path": "",
    redirect_rules_version: "",
    "agent.socket": "",
    lookup_timeout_seconds: "",
    allow_pod_settings: "array",
    "runtimeConfig.dns": "object",
  };
  const wrong: [string, unknown, string][] = [
    ["string", "nonsense", 'a string "nonsense"'],
    ["number", -1, "a number -1"],
    ["boolean", true, "a boolean true"],
    ["array", ["a"], "an array"],
    ["array", [1], "an array"],
    ["object", { a: 1 }, "an object"],
  ];
  for (const { path } of Object.values(networkSettings())) {
    assert.ok(path in right, `the table of this test lacks ${path}`);
    for (const [type, value, name] of wrong) {
      const read = () => readSettings(parseNetworkConfig(withValue(path, value)).values);
      if (type === right[path] && !(type === "array" && (value as unknown[])[0] === 1)) {
        read();
        continue;
      }
      assert.throws(read, (error) => {
        assert.ok(error instanceof CniError);
        assert.equal(error.code, 7);
        assert.ok(error.message.includes(`"${path}"`), error.message);
        assert.ok(error.message.endsWith(name), error.message);
        return true;
      });
    }
    for (const unset of [null, ""]) readSettings(parseNetworkConfig(withValue(path, unset)).values);
  }
  for (const parent of ["kubernetes", "ebpf", "agent", "runtimeConfig"]) {
    assert.throws(
      () => readSettings(parseNetworkConfig(withValue(parent, 5)).values),
      { code: 7, message: new RegExp(`"${parent}" must be an object, but it is a number 5`) },
    );
  }
});

Deno.test("docs/cni.md has every setting and every error code as declared", () => {
  const document = Deno.readTextFileSync(new URL("../docs/cni.md", import.meta.url));
  const rows = document.split("\n").filter((line) => line.startsWith("|"))
    .map((line) => line.split("|").slice(1, -1).map((cell) => cell.trim()));
  for (const { path, expected, fallback, help } of Object.values(networkSettings())) {
    const shown = fallback === undefined ? "" : `\`${JSON.stringify(fallback)}\``;
    const row = rows.find(([first]) => first === `\`${path}\``);
    assert.deepEqual(row, [`\`${path}\``, expected, shown, help]);
  }
  const codes = rows.map(([first]) => first).filter((first) => /^\d+$/.test(first ?? ""));
  assert.deepEqual(codes, Object.values(CniErrorCode).map(String));
});

Deno.test("Settings are read from where runtimes and installers write them", () => {
  const text = config("0.4.0", {
    log_level: "debug",
    kubernetes: {
      kubeconfig: "/etc/cni/net.d/ZZZ-kuma-cni-kubeconfig",
      exclude_namespaces: ["kuma-system"],
      include_namespaces: ["shop"],
      cni_bin_dir: "/opt/cni/bin",
    },
    engine: "iptables",
    ebpf: { strict: true, bpffs_path: "/b", cgroup_path: "/c" },
    redirect_rules_version: 3,
    agent: { socket: "/etc/cni/net.d/kuma-cni.d/agent.sock" },
    lookup_timeout_seconds: 2.5,
    allow_pod_settings: ["dryRun"],
    runtimeConfig: { dns: { Servers: ["10.96.0.10"], Searches: [] } },
    somethingNew: { x: 1 },
  });
  assert.deepEqual(readSettings(parseNetworkConfig(encoder.encode(text)).values), {
    logLevel: "debug",
    kubeconfig: "/etc/cni/net.d/ZZZ-kuma-cni-kubeconfig",
    excludeNamespaces: ["kuma-system"],
    includeNamespaces: ["shop"],
    cniBinDir: "/opt/cni/bin",
    clusterDns: [],
    engine: "iptables",
    ebpfStrict: true,
    ebpfBpffsPath: "/b",
    ebpfCgroupPath: "/c",
    redirectRulesVersion: "3",
    agentSocket: "/etc/cni/net.d/kuma-cni.d/agent.sock",
    lookupTimeoutSeconds: 2.5,
    allowPodSettings: ["dryRun"],
    resolvers: ["10.96.0.10"],
  });
  assert.deepEqual(readSettings(parseNetworkConfig(encoder.encode(config("0.4.0"))).values), {
    logLevel: "info",
    kubeconfig: undefined,
    excludeNamespaces: [],
    includeNamespaces: [],
    cniBinDir: undefined,
    clusterDns: [],
    engine: "auto",
    ebpfStrict: false,
    ebpfBpffsPath: undefined,
    ebpfCgroupPath: undefined,
    redirectRulesVersion: undefined,
    agentSocket: undefined,
    lookupTimeoutSeconds: 30,
    allowPodSettings: [],
    resolvers: [],
  });
});

Deno.test("DEL and GC clean up, and succeed whatever becomes of it", async () => {
  for (const verb of ["DEL", "GC"]) {
    const cleaned: string[] = [];
    const answer = await play({ ...ENVIRONMENT, CNI_COMMAND: verb }, config("1.1.0"), {
      forget: ({ environment }) => {
        cleaned.push(`${environment.verb} ${environment.containerId}`);
        throw new Error("no such luck");
      },
    });
    assert.deepEqual([answer.exitCode, answer.text, answer.calls], [0, "", []]);
    assert.deepEqual(cleaned, [`${verb} ${ENVIRONMENT.CNI_CONTAINERID}`]);
  }
});

Deno.test("Keys of Object.prototype are not settings", () => {
  const text = '{"name":"bed","__proto__":{"log_level":"debug","name":"x"},"constructor":1}';
  const settings = readSettings(parseNetworkConfig(encoder.encode(text)).values);
  assert.equal(settings.logLevel, "info");
});

Deno.test("The span of a key is that of the last one, as with JSON.parse", () => {
  fc.assert(fc.property(
    fc.array(fc.tuple(fc.constantFrom("a", "b", "prevResult", 'q"\\'), fc.jsonValue()), {
      maxLength: 6,
    }),
    fc.constantFrom("", " ", "\n\t"),
    (members, blank) => {
      const text = `${blank}{${blank}` +
        members.map(([key, value]) =>
          `${JSON.stringify(key)}${blank}:${blank}${JSON.stringify(value)}${blank}`
        ).join(`,${blank}`) + `}${blank}`;
      const bytes = encoder.encode(text);
      for (const key of ["a", "prevResult", 'q"\\']) {
        const span = topLevelValueSpan(bytes, key);
        const expected = members.filter(([name]) => name === key).at(-1);
        if (expected === undefined) {
          assert.equal(span, undefined);
        } else {
          assert.ok(span !== undefined);
          const found = decoder.decode(bytes.subarray(span.start, span.end));
          assert.equal(found, JSON.stringify(expected[1]));
        }
      }
    },
  ));
});

Deno.test("Any environment and any stdin give one JSON object or nothing, and exit code 0 or 1", async () => {
  const variable = fc.option(fc.string({ unit: "binary", maxLength: 20 }), { nil: undefined });
  const stdin = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.json().map((text) => encoder.encode(text)),
    fc.record({
      cniVersion: fc.option(fc.constantFrom(...supportedVersions(), "9"), { nil: undefined }),
      name: fc.oneof(fc.constant("bed"), fc.string()),
      prevResult: fc.option(fc.jsonValue(), { nil: undefined }),
    }).map((value) => encoder.encode(JSON.stringify(value))),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.constantFrom("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "x"),
      fc.record({
        CNI_CONTAINERID: fc.oneof(variable, fc.constant("c1")),
        CNI_NETNS: fc.oneof(variable, fc.constant("/run/netns/x")),
        CNI_IFNAME: fc.oneof(variable, fc.constant("eth0")),
        CNI_PATH: fc.oneof(variable, fc.constant("/opt/cni/bin")),
        CNI_ARGS: variable,
      }),
      stdin,
      async (command, environment, input) => {
        const answer = await play({ ...environment, CNI_COMMAND: command }, input);
        if (answer.exitCode === 1) {
          const object = JSON.parse(answer.text);
          assert.equal(typeof object.code, "number");
          assert.equal(typeof object.msg, "string");
        } else if (command === "ADD" || command === "VERSION") {
          assert.equal(typeof JSON.parse(answer.text), "object");
        } else {
          assert.equal(answer.text, "");
        }
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("Any CNI_ARGS parse or fail with code 4", () => {
  const piece = fc.oneof(
    fc.constantFrom("K8S_POD_NAME", "K8S_POD_NAMESPACE", "K8S_POD_UID", "=", ";", "a", "\n", "\0"),
    fc.string({ unit: "binary", maxLength: 4 }),
  );
  fc.assert(fc.property(fc.array(piece).map((pieces) => pieces.join("")), (text) => {
    try {
      const reference = podReferenceOf(parseCniArgs(text + ";IgnoreUnknown=1"));
      assert.equal(encodeURIComponent(reference.name), reference.name);
      assert.equal(encodeURIComponent(reference.namespace), reference.namespace);
    } catch (error) {
      assert.ok(error instanceof CniError, String(error));
      assert.equal(error.code, 4);
    }
  }));
});

Deno.test("stdin is bounded in size and time", () => {
  const wait = () => true;
  const endless = { wait, read: (buffer: Uint8Array) => buffer.length };
  assert.throws(() => readInput(endless, { bytes: 100_000, milliseconds: 5000 }), { code: 6 });
  const once = (left: number) => ({
    wait,
    read(buffer: Uint8Array): number | null {
      const count = Math.min(left, buffer.length);
      left -= count;
      return count === 0 ? null : count;
    },
  });
  const bounds = { bytes: 100_000, milliseconds: 5000 };
  assert.equal(readInput(once(100_000), bounds).length, 100_000);
  assert.throws(() => readInput(once(100_001), bounds), { code: 6 });
  const silent = { wait: () => false, read: () => assert.fail("It would block") };
  assert.throws(() => readInput(silent, { bytes: 100_000, milliseconds: 20 }), { code: 5 });
  const waits: number[] = [];
  const slow = {
    wait(milliseconds: number): boolean {
      waits.push(milliseconds);
      const end = performance.now() + 5;
      while (performance.now() < end);
      return milliseconds > 0;
    },
    read: () => 1,
  };
  assert.throws(() => readInput(slow, { bytes: 100_000, milliseconds: 20 }), { code: 5 });
  assert(waits.length > 1 && waits.every((wait) => wait <= 20), "Each wait is for the rest only");
  const broken = {
    wait,
    read: () => {
      throw new Error("EIO");
    },
  };
  assert.throws(() => readInput(broken), { code: 5 });
  const text = "x".repeat(70_000);
  let sent = 0;
  const chunks = {
    wait,
    read(buffer: Uint8Array): number | null {
      if (sent === text.length) return null;
      const count = Math.min(777, buffer.length, text.length - sent);
      buffer.set(encoder.encode(text.slice(sent, sent + count)));
      sent += count;
      return count;
    },
  };
  assert.equal(decoder.decode(readInput(chunks)), text);
});

Deno.test("An entry is read as the plugin will read it, with the keys that have no effect", () => {
  const entry = {
    cniVersion: "0.3.1",
    name: "kuma-cni",
    type: "kuma-cni",
    log_level: "info",
    capabilities: { dns: true, anything: true },
    runtimeConfig: { portMappings: [] },
    kubernetes: { kubeconfig: "/x", exclude_namespaces: ["a"], cni_bin_dir: "/opt/cni/bin" },
  };
  assert.deepEqual(readPluginSettings(entry), { settings: readSettings(entry), unknown: [] });
  const mistakes: [Record<string, unknown>, string, string | undefined][] = [
    [{ logLevel: "debug" }, "logLevel", "log_level"],
    [{ log_levle: "debug" }, "log_levle", "log_level"],
    [{ LOG_LEVEL: "debug" }, "LOG_LEVEL", "log_level"],
    [{ exclude_namespaces: [] }, "exclude_namespaces", "kubernetes.exclude_namespaces"],
    [
      { kubernetes: { excludeNamespace: [] } },
      "kubernetes.excludeNamespace",
      "kubernetes.exclude_namespaces",
    ],
    [{ kubernetes: { engine: "auto" } }, "kubernetes.engine", "engine"],
    [{ kuberentes: {} }, "kuberentes", "kubernetes"],
    [{ capabilitys: {} }, "capabilitys", "capabilities"],
    [{ agent: { sokcet: "/x" } }, "agent.sokcet", "agent.socket"],
    [{ redirect_rule_version: "3" }, "redirect_rule_version", "redirect_rules_version"],
    [{ zzz: 1 }, "zzz", undefined],
    [{ ["x".repeat(100_000)]: 1 }, "x".repeat(100_000), undefined],
    [JSON.parse('{"__proto__":{"log_level":5}}'), "__proto__", undefined],
  ];
  for (const [more, key, nearest] of mistakes) {
    assert.deepEqual(
      readPluginSettings(more).unknown,
      [{ key, ...(nearest === undefined ? {} : { nearest }) }],
    );
  }
});

Deno.test("An entry that the plugin would refuse is refused, and the way to mend it is named", () => {
  const refused: [unknown, RegExp][] = [
    [undefined, /must be a JSON object, but it is nothing/],
    [[], /must be a JSON object, but it is an array/],
    [{ cniVersion: 1 }, /"cniVersion" must be a string/],
    [{ type: {} }, /"type" must be a string/],
    [
      { log_level: "warn" },
      /"log_level" must be one of "off", "info", "debug", but it is a string "warn"/,
    ],
    [{ engine: "nft" }, /"engine" must be one of/],
    [{ kubernetes: { exclude_namespaces: "kube-system" } }, /must be an array of strings/],
    [{ kubernetes: { kubeconfig: "kubeconfig" } }, /must be an absolute path/],
    ...["10.96.0", "10.96.0.1.", "256.1.1.1", "10.96.0.10:53", "dns", "::1]:53/[", "1::2::3", ""]
      .map((text): [unknown, RegExp] => [
        { kubernetes: { cluster_dns: [text] } },
        /"kubernetes.cluster_dns" must be an array of IP addresses, but it is an array/,
      ]),
  ];
  for (const [entry, message] of refused) {
    assert.throws(() => readPluginSettings(entry), (error) => {
      assert.ok(error instanceof CniError);
      assert.equal(error.code, 7);
      assert.match(error.message, message);
      assert.match(error.details, /CNI_NETWORK_CONFIG of install-cni.*is undone/);
      return true;
    });
  }
  const { settings } = readPluginSettings({
    kubernetes: { cluster_dns: ["10.96.0.10", "fd00::a", "::ffff:10.96.0.10"] },
  });
  assert.equal(settings.clusterDns.length, 3);
});

Deno.test("Versions that the plugin speaks are known by their exact text", () => {
  for (const version of supportedVersions()) assert.ok(isSupportedVersion(version));
  for (const version of ["1.0.1", "1.0", "1.2.0", "", "v1.0.0", " 1.0.0"]) {
    assert.ok(!isSupportedVersion(version), version);
  }
});
