/** A time bound holds whatever the API server does, and memory does too. */
import assert from "node:assert/strict";
import { KubernetesClient } from "../src/kubernetes/client.ts";
import { ApiError } from "../src/kubernetes/errors.ts";
import type { ClusterAccess } from "../src/kubernetes/kubeconfig.ts";
import { parsePod } from "../src/kubernetes/pod.ts";
import { watch } from "../src/kubernetes/watch.ts";
import { makeAuthority } from "./support/certificates.ts";

const mib = 1024 * 1024;

/** The hostile server's process. */
class Hostile implements AsyncDisposable {
  private constructor(
    readonly child: Deno.ChildProcess,
    readonly folder: string,
    readonly certificateAuthority: string,
    readonly ports: { readonly tls: number; readonly handshake: number },
  ) {}

  static async start(): Promise<Hostile> {
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-hostile-" });
    const authority = await makeAuthority();
    const leaf = await authority.issue({ commonName: "hostile", ips: ["127.0.0.1"] });
    await Deno.writeTextFile(`${folder}/certificate`, leaf.certificate);
    await Deno.writeTextFile(`${folder}/key`, leaf.key);
    const script = new URL("support/hostile_server.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--allow-all", script],
        ...[`${folder}/certificate`, `${folder}/key`],
      ],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const reader = child.stdout.getReader();
    const { value } = await reader.read();
    await reader.cancel();
    const ports = JSON.parse(new TextDecoder().decode(value));
    return new Hostile(child, folder, authority.certificate, ports);
  }

  access(port = this.ports.tls): ClusterAccess {
    return {
      server: `https://127.0.0.1:${port}`,
      certificateAuthority: this.certificateAuthority,
      token: "t",
      insecureSkipTlsVerify: false,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill("SIGKILL");
    await this.child.status;
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Milliseconds, bytes of memory above those before, and descriptors left behind. */
interface Cost {
  readonly milliseconds: number;
  readonly memory: number;
  /** Longest time in which no timer had its turn, in milliseconds. */
  readonly silence: number;
}

async function costOf(work: () => Promise<void>): Promise<Cost> {
  // The peak of the resident memory is reset to what it is now (proc(5)).
  await Deno.writeTextFile("/proc/self/clear_refs", "5");
  const before = Deno.memoryUsage().rss;
  const started = performance.now();
  let [last, silence] = [started, 0];
  const timer = setInterval(() => {
    const now = performance.now();
    silence = Math.max(silence, now - last);
    last = now;
  }, 5);
  await work();
  const ended = performance.now();
  clearInterval(timer);
  const status = await Deno.readTextFile("/proc/self/status");
  const peak = Number(/^VmHWM:\s+([0-9]+) kB$/m.exec(status)?.[1]) * 1024;
  return {
    milliseconds: ended - started,
    memory: peak - before,
    silence: Math.max(silence, ended - last),
  };
}

const limit = 500;
const verbose = Deno.env.get("KUMA_TEST_VERBOSE") !== undefined;

/** Busy machines are slow; without a bound these take for ever. */
function check(name: string, cost: Cost, memory: number): void {
  if (verbose) console.log(name, cost);
  assert(cost.milliseconds < limit + 1500, `${name} took ${cost.milliseconds} ms`);
  assert(cost.memory < memory, `${name} took ${cost.memory / mib} MiB`);
  assert(cost.silence < 1000, `${name} left timers without a turn for ${cost.silence} ms`);
}

const transports: Readonly<Record<string, (access: ClusterAccess) => KubernetesClient>> = {
  "fetch": (access) => new KubernetesClient(access, { requestTimeoutMilliseconds: limit }),
  "own connection": (access) =>
    new KubernetesClient(access, { requestTimeoutMilliseconds: limit, direct: true }),
};

const requests = [
  "continue",
  "early-hints",
  "headers",
  "one-header",
  "slow-headers",
  "slow-body",
  "tiny-chunks",
  "tiny-chunks-4-mib",
  "chunk-header",
  "chunk-headers",
  "endless-body",
  "refusal",
];

for (const [transport, connect] of Object.entries(transports)) {
  Deno.test(`no server keeps a request going: ${transport}`, async (t) => {
    await using hostile = await Hostile.start();
    const direct = transport !== "fetch";
    for (const behaviour of requests) {
      await t.step(behaviour, async () => {
        using client = connect(hostile.access());
        const cost = await costOf(() =>
          assert.rejects(client.getJson(`/${behaviour}`), (error) => {
            if (verbose) console.log(String(error));
            return error instanceof ApiError;
          })
        );
        // The longest answer has 4 MiB; its text and what parsing it takes count, too. Of the runtime's
        // fetch, more pieces of an answer wait to be collected while the machine is busy elsewhere;
        // without a bound it was 535 MiB and more.
        check(`${transport}, ${behaviour}`, cost, (direct ? 64 : 128) * mib);
      });
    }
    await t.step("handshake", async () => {
      using client = connect(hostile.access(hostile.ports.handshake));
      const cost = await costOf(() => assert.rejects(client.getJson("/"), ApiError));
      check(`${transport}, handshake`, cost, 64 * mib);
    });
  });
}

Deno.test("no server keeps a watch from ending, or fills the memory", async (t) => {
  await using hostile = await Hostile.start();
  const behaviours = ["events", "empty-lines", "endless-line", "endless-line-in-tiny-chunks"];
  for (const behaviour of behaviours) {
    await t.step(behaviour, async () => {
      using client = new KubernetesClient(hostile.access(), { requestTimeoutMilliseconds: limit });
      const cost = await costOf(async () => {
        const notices = watch(client, {
          path: `/${behaviour}`,
          parse: parsePod,
          signal: AbortSignal.timeout(limit),
        });
        for await (const _ of notices) continue;
      });
      check(behaviour, cost, 64 * mib);
    });
  }
});

Deno.test("memory is linear in the bytes of an answer in chunks of one byte", async () => {
  await using hostile = await Hostile.start();
  using client = new KubernetesClient(hostile.access(), {
    requestTimeoutMilliseconds: 60_000,
    direct: true,
  });
  const cost = await costOf(() =>
    assert.rejects(client.getJson("/tiny-chunks-4-mib"), /the answer is not JSON/)
  );
  if (verbose) console.log(cost);
  // 1.4 GB, had each chunk an object of its own.
  assert(cost.memory < 64 * mib, `${cost.memory / mib} MiB`);
});
