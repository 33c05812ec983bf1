import assert from "node:assert/strict";
import fc from "fast-check";
// @ts-types="../src/types/std_yaml_parse.d.ts"
import { parse } from "@std/yaml/parse";
import {
  KubeconfigError,
  loadKubeconfig,
  parseKubeconfig,
  readTokenFile,
} from "../src/kubernetes/kubeconfig.ts";
import { formatKubeconfig } from "../src/kubernetes/kubeconfig_format.ts";
import { libc } from "../src/linux/libc.ts";
import { makeAuthority } from "./support/certificates.ts";
import { withFolder } from "./support/files.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const authority = await makeAuthority();
const client = await authority.issue({ commonName: "node", usage: "client" });
const values = {
  server: "https://10.96.0.1:443",
  certificateAuthority: authority.certificate,
  token: "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlIn0.c2ln-_",
};

/** A kubeconfig of the general form, from the lines of its cluster and user. */
function general(cluster: readonly string[], user: readonly string[]): string {
  return [
    "apiVersion: v1",
    "kind: Config",
    "preferences: {}",
    "contexts:",
    "- name: other",
    "  context: {cluster: nowhere, user: nobody}",
    "- name: used",
    "  context:",
    "    cluster: c1",
    "    user: u1",
    "    namespace: default",
    "clusters:",
    "- name: c1",
    "  cluster:",
    ...cluster.map((line) => `    ${line}`),
    "users:",
    "- name: u1",
    "  user:",
    ...user.map((line) => `    ${line}`),
    'current-context: "used"',
    "",
  ].join("\n");
}

const server = "server: https://api.example.com:6443/";

/** Runs and returns the error's message. */
function problemOf(text: string, path = "/nowhere/config"): string {
  try {
    parseKubeconfig(text, path);
  } catch (error) {
    assert(error instanceof KubeconfigError, String(error));
    assert(error.message.startsWith(`Cannot use kubeconfig "${path}": `), error.message);
    return error.message;
  }
  assert.fail("The kubeconfig was accepted");
}

Deno.test("the installer's kubeconfig has the reference's structure and is understood", () => {
  const text = formatKubeconfig(values);
  assert.match(text, /^# [^\n]+\n\{\n/);
  assert(!text.endsWith("\n"));
  assert.deepEqual(parse(text), {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{
      name: "local",
      cluster: {
        server: values.server,
        "certificate-authority-data": btoa(values.certificateAuthority),
      },
    }],
    users: [{ name: "kuma-cni", user: { token: values.token } }],
    contexts: [{ name: "kuma-cni-context", context: { cluster: "local", user: "kuma-cni" } }],
    "current-context": "kuma-cni-context",
  });
  assert.deepEqual(parseKubeconfig(text, "/x"), { ...values, insecureSkipTlsVerify: false });
});

Deno.test("JSON and the YAML parser agree on what the installer can write", () => {
  const token = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._~+/-]{0,40}={0,2}$/);
  const address = fc.oneof(
    fc.ipV4(),
    fc.ipV6().filter((a) => !a.includes(".")).map((a) => `[${a}]`),
    fc.constant("kubernetes.default.svc"),
  );
  fc.assert(
    fc.property(token, address, fc.integer({ min: 1, max: 65535 }), (token, address, port) => {
      const text = formatKubeconfig({ ...values, token, server: `https://${address}:${port}` });
      // Only the YAML parser reads other scalars than texts.
      const slow = text.replace(
        '"kind": "Config"',
        '"kind": Config, "preferences": {"colors": true}',
      );
      assert.notEqual(slow, text);
      assert.deepEqual(parseKubeconfig(text, "/x"), parseKubeconfig(slow, "/x"));
    }),
    { numRuns: 200 },
  );
});

Deno.test("tokens that YAML would take for numbers, dates or booleans stay text", () => {
  for (const token of ["1e5", "0x10", "true", "null", "2026-01-01", "12345678", "~"]) {
    assert.equal(parseKubeconfig(general([server], [`token: ${token}`]), "/x").token, token);
  }
});

Deno.test("what cannot be a token or a server is not written", () => {
  for (const token of ["", "a b", "a\nusers: []", "a: b", "{x}", '"x"', "#", "-\n"]) {
    assert.throws(() => formatKubeconfig({ ...values, token }), TypeError, JSON.stringify(token));
  }
  for (const server of ["", "https://a b", "https://h:1\nkind: x", "h:1", "https://h:1 #"]) {
    assert.throws(() => formatKubeconfig({ ...values, server }), TypeError, server);
  }
});

Deno.test("a kubeconfig of the reference installer is understood as ours is", () => {
  const text = [
    "# Kubeconfig file for kuma CNI plugin.",
    "apiVersion: v1",
    "kind: Config",
    "clusters:",
    "- name: local",
    "  cluster:",
    `    server: ${values.server}`,
    `    certificate-authority-data: ${btoa(values.certificateAuthority)}`,
    "users:",
    "- name: kuma-cni",
    "  user:",
    `    token: ${values.token}`,
    "contexts:",
    "- name: kuma-cni-context",
    "  context:",
    "    cluster: local",
    "    user: kuma-cni",
    "current-context: kuma-cni-context",
  ].join("\n");
  assert.deepEqual(
    parseKubeconfig(text, "/x"),
    parseKubeconfig(formatKubeconfig(values), "/x"),
  );
});

Deno.test("JSON with scalars that are not texts is read as YAML reads it", () => {
  const text = (token: string) =>
    formatKubeconfig(values).replace(`"${values.token}"`, token)
      .replace('"server"', '"insecure-skip-tls-verify": true, "server"');
  assert.equal(parseKubeconfig(text("1e5"), "/x").token, "1e5");
  assert.equal(parseKubeconfig(text("1e5"), "/x").insecureSkipTlsVerify, true);
});

Deno.test("the current context chooses cluster and user, wherever they stand", () => {
  const access = parseKubeconfig(general([server], ["token: t1"]), "/x");
  assert.deepEqual(access, {
    server: "https://api.example.com:6443",
    token: "t1",
    insecureSkipTlsVerify: false,
  });
});

Deno.test("JSON is a kubeconfig too", () => {
  const text = JSON.stringify({
    "current-context": "a",
    contexts: [{ name: "a", context: { cluster: "b", user: "c" } }],
    clusters: [{ name: "b", cluster: { server: "http://127.0.0.1:8080/k8s/clusters/c-1" } }],
    users: [{ name: "c", user: { token: "t" } }],
  });
  assert.equal(parseKubeconfig(text, "/x").server, "http://127.0.0.1:8080/k8s/clusters/c-1");
});

Deno.test("certificates, keys and the token's file are found relative to the kubeconfig", async () => {
  await withFolder(async (folder) => {
    await Deno.mkdir(`${folder}/pki`);
    await Deno.writeTextFile(`${folder}/pki/ca.crt`, authority.certificate);
    await Deno.writeTextFile(`${folder}/pki/me.crt`, client.certificate);
    await Deno.writeTextFile(`${folder}/me.key`, client.key);
    await Deno.writeTextFile(
      `${folder}/config`,
      general([
        server,
        "certificate-authority: pki/ca.crt",
        "tls-server-name: kubernetes",
      ], [
        "client-certificate: ./pki/me.crt",
        `client-key: ${folder}/me.key`,
        "tokenFile: run/token",
      ]),
    );
    assert.deepEqual(loadKubeconfig(`${folder}/config`), {
      server: "https://api.example.com:6443",
      certificateAuthority: authority.certificate,
      clientCertificate: { certificate: client.certificate, key: client.key },
      tokenFile: `${folder}/run/token`,
      tlsServerName: "kubernetes",
      insecureSkipTlsVerify: false,
    });
  });
});

Deno.test("embedded data wins over a file", () => {
  const access = parseKubeconfig(
    general([
      server,
      "certificate-authority: /does/not/exist",
      `certificate-authority-data: ${btoa(authority.certificate)}`,
      "insecure-skip-tls-verify: true",
      "proxy-url: socks5://127.0.0.1:1080",
    ], [
      `client-certificate-data: ${btoa(client.certificate)}`,
      `client-key-data: ${btoa(client.key)}`,
    ]),
    "/x",
  );
  assert.equal(access.certificateAuthority, authority.certificate);
  assert.equal(access.clientCertificate?.key, client.key);
  assert.equal(access.insecureSkipTlsVerify, true);
  assert.equal(access.proxyUrl, "socks5://127.0.0.1:1080");
});

Deno.test("errors name file, key and what was expected", async (t) => {
  const rows: [string, string, RegExp][] = [
    ["not YAML", "a: [", /it is not YAML: /],
    ["empty", "", /it holds empty; expected a kubeconfig of kind "Config"/],
    ["a list", "- a", /it holds a list/],
    ["HTML", "<html>", /it holds text/],
    ["no context", "kind: Config", /"current-context" is missing/],
    ["a number as list", "current-context: a\ncontexts: 5", /"contexts" is text; expected a list/],
    ["unknown context", "current-context: a\ncontexts: []", /"contexts" has no entry .*"a"/],
    [
      "context without content",
      "current-context: a\ncontexts: [{name: a}]",
      /"contexts\[0\]\.context" is missing; expected keys/,
    ],
    ["no server", general(["x: y"], ["token: t"]), /"clusters\[0\]\.cluster\.server" is missing/],
    [
      "not a URL",
      general(["server: 10.96.0.1:443"], ["token: t"]),
      /"clusters\[0\]\.cluster\.server" is "10.96.0.1:443"; expected a URL that begins with "http:\/\/" or/,
    ],
    ["another scheme", general(["server: ftp://h"], ["token: t"]), /expected a URL that begins/],
    ["a query", general(["server: https://h/?a=b"], ["token: t"]), /has a user, a query/],
    ["empty token", general([server], ['token: ""']), /"users\[0\]\.user\.token" is empty/],
    ["token of lines", general([server], ['token: "a\\nb"']), /no HTTP header can carry/],
    ["token list", general([server], ["token: [a]"]), /"users\[0\]\.user\.token" is a list/],
    [
      "broken base64",
      general([server, "certificate-authority-data: '%%%'"], ["token: t"]),
      /"clusters\[0\]\.cluster\.certificate-authority-data" does not hold a CERTIFICATE in PEM/,
    ],
    [
      "base64 of something else",
      general([server, `certificate-authority-data: ${btoa("hello")}`], ["token: t"]),
      /does not hold a CERTIFICATE in PEM/,
    ],
    [
      "missing file",
      general([server, "certificate-authority: /does/not/exist"], ["token: t"]),
      /"clusters\[0\]\.cluster\.certificate-authority" names "\/does\/not\/exist", which does not exist/,
    ],
    [
      "file of something else",
      general([server, "certificate-authority: /proc/version"], ["token: t"]),
      /names the file "\/proc\/version", which does not hold a CERTIFICATE/,
    ],
    [
      "certificate without key",
      general([server], [`client-certificate-data: ${btoa(client.certificate)}`]),
      /"users\[0\]\.user\.client-key-data" is missing/,
    ],
    [
      "no boolean",
      general([server, "insecure-skip-tls-verify: maybe"], ["token: t"]),
      /is "maybe"; expected "true" or "false"/,
    ],
    ["exec", general([server], ["exec: {command: aws}"]), /"users\[0\]\.user\.exec" is not supp/],
    ["auth provider", general([server], ["auth-provider: {name: gcp}"]), /auth-provider" is not s/],
    ["basic auth", general([server], ["username: a"]), /username" is not supported; use "token"/],
    ["impersonation", general([server], ["token: t", "as: root"]), /"users\[0\]\.user\.as" is not/],
    ["proxy", general([server, "proxy-url: foo"], ["token: t"]), /proxy-url" is "foo"; expected/],
    ["inherited name", "current-context: constructor\ncontexts: {}", /"contexts" is an object/],
  ];
  for (const [name, text, expected] of rows) {
    await t.step(name, () => assert.match(problemOf(text), expected));
  }
  await t.step("file that does not exist", () => {
    assert.throws(() => loadKubeconfig("/does/not/exist"), {
      name: "KubeconfigError",
      message: 'Cannot use kubeconfig "/does/not/exist": the file does not exist; ' +
        "is install-cni running on this node?",
    });
  });
  await t.step("folder", () => {
    assert.throws(() => loadKubeconfig("/proc"), /the file cannot be read/);
  });
});

Deno.test("a kubeconfig, token or authority that is not a file holds nobody up", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  try {
    await new Deno.Command("mkfifo", { args: [`${folder}/fifo`] }).output();
    await Deno.symlink("/dev/zero", `${folder}/zero`);
    await Deno.writeTextFile(`${folder}/huge`, "");
    await Deno.truncate(`${folder}/huge`, 2 ** 40);
    const problems: Record<string, RegExp> = {
      fifo: /cannot be read: .* it is a FIFO, expected a regular file$/,
      zero: /cannot be read: .* it is a character device, expected a regular file$/,
      huge: /cannot be read: .* it is larger than 1048576 bytes/,
    };
    for (const [name, problem] of Object.entries(problems)) {
      const path = `${folder}/${name}`;
      const authorityFile = general([server, `certificate-authority: ${path}`], ["token: t"]);
      const readers: Record<string, () => unknown> = {
        kubeconfig: () => loadKubeconfig(path),
        token: () => readTokenFile(path),
        authority: () => parseKubeconfig(authorityFile, "/x"),
      };
      for (const [what, read] of Object.entries(readers)) {
        await t.step(`${what}, ${name}`, () => {
          assert.throws(read, { name: "KubeconfigError", message: problem, temporary: false });
        });
      }
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("no text whatever makes the parser throw anything but a KubeconfigError", () => {
  const base = general([server], ["token: t"]);
  const mutated = fc.tuple(fc.nat(base.length), fc.nat(20), fc.string({ unit: "binary" })).map(
    ([at, count, insert]) => base.slice(0, at) + insert + base.slice(at + count),
  );
  fc.assert(
    fc.property(fc.oneof(mutated, fc.string({ unit: "binary" })), (text) => {
      try {
        parseKubeconfig(text, "/x");
      } catch (error) {
        assert(error instanceof KubeconfigError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});
