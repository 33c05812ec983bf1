import assert from "node:assert/strict";
import { KubernetesClient } from "../src/kubernetes/client.ts";
import { ApiError, type ApiErrorKind } from "../src/kubernetes/errors.ts";
import { type ClusterAccess, KubeconfigError } from "../src/kubernetes/kubeconfig.ts";
import { parsePod } from "../src/kubernetes/pod.ts";
import { libc } from "../src/linux/libc.ts";
import { ApiServer, type Fault, htmlFault } from "./support/api_server.ts";
import { makeAuthority } from "./support/certificates.ts";
import { brokenListener } from "./support/http_server.ts";
import { injectedPod, mirrorPod, nativeSidecarPod, plainPod } from "./support/pods.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const authority = await makeAuthority();
const app = { namespace: "demo", name: "app-1" };

function start(hostname = "127.0.0.1"): Promise<ApiServer> {
  return ApiServer.start({
    authority,
    hostname,
    objects: [injectedPod({ uid: "uid-1" }), plainPod({ name: "big", padBytes: 2_000_000 })],
  });
}

function accessTo(server: ApiServer, changes: Partial<ClusterAccess> = {}): ClusterAccess {
  return {
    server: server.url,
    certificateAuthority: server.certificateAuthority,
    token: server.token,
    insecureSkipTlsVerify: false,
    ...changes,
  };
}

function without(access: ClusterAccess, ...keys: (keyof ClusterAccess)[]): ClusterAccess {
  return Object.fromEntries(
    Object.entries(access).filter(([key]) => !keys.includes(key as keyof ClusterAccess)),
  ) as unknown as ClusterAccess;
}

async function failureOf(work: Promise<unknown>): Promise<ApiError> {
  try {
    await work;
  } catch (error) {
    assert(error instanceof ApiError, String(error));
    return error;
  }
  assert.fail("The request succeeded");
}

/** A pod whose sidecar is injected, were it not for a byte in the middle of the word `true`. */
function withoutUtf8(pod: unknown): Uint8Array<ArrayBuffer> {
  const text = JSON.stringify(pod);
  const bytes = new TextEncoder().encode(text);
  bytes[text.indexOf('"kuma.io/sidecar-injected":"true"') + 31] = 0xff;
  return bytes;
}

/** How the client checks the server, each by its own way through the code. */
const ways: Record<string, (server: ApiServer) => ClusterAccess> = {
  "verified": (server) => accessTo(server),
  "unverified": (server) =>
    without(accessTo(server, { insecureSkipTlsVerify: true }), "certificateAuthority"),
  "under another name": (server) => accessTo(server, { tlsServerName: "kubernetes.default.svc" }),
  "on a connection of its own": (server) => accessTo(server),
};

for (const [way, access] of Object.entries(ways)) {
  const direct = way === "on a connection of its own";
  for (const hostname of ["127.0.0.1", "::1"]) {
    Deno.test(`gets pods from ${hostname}, ${way}`, async () => {
      await using server = await start(hostname);
      using client = new KubernetesClient(access(server), { direct });
      const pod = await client.getPod(app);
      assert.equal(pod.uid, "uid-1");
      assert.equal(pod.annotations["kuma.io/sidecar-injected"], "true");
      assert.deepEqual(pod.containerNames, ["kuma-sidecar", "app"]);
      assert.deepEqual(pod.initContainerNames, ["kuma-validation"]);
      const big = await client.getPod({ namespace: "demo", name: "big" });
      assert.equal(big.annotations["example.com/padding"]?.length, 2_000_000);
      assert.equal(server.requests[0]?.headers.get("accept"), "application/json");
    });
  }

  Deno.test(`tells what is wrong, ${way}`, async (t) => {
    await using server = await start();
    using client = new KubernetesClient(access(server), { direct });
    // A busy machine may take long for an answer that comes.
    using hurried = new KubernetesClient(access(server), {
      direct,
      requestTimeoutMilliseconds: 200,
    });
    type Row = [string, Fault, ApiErrorKind, boolean, RegExp];
    const rows: Row[] = [
      ["hang", { kind: "hang" }, "timeout", true, /no complete answer within 200 ms$/],
      ["trickle", { kind: "trickle", bytes: 10, milliseconds: 20 }, "timeout", true, /200 ms$/],
      ["close", { kind: "close" }, "connection", true, /connection|closed/i],
      ["cut", { kind: "cut", afterBytes: 100 }, "connection", true, /connection|body/i],
      ["cut at once", { kind: "cut", afterBytes: 0 }, "connection", true, /connection|body/i],
      ["HTML", htmlFault, "content", false, /is "text\/html.*expected "application\/json"/],
      [
        "HTML with the right type",
        { kind: "body", body: "<html>" },
        "content",
        false,
        /the answer is not JSON: Unexpected token/,
      ],
      ["list", { kind: "body", body: "[]" }, "content", false, /not an object$/],
      ["null", { kind: "body", body: "null" }, "content", false, /not an object$/],
      ["empty", { kind: "body", body: "" }, "content", false, /not JSON/],
      [
        "not UTF-8",
        { kind: "body", body: withoutUtf8(injectedPod({ uid: "uid-1" })) },
        "content",
        false,
        /the answer is not JSON: it is not UTF-8$/,
      ],
      ["other kind", { kind: "body", body: '{"kind":"Node"}' }, "content", false, /is "Node"/],
      ["no kind", { kind: "body", body: "{}" }, "content", false, /"kind" is missing/],
      [
        "another pod",
        { kind: "body", body: JSON.stringify(plainPod({ name: "other" })) },
        "content",
        false,
        /It is the pod "demo\/other"$/,
      ],
      [
        "5 MiB",
        { kind: "body", body: " ".repeat(5 * 1024 * 1024) },
        "content",
        false,
        /longer than 4194304 bytes$/,
      ],
      ["redirect", { kind: "status", code: 302 }, "status", false, /answered 302/],
      ["500", { kind: "status", code: 500, message: "etcd" }, "status", true, /500: etcd$/],
      [
        "503 in HTML",
        { ...htmlFault, status: 503 } as Fault,
        "status",
        true,
        /the server answered 503$/,
      ],
    ];
    for (const [name, fault, kind, temporary, message] of rows) {
      await t.step(name, async () => {
        server.clearFaults();
        server.inject(fault);
        const error = await failureOf((kind === "timeout" ? hurried : client).getPod(app));
        assert.match(error.message, message);
        assert(
          error.message.startsWith(`Could not get pod "demo/app-1" from ${server.url}: `),
          error.message,
        );
        assert.deepEqual([error.kind, error.temporary], [kind, temporary], error.message);
      });
    }
    await t.step("works again afterwards", async () => {
      server.clearFaults();
      assert.equal((await client.getPod(app)).uid, "uid-1");
    });
    await t.step("404", async () => {
      const error = await failureOf(client.getPod({ namespace: "demo", name: "none" }));
      assert.deepEqual([error.status, error.reason, error.temporary], [404, "NotFound", false]);
      assert.match(error.message, /the server answered 404: pods "none" not found$/);
    });
    await t.step("403", async () => {
      server.forbid("get", "pods");
      const error = await failureOf(client.getPod(app));
      assert.deepEqual([error.status, error.reason], [403, "Forbidden"]);
      assert.match(error.message, /User "system:serviceaccount:kuma-system:kuma-cni" cannot get/);
      server.allow("get", "pods");
    });
    await t.step("401", async () => {
      server.rotateToken();
      const error = await failureOf(client.getPod(app));
      assert.deepEqual([error.status, error.reason], [401, "Unauthorized"]);
    });
  });
}

Deno.test("a redirect is not followed: it would carry the token elsewhere", async (t) => {
  await using server = await start();
  await using elsewhere = await start();
  for (const [way, access] of Object.entries(ways)) {
    for (const code of [301, 302, 307, 308]) {
      await t.step(`${code}, ${way}`, async () => {
        server.clearFaults();
        server.inject({
          kind: "body",
          status: code,
          body: "{}",
          headers: { location: `${elsewhere.url}/api/v1/namespaces/demo/pods/app-1` },
        });
        using client = new KubernetesClient(
          { ...access(server), token: elsewhere.token },
          { direct: way === "on a connection of its own" },
        );
        const error = await failureOf(client.getPod(app));
        assert.deepEqual([error.kind, error.status], ["status", code], error.message);
      });
    }
  }
  assert.equal(elsewhere.requests.length, 0);
});

for (const [way, access] of Object.entries(ways)) {
  const direct = way === "on a connection of its own";

  Deno.test(`a request that failed leaves no connection behind, ${way}`, async (t) => {
    await using server = await start();
    using client = new KubernetesClient(access(server), {
      direct,
      requestTimeoutMilliseconds: 500,
    });
    const json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    const faults: Fault[] = [
      { kind: "hang" },
      { kind: "endless", first: `${json}\r\n`, then: " " },
      { kind: "endless", first: json.replace("200 OK", "500 Error") + "\r\n", then: " " },
      { kind: "endless", first: "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\n\r\n", then: " " },
    ];
    for (const fault of faults) {
      await t.step(JSON.stringify(fault), async () => {
        server.clearFaults();
        server.inject(fault);
        await failureOf(client.getPod(app));
        for (let tries = 0; server.connections > 0 && tries < 500; tries++) {
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        assert.equal(server.connections, 0);
      });
    }
  });

  Deno.test(`an encoding that was not asked for is not guessed at, ${way}`, async () => {
    await using server = await start();
    using client = new KubernetesClient(access(server), { direct });
    const headers = { "content-encoding": "x-unknown" };
    const body = JSON.stringify(injectedPod({ uid: "uid-1" }));
    server.inject({ kind: "body", body, headers });
    const error = await failureOf(client.getPod(app));
    assert.equal(error.kind, "content");
    assert.match(error.message, /encoded as "x-unknown", which was not asked for/);
  });
}

Deno.test("the server's wish for a wait is read from header and body", async () => {
  await using server = await start();
  using client = new KubernetesClient(accessTo(server));
  server.inject({ kind: "status", code: 429, retryAfterSeconds: 7 });
  const error = await failureOf(client.getPod(app));
  assert.deepEqual([error.status, error.temporary, error.retryAfterMilliseconds], [
    429,
    true,
    7000,
  ]);
  server.clearFaults();
  server.inject({
    kind: "body",
    status: 429,
    body: JSON.stringify({ kind: "Status", details: { retryAfterSeconds: 3 } }),
  });
  assert.equal((await failureOf(client.getPod(app))).retryAfterMilliseconds, 3000);
});

Deno.test("names that are none of Kubernetes' never become a path", async () => {
  await using server = await start();
  using client = new KubernetesClient(accessTo(server));
  const names = ["..", ".", "", "a/b", "a?b", "a\nb", "A", "a%2fb", "-a", "a".repeat(254)];
  for (const name of names) {
    for (const reference of [{ namespace: "demo", name }, { namespace: name, name: "a" }]) {
      assert.match((await failureOf(client.getPod(reference))).message, /^Not a /);
    }
  }
  assert.equal(server.requests.length, 0);
});

Deno.test("connections that fail below HTTP are told apart", async (t) => {
  const base = {
    token: "t",
    insecureSkipTlsVerify: false,
    certificateAuthority: authority.certificate,
  };
  const options = { requestTimeoutMilliseconds: 200 };
  await t.step("nobody listens", async () => {
    const gone = brokenListener("silent");
    gone.close();
    await new Promise((resolve) => setTimeout(resolve, 20));
    using client = new KubernetesClient({ ...base, server: `https://127.0.0.1:${gone.port}` });
    const error = await failureOf(client.getPod(app));
    assert.deepEqual([error.kind, error.temporary], ["connection", true]);
    assert.match(error.message, /Connection refused/);
  });
  await t.step("silence", async () => {
    using silent = brokenListener("silent");
    using client = new KubernetesClient(
      { ...base, server: `https://127.0.0.1:${silent.port}` },
      options,
    );
    assert.equal((await failureOf(client.getPod(app))).kind, "timeout");
  });
  await t.step("reset", async () => {
    using reset = brokenListener("reset");
    using client = new KubernetesClient({ ...base, server: `https://127.0.0.1:${reset.port}` });
    const error = await failureOf(client.getPod(app));
    assert.deepEqual([error.kind, error.temporary], ["connection", true], error.message);
  });
  await t.step("name without address", async () => {
    using client = new KubernetesClient({ ...base, server: "https://api.invalid:6443" });
    const error = await failureOf(client.getPod(app));
    assert.deepEqual([error.kind, error.temporary], ["connection", true], error.message);
  });
});

Deno.test("a server that cannot prove who it is gets no token", async (t) => {
  const stranger = await makeAuthority("stranger");
  await using server = await start();
  const cases: [string, ClusterAccess, RegExp][] = [
    [
      "signed by another authority",
      accessTo(server, { certificateAuthority: stranger.certificate }),
      /UnknownIssuer|BadSignature/,
    ],
    ["public authorities only", without(accessTo(server), "certificateAuthority"), /UnknownIssuer/],
    [
      "for another name",
      accessTo(server, { tlsServerName: "other.example.com" }),
      /not valid for name|NotValidForName/,
    ],
  ];
  for (const [name, access, message] of cases) {
    await t.step(name, async () => {
      using client = new KubernetesClient(access);
      const error = await failureOf(client.getPod(app));
      assert.deepEqual([error.kind, error.temporary], ["tls", false], error.message);
      assert.match(error.message, message);
    });
  }
  assert.equal(server.requests.length, 0);
});

Deno.test("certificates that cannot be used are refused before anything is sent", async (t) => {
  const leaf = await authority.issue({ commonName: "a", usage: "client" });
  const other = await authority.issue({ commonName: "b", usage: "client" });
  const nonsense = (label: string) => `-----BEGIN ${label}-----\nAAAA\n-----END ${label}-----\n`;
  await using server = await start();
  const cases: [string, Partial<ClusterAccess>, RegExp][] = [
    [
      "key",
      { clientCertificate: { ...leaf, key: nonsense("PRIVATE KEY") } },
      /client certificate or its key cannot be parsed/,
    ],
    [
      "certificate",
      { clientCertificate: { ...leaf, certificate: nonsense("CERTIFICATE") } },
      /client certificate or its key cannot be parsed/,
    ],
    [
      "another one's key",
      { clientCertificate: { ...leaf, key: other.key } },
      /The client key is not that of the client certificate/,
    ],
    ["authority", { certificateAuthority: nonsense("CERTIFICATE") }, /certificate/],
  ];
  for (const [name, changes, message] of cases) {
    await t.step(name, async () => {
      using client = new KubernetesClient(accessTo(server, changes));
      const error = await failureOf(client.getPod(app));
      assert.deepEqual([error.kind, error.temporary], ["tls", false], error.message);
      assert.match(error.message, message);
    });
  }
  assert.equal(server.requests.length, 0);
});

/** A proxy that knows CONNECT only; collects the targets that it was asked for. */
function connectProxy(targets: string[]): Deno.TcpListener {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const serve = async (client: Deno.TcpConn) => {
    const buffer = new Uint8Array(4096);
    const head = new TextDecoder().decode(buffer.subarray(0, await client.read(buffer) ?? 0));
    const [, host = "", port = ""] = /^CONNECT ([^:]+):([0-9]+) /.exec(head) ?? [];
    targets.push(`${host}:${port}`);
    const server = await Deno.connect({ hostname: host, port: Number(port) });
    await client.write(new TextEncoder().encode("HTTP/1.1 200 Connected\r\n\r\n"));
    await Promise.allSettled([
      client.readable.pipeTo(server.writable),
      server.readable.pipeTo(client.writable),
    ]);
  };
  (async () => {
    for await (const client of listener) serve(client).catch(() => {});
  })().catch(() => {});
  return listener;
}

Deno.test("a proxy of the kubeconfig is used", async () => {
  const targets: string[] = [];
  await using server = await start();
  using proxy = connectProxy(targets);
  const proxyUrl = `http://127.0.0.1:${proxy.addr.port}`;
  {
    using client = new KubernetesClient(accessTo(server, { proxyUrl }));
    assert.equal((await client.getPod(app)).uid, "uid-1");
  }
  assert.deepEqual(targets, [`127.0.0.1:${server.port}`]);
  using client = new KubernetesClient(accessTo(server, { proxyUrl, insecureSkipTlsVerify: true }));
  assert.match((await failureOf(client.getPod(app))).message, /"proxy-url" is not supported toget/);
  server.closeConnections();
});

Deno.test("the token's file is read for every request", async () => {
  await using server = await start();
  const path = await Deno.makeTempFile({ prefix: "kuma-test-token-" });
  try {
    await Deno.writeTextFile(path, `${server.token}\n`);
    using client = new KubernetesClient(accessTo(server, { token: "old", tokenFile: path }));
    await client.getPod(app);
    await Deno.writeTextFile(path, server.rotateToken());
    await client.getPod(app);
    await Deno.remove(path);
    await assert.rejects(client.getPod(app), KubeconfigError);
  } finally {
    await Deno.remove(path).catch(() => {});
  }
});

Deno.test("the caller's signal ends a request with its own reason", async () => {
  await using server = await start();
  server.inject({ kind: "hang" });
  for (const access of [accessTo(server), accessTo(server, { insecureSkipTlsVerify: true })]) {
    using client = new KubernetesClient(access);
    const reason = new Error("enough");
    const controller = new AbortController();
    const request = client.getPod(app, controller.signal);
    setTimeout(() => controller.abort(reason), 30);
    await assert.rejects(request, (error) => error === reason);
    await assert.rejects(client.getPod(app, controller.signal), (error) => error === reason);
  }
});

Deno.test("a client certificate convinces a server that asks for one", async (t) => {
  const folder = await Deno.makeTempDir({ prefix: "kuma-test-" });
  const leaf = await authority.issue({
    commonName: "server",
    ips: ["127.0.0.1"],
    dnsNames: ["other.example.com"],
  });
  const me = await authority.issue({ commonName: "system:node:a", usage: "client" });
  for (const [name, text] of Object.entries({ ca: authority.certificate, ...leaf })) {
    await Deno.writeTextFile(`${folder}/${name}`, text);
  }
  const holder = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = holder.addr;
  holder.close();
  // A TLS server of Deno cannot ask for client certificates; openssl's can.
  const openssl = new Deno.Command("openssl", {
    args: [
      ...["s_server", "-accept", `127.0.0.1:${port}`, "-www", "-quiet"],
      ...["-cert", `${folder}/certificate`, "-key", `${folder}/key`, "-CAfile", `${folder}/ca`],
      ...["-Verify", "1", "-verify_return_error"],
    ],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const base = { server: `https://127.0.0.1:${port}`, certificateAuthority: authority.certificate };
  try {
    for (let tries = 0; tries < 100; tries++) {
      const connection = await Deno.connect({ hostname: "127.0.0.1", port }).catch(() => undefined);
      connection?.close();
      if (connection !== undefined) break;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const changes: Record<string, Partial<ClusterAccess>> = {
      "verified": {},
      "unverified": { insecureSkipTlsVerify: true },
      "under another name": { tlsServerName: "other.example.com" },
    };
    for (const [how, change] of Object.entries(changes)) {
      const verified = { ...base, insecureSkipTlsVerify: false, ...change };
      await t.step(`with certificate, ${how}`, async () => {
        const access = { ...verified, clientCertificate: me };
        using client = new KubernetesClient(access);
        // Its answer is a page about the session: only the handshake matters here.
        const error = await failureOf(client.getJson("/"));
        assert.equal(error.kind, "content", error.message);
      });
      await t.step(`without certificate, ${how}`, async () => {
        using client = new KubernetesClient(verified);
        const error = await failureOf(client.getJson("/"));
        assert.notEqual(error.kind, "content", error.message);
      });
    }
  } finally {
    openssl.kill("SIGKILL");
    await openssl.status;
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("pods of all shapes are reduced to what decides", () => {
  const native = parsePod(JSON.parse(JSON.stringify(nativeSidecarPod())));
  assert.deepEqual(native.containerNames, ["app"]);
  assert.deepEqual(native.initContainerNames, ["kuma-validation", "kuma-sidecar"]);
  const mirror = parsePod(mirrorPod("0123456789abcdef0123456789abcdef"));
  assert.equal(mirror.annotations["kubernetes.io/config.hash"], "0123456789abcdef0123456789abcdef");
  const { kind: _kind, apiVersion: _apiVersion, ...item } = plainPod();
  assert.equal(parsePod(item).name, "plain-1");
  const bare = plainPod();
  bare.metadata.annotations = null;
  assert.deepEqual(Object.keys(parsePod(bare).annotations), []);
});

Deno.test("annotation names that JavaScript gives a meaning are only names", () => {
  const text = JSON.stringify(plainPod({ annotations: { marker: "" } }))
    .replace('"marker":""', '"__proto__":"a","constructor":"b"');
  const { annotations } = parsePod(JSON.parse(text));
  assert.deepEqual(Object.entries(annotations), [["__proto__", "a"], ["constructor", "b"]]);
  assert.equal(annotations["toString"], undefined);
  assert.equal(({} as Record<string, unknown>).a, undefined);
});

Deno.test("values that are no pods are refused, naming the field", async (t) => {
  const changed = (change: (pod: Record<string, unknown>) => void) => {
    const pod = JSON.parse(JSON.stringify(plainPod()));
    change(pod);
    return pod;
  };
  // deno-lint-ignore no-explicit-any -- the point is to put anything anywhere
  type Any = any;
  const rows: [string, unknown, RegExp][] = [
    ["null", null, /"pod" is null, expected an object/],
    ["text", "pod", /"pod" is "pod", expected an object/],
    ["list", [], /"pod" is \[\], expected an object/],
    ["kind", changed((pod) => pod.kind = "PodList"), /"kind" is "PodList", expected "Pod"/],
    ["version", changed((pod) => pod.apiVersion = "v2"), /"apiVersion" is "v2", expected "v1"/],
    ["no metadata", changed((pod) => delete pod.metadata), /"metadata" is missing/],
    ["no spec", changed((pod) => delete pod.spec), /"spec" is missing, expected an object/],
    ["no uid", changed((pod: Any) => delete pod.metadata.uid), /"metadata.uid" is missing/],
    ["empty name", changed((pod: Any) => pod.metadata.name = ""), /"metadata.name" is ""/],
    ["number", changed((pod: Any) => pod.metadata.namespace = 5), /"metadata.namespace" is 5/],
    ["annotations", changed((pod: Any) => pod.metadata.annotations = "a"), /annotations" is "a"/],
    [
      "annotation value",
      changed((pod: Any) => pod.metadata.annotations = { "kuma.io/sidecar-injected": true }),
      /annotation "kuma.io\/sidecar-injected" is true, expected a string/,
    ],
    ["containers", changed((pod: Any) => pod.spec.containers = {}), /"spec.containers" is \{\}/],
    ["no containers", changed((pod: Any) => delete pod.spec.containers), /"spec.containers" is mi/],
    [
      "container",
      changed((pod: Any) => pod.spec.containers = [{ name: "a" }, "b"]),
      /"spec.containers\[1\]" is "b"/,
    ],
    [
      "container's name",
      changed((pod: Any) => pod.spec.initContainers = [{}]),
      /"spec.initContainers\[0\].name" is missing/,
    ],
    [
      "inherited",
      JSON.parse('{"__proto__":{"kind":"Pod","metadata":{}}}'),
      /"metadata" is missing/,
    ],
  ];
  for (const [name, value, message] of rows) {
    await t.step(name, () => {
      assert.throws(() => parsePod(value), (error) => {
        assert(error instanceof TypeError);
        assert.match(error.message, message);
        return true;
      });
    });
  }
});
