/** Answers of the API server that are broken in any way give this pod or none, in time. */
import assert from "node:assert/strict";
import { KubernetesClient } from "../src/kubernetes/client.ts";
import { ApiError } from "../src/kubernetes/errors.ts";
import { parsePod, type Pod } from "../src/kubernetes/pod.ts";
import { libc } from "../src/linux/libc.ts";
import { makeAuthority } from "./support/certificates.ts";
import { Dice } from "./support/damage.ts";
import { mutate, type MutatedAnswer } from "./support/mutations.ts";
import { injectedPod } from "./support/pods.ts";

// Loaded once for the process and never unloaded, which a test must not be blamed for.
libc();

const seed = Number(Deno.env.get("KUMA_TEST_SEED") ?? 20261127);
const limit = 400;
const concurrency = 16;

/** A TLS server that answers each connection with the bytes that belong to its path. */
class MutatingServer implements AsyncDisposable {
  readonly answers = new Map<string, MutatedAnswer>();
  readonly #open = new Set<Deno.TlsConn>();
  readonly #accepting: Promise<void>;

  private constructor(
    readonly listener: Deno.TlsListener,
    readonly certificateAuthority: string,
  ) {
    this.#accepting = this.#accept();
  }

  static async start(): Promise<MutatingServer> {
    const authority = await makeAuthority();
    const { certificate: cert, key } = await authority.issue({
      commonName: "server",
      ips: ["127.0.0.1"],
    });
    const alpnProtocols = ["http/1.1"];
    const listener = Deno.listenTls({ hostname: "127.0.0.1", port: 0, cert, key, alpnProtocols });
    return new MutatingServer(listener, authority.certificate);
  }

  get url(): string {
    return `https://127.0.0.1:${this.listener.addr.port}`;
  }

  async #accept(): Promise<void> {
    const work: Promise<void>[] = [];
    for await (const connection of this.listener) {
      this.#open.add(connection);
      work.push(this.#serve(connection).catch(() => {}).finally(() => this.#end(connection)));
    }
    await Promise.all(work);
  }

  async #serve(connection: Deno.TlsConn): Promise<void> {
    const buffer = new Uint8Array(16_384);
    for (let length = await connection.read(buffer); length !== null;) {
      const request = new TextDecoder().decode(buffer.subarray(0, length));
      const answer = this.answers.get(/^GET (\S+) /.exec(request)?.[1] ?? "");
      if (answer === undefined) return;
      for (let rest = answer.bytes; rest.length > 0;) {
        rest = rest.subarray(await connection.write(rest));
      }
      if (!answer.staysOpen) return;
      length = await connection.read(buffer);
    }
  }

  #end(connection: Deno.TlsConn): void {
    if (!this.#open.delete(connection)) return;
    try {
      connection.close();
    } catch {
      // Closed already.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.listener.close();
    for (const connection of this.#open) this.#end(connection);
    await this.#accepting;
  }
}

/** What an answer's body says by the plainest means; `undefined` when that is not the pod. */
function meaningOf(body: Uint8Array | undefined, name: string): Pod | undefined {
  try {
    const json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
    const pod = parsePod(json);
    return json.kind === "Pod" && pod.name === name && pod.namespace === "demo" ? pod : undefined;
  } catch {
    return undefined;
  }
}

for (
  const [transport, direct, count] of [["own connection", true, 900], [
    "fetch",
    false,
    500,
  ]] as const
) {
  Deno.test(`${count} broken answers give the right pod or none: ${transport}`, async () => {
    const descriptors = () => [...Deno.readDirSync("/proc/self/fd")].length;
    const before = descriptors();
    const memory = Deno.memoryUsage().rss;
    const verdicts: Record<string, number> = {};
    {
      await using server = await MutatingServer.start();
      const random = new Dice(seed);
      const clientWithin = (requestTimeoutMilliseconds: number) =>
        new KubernetesClient({
          server: server.url,
          certificateAuthority: server.certificateAuthority,
          token: "t",
          insecureSkipTlsVerify: false,
        }, { direct, requestTimeoutMilliseconds });
      using client = clientWithin(limit);
      using patient = clientWithin(60_000);
      const name = "app-1";
      const body = new TextEncoder().encode(JSON.stringify(injectedPod({ name, uid: "u" })));

      const one = async (index: number, answer: MutatedAnswer): Promise<void> => {
        const path = `/${index}`;
        server.answers.set(path, answer);
        const what = `seed ${seed}, answer ${index}, ${answer.name}: ${
          JSON.stringify(new TextDecoder().decode(answer.bytes).slice(0, 2000))
        }`;
        const started = performance.now();
        let got: Pod | undefined;
        let verdict = "pod";
        try {
          got = meaningOf(
            new TextEncoder().encode(JSON.stringify(await client.getJson(path))),
            name,
          );
          verdict = got === undefined ? "another object" : "pod";
        } catch (error) {
          assert(error instanceof ApiError, `${what}: ${error}`);
          verdict = error.kind;
        }
        verdicts[verdict] = (verdicts[verdict] ?? 0) + 1;
        const took = performance.now() - started;
        assert(took < limit + 2000, `${what}: took ${took} ms`);
        // Never a pod that the answer does not hold.
        if (got !== undefined) assert.deepEqual(got, meaningOf(answer.body, name), what);
        const isWhole = answer.name.startsWith("JSON") && !answer.staysOpen;
        if (!isWhole) return;
        if (verdict === "timeout") {
          // With the machine busy elsewhere even a good answer can miss the bound, as it should.
          const late = await patient.getJson(path).catch(() => undefined);
          got = meaningOf(new TextEncoder().encode(JSON.stringify(late) ?? ""), name);
        }
        assert.deepEqual(got, meaningOf(answer.body, name), what);
      };

      let next = 0;
      await Promise.all(Array.from({ length: concurrency }, async () => {
        while (next < count) await one(next++, mutate(random, body));
      }));
    }
    // Both outcomes must have come about, or the mutations are too tame or too wild.
    assert((verdicts.pod ?? 0) > count / 20, JSON.stringify(verdicts));
    assert((verdicts.content ?? 0) > count / 20, JSON.stringify(verdicts));
    assert((verdicts.connection ?? 0) > count / 20, JSON.stringify(verdicts));
    // Deno ends TLS connections a little after they were closed.
    for (let attempt = 0; descriptors() > before && attempt < 1000; attempt++) {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(descriptors(), before, "descriptors are left open");
    const growth = (Deno.memoryUsage().rss - memory) / 2 ** 20;
    assert(growth < 150, `${growth} MiB more`);
  });
}
