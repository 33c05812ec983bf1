import assert from "node:assert/strict";
import { type SocketLimits, SocketServer } from "../installer/agent/socket_server.ts";
import { AgentClient, AgentPodError, AgentUnavailableError } from "../src/agent/client.ts";
import type { PodRequest, ReceivedFinish } from "../src/agent/messages.ts";
import type { Pod } from "../src/kubernetes/pod.ts";

const pod: Pod = {
  namespace: "demo",
  name: "known",
  uid: "u-1",
  annotations: { "kuma.io/sidecar-injected": "true" },
  containerNames: ["app", "kuma-sidecar"],
  initContainerNames: [],
};

/** A served socket in a folder of its own. */
class Served implements Disposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "kuma-test-agent-" });
  readonly finished: ReceivedFinish[] = [];
  readonly failures: string[] = [];
  readonly server: SocketServer;
  fetch: (request: PodRequest) => Promise<Pod> = () => Promise.reject(new Error("No such pod"));

  constructor(
    limits: Partial<SocketLimits> = {
      connections: 8,
      idleMilliseconds: 300,
      fetchMilliseconds: 1000,
    },
  ) {
    Deno.chmodSync(this.folder, 0o700);
    this.server = new SocketServer(
      this.path,
      {
        cached: ({ name }) => name === "known" ? pod : undefined,
        fetch: (request) => this.fetch(request),
      },
      {
        finished: (request) => this.finished.push(request),
        podAnswered: () => {},
        failed: (cause) => this.failures.push(cause),
      },
      limits,
    );
  }

  get path(): string {
    return `${this.folder}/agent.sock`;
  }

  [Symbol.dispose](): void {
    this.server.close();
    Deno.removeSync(this.folder, { recursive: true });
  }
}

async function connect(served: Served): Promise<AgentClient> {
  const client = await AgentClient.connect(served.path);
  assert.ok(client, "the agent must be there");
  return client;
}

Deno.test("a known pod is answered at once, log and outcome are taken over", async () => {
  using served = new Served();
  served.server.ensureServing();
  const client = await connect(served);
  assert.deepEqual(await client.pod({ namespace: "demo", name: "known" }, 1000), pod);
  const record = {
    time: 1,
    severity: "info" as const,
    logger: "kuma-cni",
    message: "Pod's traffic is redirected",
    fields: { pod: "known" },
  };
  const outcome = {
    command: "ADD",
    result: "redirected" as const,
    bytecode: "used",
    phases: { total: 3 },
  };
  assert.equal(await client.finish([record], outcome), true);
  client.close();
  assert.deepEqual(served.finished, [{ type: "finish", records: [record], outcome }]);
});

Deno.test("another pod than the one that was asked for is no answer", async () => {
  using served = new Served();
  served.server.ensureServing();
  for (const other of [{ name: "other" }, { name: "slow", namespace: "other" }]) {
    served.fetch = () => Promise.resolve({ ...pod, ...other });
    const client = await connect(served);
    await assert.rejects(
      client.pod({ namespace: "demo", name: "slow" }, 1000),
      AgentUnavailableError,
    );
  }
});

Deno.test("an unknown pod is asked for live, also when that takes longer than a silence", async () => {
  using served = new Served();
  served.server.ensureServing();
  served.fetch = async () => {
    await new Promise((resolve) => setTimeout(resolve, 400));
    return { ...pod, name: "slow" };
  };
  const client = await connect(served);
  assert.equal((await client.pod({ namespace: "demo", name: "slow" }, 2000)).name, "slow");
  served.fetch = () =>
    Promise.reject(Object.assign(new Error("Forbidden"), { temporary: false, status: 403 }));
  await assert.rejects(client.pod({ namespace: "demo", name: "x" }, 2000), (error) => {
    assert.ok(error instanceof AgentPodError);
    assert.deepEqual([error.temporary, error.status], [false, 403]);
    return true;
  });
  client.close();
});

Deno.test("nobody listening and a silent agent cost no more than their bounds", async () => {
  using served = new Served();
  assert.equal(await AgentClient.connect(served.path), undefined);
  // A listener whose process hangs: the kernel accepts, nobody answers.
  const silent = Deno.listen({ transport: "unix", path: served.path });
  const client = await connect(served);
  const started = performance.now();
  await assert.rejects(client.pod({ namespace: "demo", name: "known" }, 5000), (error) => {
    return error instanceof AgentUnavailableError;
  });
  // Once silent, always silent: the log must not wait a second time.
  assert.equal(await client.finish([]), false);
  const waited = performance.now() - started;
  assert.ok(waited >= 190 && waited < 400, `waited ${waited} ms, expected about 200`);
  silent.close();
});

Deno.test("the socket belongs to root alone and is served again after it was deleted", () => {
  using served = new Served();
  served.server.ensureServing();
  assert.equal((Deno.lstatSync(served.path).mode ?? 0) & 0o777, 0o600);
  Deno.removeSync(served.path);
  assert.equal(served.server.isServing(), false);
  served.server.ensureServing();
  assert.equal(served.server.isServing(), true);
});

Deno.test("a stale socket is replaced, a successor's is left alone", async () => {
  using served = new Served();
  // What a killed agent leaves behind.
  const dead = Deno.listen({ transport: "unix", path: served.path });
  Deno.renameSync(served.path, `${served.path}.old`);
  dead.close();
  Deno.renameSync(`${served.path}.old`, served.path);
  served.server.ensureServing();
  const client = await connect(served);
  client.close();
  // The next agent takes the place over while this one still runs.
  Deno.removeSync(served.path);
  const next = Deno.listen({ transport: "unix", path: served.path });
  served.server.close();
  assert.ok(Deno.lstatSync(served.path).isSocket, "the successor's socket must stay");
  next.close();
});

Deno.test("a folder that others can enter is refused", () => {
  using served = new Served();
  Deno.chmodSync(served.folder, 0o755);
  assert.throws(() => served.server.ensureServing(), /mode 0700/);
});

Deno.test("what all connections hold together is bounded, and comes back", async () => {
  const bytes = 4 * 1024 * 1024;
  const connections = 64;
  using served = new Served({ connections, bytes, idleMilliseconds: 20_000 });
  const { server } = served;
  server.ensureServing();
  const open = await Promise.all(
    Array.from(
      { length: connections },
      () => Deno.connect({ transport: "unix", path: served.path }),
    ),
  );
  let most = 0;
  const watching = setInterval(() => most = Math.max(most, server.heldBytes), 1);
  try {
    // Each sends a megabyte without an end: 64 MiB where 4 are allowed.
    const block = new Uint8Array(64 * 1024).fill(0x61);
    const flood = async (connection: Deno.Conn) => {
      for (let sent = 0; sent < 1024 * 1024;) sent += await connection.write(block);
    };
    const ends = await Promise.allSettled(open.map(flood));
    assert.ok(ends.filter(({ status }) => status === "rejected").length > connections / 2);
    assert.ok(most > bytes / 2 && most <= bytes, `held ${most} bytes`);
    assert.ok(served.failures.includes("overload"));
  } finally {
    clearInterval(watching);
    for (const connection of open) connection.close();
  }
  await until(() => server.heldBytes === 0);
  const client = await connect(served);
  assert.equal((await client.pod({ namespace: "demo", name: "known" }, 1000)).uid, "u-1");
  client.close();
  await until(() => server.heldBytes === 0);
});

Deno.test("a client that asks and never reads is sent away", async () => {
  using served = new Served({ idleMilliseconds: 300 });
  const large = { ...pod, annotations: { "kuma.io/x": "x".repeat(2 * 1024 * 1024) } };
  served.fetch = () => Promise.resolve(large);
  served.server.ensureServing();
  const connection = await Deno.connect({ transport: "unix", path: served.path });
  const question = { type: "pod", namespace: "demo", name: "large", uid: "u-1" };
  await connection.write(new TextEncoder().encode(JSON.stringify(question) + "\n"));
  await until(() => served.server.heldBytes > 2 * 1024 * 1024);
  await until(() => served.server.heldBytes === 0);
  await until(() => served.failures.includes("timeout"));
  connection.close();
});

Deno.test("only so many questions are asked of the API server at once", async () => {
  using served = new Served({ connections: 64, questions: 3 });
  let running = 0;
  let most = 0;
  served.fetch = async () => {
    most = Math.max(most, ++running);
    await new Promise((resolve) => setTimeout(resolve, 5));
    running--;
    return { ...pod, name: "asked" };
  };
  served.server.ensureServing();
  const clients = await Promise.all(Array.from({ length: 20 }, () => connect(served)));
  const pods = await Promise.all(
    clients.map((client) => client.pod({ namespace: "demo", name: "asked" }, 5000)),
  );
  assert.equal(pods.length, 20);
  assert.equal(most, 3);
  for (const client of clients) client.close();
});

/** Waits until something holds. */
async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!holds()) {
    assert.ok(performance.now() < deadline, "waited in vain");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

Deno.test("hostile clients hurt only themselves", async () => {
  using served = new Served();
  served.server.ensureServing();
  const open = () => Deno.connect({ transport: "unix", path: served.path });
  const say = async (text: string): Promise<number | null> => {
    const connection = await open();
    try {
      await connection.write(new TextEncoder().encode(text));
      return await connection.read(new Uint8Array(64));
    } finally {
      connection.close();
    }
  };
  for (
    const garbage of [
      "\n",
      "null\n",
      "{}\n",
      "GET / HTTP/1.1\r\n\r\n",
      '{"type":"pod"}\n',
      '{"type":"pod","namespace":1,"name":[]}\n',
      '{"type":"finish","records":[{"severity":"fatal"}]}\n',
      '{"type":"finish","records":[],"outcome":{"command":"ADD","result":"made up"}}\n',
      '{"type":"__proto__"}\n',
    ]
  ) {
    assert.equal(await say(garbage), null, `${garbage} must end the connection unanswered`);
  }
  assert.equal(served.finished.length, 0);
  assert.deepEqual([...new Set(served.failures)], ["protocol"]);

  // A line without end is cut off at the bound.
  const endless = await open();
  const flood = (async () => {
    const block = new Uint8Array(64 * 1024).fill(0x61);
    for (let sent = 0; sent < 16 * 1024 * 1024;) sent += await endless.write(block);
  })();
  await assert.rejects(flood);
  endless.close();

  // Those who say nothing, as many as are let in, are sent away after the bound; further ones at once.
  const idle = await Promise.all(Array.from({ length: 12 }, open));
  const ended = await Promise.all(
    idle.map((connection) => connection.read(new Uint8Array(1)).catch(() => null)),
  );
  assert.deepEqual(ended, Array(12).fill(null));
  for (const connection of idle) connection.close();
  assert.ok(served.failures.includes("overload"));
  assert.ok(served.failures.includes("timeout"));

  // After all that an honest client is served as before.
  const client = await connect(served);
  assert.equal((await client.pod({ namespace: "demo", name: "known" }, 1000)).uid, "u-1");
  client.close();
});
