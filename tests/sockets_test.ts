import assert from "node:assert/strict";
import { LinuxError } from "../src/linux/errno.ts";
import {
  bindUdp,
  connectTcp,
  type Endpoint,
  formatEndpoint,
  listenTcp,
  parseEndpoint,
  poll,
  SocketTimeout,
  withFileSystemUser,
} from "./support/sockets.ts";
import { createNamespace, setLinkUp } from "./support/topology.ts";

const loopbacks = ["127.0.0.1", "::1"] as const;

/** A namespace of the test's own, so that every port is free. */
function loopbackNamespace(): ReturnType<typeof createNamespace> {
  const namespace = createNamespace();
  namespace.run(() => setLinkUp("lo"));
  return namespace;
}

Deno.test("endpoints are read and written", () => {
  for (const text of ["10.0.0.1:80", "[fd00::1]:53"]) {
    assert.equal(formatEndpoint(parseEndpoint(text)), text);
  }
  for (const text of ["", "10.0.0.1", "fd00::1:80", "[10.0.0.1", "host:80", "[::1]:123456"]) {
    assert.throws(() => parseEndpoint(text), /Cannot use ".*" as an endpoint/);
  }
  assert.throws(() => listenTcp({ address: "10.0.0.999", port: 1 }), /as an IP address/);
});

for (const address of loopbacks) {
  Deno.test(`TCP over ${address}: both ends see each other and exchange bytes`, () => {
    using namespace = loopbackNamespace();
    namespace.run(() => {
      using listener = listenTcp({ address, port: 0 });
      using client = connectTcp(listener.local, { timeoutMs: 1000 });
      listener.wait(1000);
      using server = listener.accept();
      assert.ok(server);
      assert.deepEqual(server.remote, client.local);
      assert.deepEqual(server.local, client.remote);
      assert.equal(listener.accept(), undefined);
      assert.equal(client.receive(), undefined);
      server.send(new Uint8Array([1, 2, 3]));
      client.wait(1000);
      assert.deepEqual(client.receive(), new Uint8Array([1, 2, 3]));
      server.endSending();
      client.wait(1000);
      assert.deepEqual(client.receive(), new Uint8Array());
    });
  });

  Deno.test(`UDP over ${address}: datagrams, their senders, and refusals`, () => {
    using namespace = loopbackNamespace();
    namespace.run(() => {
      using server = bindUdp({ address, port: 0 });
      using client = bindUdp({ address, port: 0 });
      assert.equal(server.receive(), undefined);
      client.connect(server.local);
      client.send(new Uint8Array([7]));
      server.wait(1000);
      assert.deepEqual(server.receive(), { data: new Uint8Array([7]), from: client.local });
      server.send(new Uint8Array([8]), client.local);
      client.wait(1000);
      assert.equal(client.receive()?.data[0], 8);
      server.close();
      client.send(new Uint8Array([9]));
      client.wait(1000);
      assert.throws(() => client.receive(), { code: "ECONNREFUSED" });
    });
  });

  Deno.test(`connecting over ${address} to nobody is refused`, () => {
    using namespace = loopbackNamespace();
    namespace.run(() => {
      assert.throws(
        () => connectTcp({ address, port: 81 }, { timeoutMs: 1000 }),
        (error) => error instanceof LinuxError && error.code === "ECONNREFUSED",
      );
    });
  });
}

Deno.test("an IPv6 listener takes no IPv4 connections", () => {
  using namespace = loopbackNamespace();
  namespace.run(() => {
    using listener = listenTcp({ address: "::", port: 0 });
    const to: Endpoint = { address: "127.0.0.1", port: listener.local.port };
    assert.throws(() => connectTcp(to, { timeoutMs: 1000 }), { code: "ECONNREFUSED" });
  });
});

Deno.test("a socket stays in the namespace in which it was made", () => {
  using namespace = loopbackNamespace();
  using listener = namespace.run(() => listenTcp({ address: "127.0.0.1", port: 0 }));
  using client = namespace.run(() => connectTcp(listener.local, { timeoutMs: 1000 }));
  listener.wait(1000);
  using server = listener.accept();
  assert.deepEqual(server?.remote, client.local);
});

Deno.test("waiting ends when its time is over", () => {
  using namespace = loopbackNamespace();
  using listener = namespace.run(() => listenTcp({ address: "127.0.0.1", port: 0 }));
  const started = performance.now();
  assert.throws(() => listener.wait(30), SocketTimeout);
  const took = performance.now() - started;
  assert.ok(took >= 29 && took < 1000, `waited ${took} ms`);
  assert.deepEqual(poll([{ fd: listener.fd }], 0), [false]);
});

Deno.test("the file-system user changes for the work only, also when it throws", () => {
  const current = (): string | undefined =>
    /^Uid:\t\d+\t\d+\t\d+\t(\d+)$/m.exec(Deno.readTextFileSync("/proc/thread-self/status"))?.[1];
  const before = current();
  assert.equal(withFileSystemUser(5678, current), "5678");
  assert.throws(() => withFileSystemUser(1000, () => assert.fail("inside")), /inside/);
  assert.equal(current(), before);
});
