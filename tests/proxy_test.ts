import assert from "node:assert/strict";
import { KubernetesClient } from "../src/kubernetes/client.ts";
import { withVariables } from "../src/kubernetes/environment.ts";
import { ApiError } from "../src/kubernetes/errors.ts";
import type { ClusterAccess } from "../src/kubernetes/kubeconfig.ts";
import {
  type Destination,
  isExempt,
  kubeconfigProxy,
  proxyOf,
  readProxyVariables,
  withoutProxyVariables,
} from "../src/kubernetes/proxy.ts";
import { libc } from "../src/linux/libc.ts";
import { ApiServer } from "./support/api_server.ts";
import { injectedPod } from "./support/pods.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const app = { namespace: "demo", name: "app-1" };

function to(hostname: string, port = 443, protocol: "http" | "https" = "https"): Destination {
  return { protocol, hostname, port };
}

Deno.test("NO_PROXY is read as Go's httpproxy reads it", async (t) => {
  // NO_PROXY, host, port, whether the way is direct.
  const rows: [string, string, number, boolean][] = [
    ["", "example.com", 443, false],
    ["*", "example.com", 443, true],
    ["other.org,*", "10.0.0.1", 443, true],
    // Names: those below count, too.
    ["example.com", "example.com", 443, true],
    ["example.com", "api.example.com", 443, true],
    ["example.com", "notexample.com", 443, false],
    ["example.com", "example.com.evil.org", 443, false],
    ["EXAMPLE.com", "Example.COM", 443, true],
    [" example.com , other.org ", "other.org", 443, true],
    [",,example.com,", "example.com", 443, true],
    // With a dot or a star in front only those below.
    [".example.com", "api.example.com", 443, true],
    [".example.com", "example.com", 443, false],
    ["*.example.com", "api.example.com", 443, true],
    ["*.example.com", "a.b.example.com", 443, true],
    ["*.example.com", "example.com", 443, false],
    ["*example.com", "api.example.com", 443, false],
    // Ports.
    ["example.com:6443", "example.com", 6443, true],
    ["example.com:6443", "example.com", 443, false],
    ["example.com:6443", "api.example.com", 6443, true],
    [".example.com:6443", "api.example.com", 6443, true],
    ["*.example.com:6443", "api.example.com", 443, false],
    [":6443", "example.com", 6443, false],
    // Addresses.
    ["10.96.0.1", "10.96.0.1", 443, true],
    ["10.96.0.1", "10.96.0.10", 443, false],
    ["10.96.0.1:443", "10.96.0.1", 443, true],
    ["10.96.0.1:6443", "10.96.0.1", 443, false],
    ["10.96.0", "10.96.0.1", 443, false],
    ["::ffff:10.96.0.1", "10.96.0.1", 443, true],
    ["fd00::1", "fd00::1", 443, true],
    ["fd00:0:0::0001", "fd00::1", 443, true],
    ["[fd00::1]", "fd00::1", 443, true],
    ["[fd00::1]:443", "fd00::1", 443, true],
    ["[fd00::1]:6443", "fd00::1", 443, false],
    ["[::1]", "fd00::1", 443, false],
    // Ranges.
    ["10.96.0.0/12", "10.100.3.4", 443, true],
    ["10.96.0.0/12", "10.112.0.1", 443, false],
    ["10.96.0.7/12", "10.111.255.255", 443, true],
    ["0.0.0.0/0", "10.96.0.1", 443, true],
    ["10.96.0.1/32", "10.96.0.1", 443, true],
    ["10.96.0.1/33", "10.96.0.1", 443, false],
    ["10.96.0.0/12", "fd00::1", 443, false],
    ["10.96.0.0/12", "example.com", 443, false],
    ["fd00::/8", "fd12::1", 443, true],
    ["fd00::/8", "fe00::1", 443, false],
    ["fd00::/63", "fd00:0:0:1::5", 443, true],
    ["fd00::/63", "fd00:0:0:2::5", 443, false],
    ["::/0", "fd00::1", 443, true],
    // This machine, whatever the variable says.
    ["", "localhost", 6443, true],
    ["", "127.0.0.1", 6443, true],
    ["", "127.8.9.1", 6443, true],
    ["", "::1", 6443, true],
    ["", "localhost.example.com", 6443, false],
  ];
  for (const [noProxy, host, port, expected] of rows) {
    await t.step(`${JSON.stringify(noProxy)} and ${host}:${port}`, () => {
      assert.equal(isExempt(to(host, port), noProxy), expected);
    });
  }
});

Deno.test("the proxy is the one of the server's protocol", () => {
  const variables = { HTTPS_PROXY: "http://secure:3128", HTTP_PROXY: "plain:3128" };
  assert.deepEqual(proxyOf(variables, to("example.com")), {
    url: "http://secure:3128",
    label: 'proxy "http://secure:3128" of HTTPS_PROXY',
  });
  assert.deepEqual(proxyOf(variables, to("example.com", 80, "http")), {
    url: "http://plain:3128",
    label: 'proxy "http://plain:3128" of HTTP_PROXY',
  });
  assert.equal(proxyOf({ ...variables, NO_PROXY: "example.com" }, to("example.com")), undefined);
  assert.equal(proxyOf({}, to("example.com")), undefined);
  assert.equal(proxyOf({ HTTPS_PROXY: "  " }, to("example.com")), undefined);
  assert.throws(() => proxyOf({ HTTPS_PROXY: "ftp://a b" }, to("example.com")), {
    message: 'HTTPS_PROXY does not hold the address of a proxy; expected "http://host:port"',
  });
  const { label } = kubeconfigProxy("http://user:secret@proxy:3128/");
  assert.equal(label, 'proxy "http://proxy:3128" of "proxy-url" of the kubeconfig');
});

Deno.test("of two spellings of a variable the one in capital letters counts, as in Go", () => {
  const both = { https_proxy: "low:1", HTTPS_PROXY: "high:1", no_proxy: "low.example" };
  const found = withVariables({ ...both, NO_PROXY: undefined }, readProxyVariables);
  assert.equal(found.HTTPS_PROXY, "high:1");
  assert.equal(found.NO_PROXY, "low.example");
});

Deno.test("variables that are changed for a moment are as before afterwards", () => {
  const name = "HTTPS_PROXY";
  withVariables({ [name]: "http://proxy:3128" }, () => {
    assert.equal(withoutProxyVariables(() => Deno.env.get(name)), undefined);
    assert.equal(Deno.env.get(name), "http://proxy:3128");
    assert.throws(() => withoutProxyVariables(() => assert.fail("work fails")), /work fails/);
    assert.equal(Deno.env.get(name), "http://proxy:3128");
  });
});

/** A proxy that leads every way to one port of this machine, or refuses it. */
class ConnectProxy implements Disposable {
  readonly heads: string[] = [];
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });

  constructor(readonly port: number, readonly refusal?: string) {
    this.#accept().catch(() => {});
  }

  get address(): string {
    return `127.0.0.1:${this.#listener.addr.port}`;
  }

  async #accept(): Promise<void> {
    for await (const client of this.#listener) this.#serve(client).catch(() => {});
  }

  async #serve(client: Deno.TcpConn): Promise<void> {
    const buffer = new Uint8Array(4096);
    this.heads.push(new TextDecoder().decode(buffer.subarray(0, await client.read(buffer) ?? 0)));
    if (this.refusal !== undefined) {
      await client.write(new TextEncoder().encode(`HTTP/1.1 ${this.refusal}\r\n\r\n`));
      return client.close();
    }
    const server = await Deno.connect({ hostname: "127.0.0.1", port: this.port });
    await client.write(new TextEncoder().encode("HTTP/1.1 200 Connected\r\n\r\n"));
    await Promise.allSettled([
      client.readable.pipeTo(server.writable),
      server.readable.pipeTo(client.writable),
    ]);
  }

  [Symbol.dispose](): void {
    this.#listener.close();
  }
}

// The API server has no address but through the proxy; its certificate is for this name, too.
const host = "kubernetes.default.svc";

function accessTo(server: ApiServer, changes: Partial<ClusterAccess> = {}): ClusterAccess {
  return {
    server: `https://${host}:6443`,
    certificateAuthority: server.certificateAuthority,
    token: server.token,
    insecureSkipTlsVerify: false,
    ...changes,
  };
}

for (const direct of [true, false]) {
  const transport = direct ? "own connection" : "fetch";

  Deno.test(`a proxy of the environment is used: ${transport}`, async () => {
    await using server = await ApiServer.start({ objects: [injectedPod({ uid: "uid-1" })] });
    using proxy = new ConnectProxy(server.port);
    {
      using client = new KubernetesClient(accessTo(server), {
        direct,
        proxyVariables: { HTTPS_PROXY: `http://me:p%40ss@${proxy.address}` },
      });
      assert.equal((await client.getPod(app)).uid, "uid-1");
    }
    server.closeConnections();
    assert.equal(proxy.heads.length, 1);
    assert.match(proxy.heads[0]!, /^CONNECT kubernetes\.default\.svc:6443 HTTP\/1\.1\r\n/);
    const login = new RegExp(`^proxy-authorization: Basic ${btoa("me:p@ss")}\r$`, "im");
    assert.match(proxy.heads[0]!, login);
    assert.doesNotMatch(proxy.heads[0]!, new RegExp(server.token), "the token is for the server");
  });

  Deno.test(`a client asks the environment for a proxy: ${transport}`, async () => {
    await using server = await ApiServer.start({ objects: [injectedPod({ uid: "uid-1" })] });
    using proxy = new ConnectProxy(server.port);
    Deno.env.set("https_proxy", proxy.address);
    try {
      using client = new KubernetesClient(accessTo(server), { direct });
      assert.equal((await client.getPod(app)).uid, "uid-1");
    } finally {
      Deno.env.delete("https_proxy");
    }
    server.closeConnections();
    assert.equal(proxy.heads.length, 1);
  });

  Deno.test(`ALL_PROXY, which Go does not know, leads nowhere: ${transport}`, async () => {
    await using server = await ApiServer.start({ objects: [injectedPod({ uid: "uid-1" })] });
    using proxy = new ConnectProxy(server.port);
    Deno.env.set("ALL_PROXY", `http://${proxy.address}`);
    try {
      using client = new KubernetesClient(accessTo(server), { direct });
      await assert.rejects(client.getPod(app), { kind: "connection" });
    } finally {
      Deno.env.delete("ALL_PROXY");
    }
    assert.deepEqual(proxy.heads, []);
  });

  Deno.test(`NO_PROXY leads past the proxy: ${transport}`, async () => {
    await using server = await ApiServer.start({ objects: [injectedPod({ uid: "uid-1" })] });
    using proxy = new ConnectProxy(server.port);
    const variables = { HTTPS_PROXY: `http://${proxy.address}`, NO_PROXY: "*.default.svc:6443" };
    using client = new KubernetesClient(accessTo(server), { direct, proxyVariables: variables });
    await assert.rejects(client.getPod(app), { kind: "connection" });
    assert.deepEqual(proxy.heads, []);
  });

  Deno.test(`what fails behind a proxy names it, without its password: ${transport}`, async () => {
    await using server = await ApiServer.start();
    for (const refusal of ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad"]) {
      using proxy = new ConnectProxy(server.port, refusal);
      using client = new KubernetesClient(accessTo(server), {
        direct,
        proxyVariables: { HTTPS_PROXY: `http://me:secret@${proxy.address}` },
      });
      await assert.rejects(client.getPod(app), (error) => {
        assert(error instanceof ApiError);
        assert.equal(error.kind, "connection");
        const end = `, by way of the proxy "http://${proxy.address}" of HTTPS_PROXY`;
        assert(error.message.endsWith(end), error.message);
        if (direct) {
          const refused = `the proxy refused the way to ${host}:6443 with ${refusal.slice(0, 3)}`;
          assert(error.message.includes(refused), error.message);
        }
        assert.doesNotMatch(error.message, /secret/);
        return true;
      });
    }
  });
}

Deno.test("a proxy and another name for the server go together", async () => {
  await using server = await ApiServer.start({ objects: [injectedPod({ uid: "uid-1" })] });
  using proxy = new ConnectProxy(server.port);
  const access = accessTo(server, {
    server: "https://api.example.com",
    tlsServerName: host,
    proxyUrl: `http://${proxy.address}`,
  });
  using client = new KubernetesClient(access);
  assert.equal((await client.getPod(app)).uid, "uid-1");
  assert.match(proxy.heads[0]!, /^CONNECT api\.example\.com:443 /);
  server.closeConnections();
});
