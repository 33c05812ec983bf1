/** Debian's docker-registry, started by hand on this machine's loopback with all its data in a folder. */
import type { Authority } from "./certificates.ts";

/** How a registry asks who it is that pushes. */
export type RegistryLogin = "none" | "password" | "token";

/** The one account that the registries of the tests have. */
export const account = {
  user: "mesh",
  password: "correct horse",
  refreshToken: "battery",
} as const;

/** Bcrypt of the account's password. */
const passwordHash = "$2b$04$kumacnikumacnikumacniu/HaxoC22bLaViZ.NltOZLt.DoyaJLAK";
const service = "registry.test";
const issuer = "issuer.test";

/** Choices of a registry. */
export interface RegistryOptions {
  readonly login?: RegistryLogin;
  /** Certificates; tokens are signed by a leaf of it. */
  readonly authority?: Authority;
  /** Whether it speaks TLS, with a certificate of the authority. */
  readonly tls?: boolean;
}

/** A running registry; dispose of it to end it and to remove its data. */
export class Registry implements AsyncDisposable {
  private constructor(
    private readonly folder: string,
    /** Host and port, as in an image's name. */
    readonly address: string,
    private readonly process: Deno.ChildProcess,
    private readonly tokenServer: Deno.HttpServer | undefined,
    private readonly tokens: { readonly given: number },
  ) {}

  /** Requests for tokens so far. */
  get tokensGiven(): number {
    return this.tokens.given;
  }

  /** Starts a registry and waits until it answers. */
  static async start(options: RegistryOptions = {}): Promise<Registry> {
    const { login = "none", authority, tls = false } = options;
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-registry-" });
    const port = freePort();
    const address = `127.0.0.1:${port}`;
    const tokens = { given: 0 };
    let auth: unknown;
    let tokenServer: Deno.HttpServer | undefined;
    if (login === "password") {
      Deno.writeTextFileSync(`${folder}/htpasswd`, `${account.user}:${passwordHash}\n`);
      auth = { htpasswd: { realm: "test", path: `${folder}/htpasswd` } };
    }
    if (login === "token") {
      const { certificate, key } = await authority!.issue({ commonName: issuer });
      tokenServer = Deno.serve(
        { hostname: "127.0.0.1", port: 0, onListen: () => {} },
        (request) => {
          tokens.given++;
          return giveToken(request, certificate, key);
        },
      );
      Deno.writeTextFileSync(`${folder}/authority.pem`, authority!.certificate);
      const { port } = tokenServer.addr as Deno.NetAddr;
      const realm = `http://127.0.0.1:${port}/token`;
      auth = { token: { realm, service, issuer, rootcertbundle: `${folder}/authority.pem` } };
    }
    const ownTls = { certificate: `${folder}/tls.pem`, key: `${folder}/tls.key` };
    if (tls) {
      const leaf = await authority!.issue({ commonName: "registry", ips: ["127.0.0.1"] });
      Deno.writeTextFileSync(ownTls.certificate, leaf.certificate);
      Deno.writeTextFileSync(ownTls.key, leaf.key);
    }
    Deno.writeTextFileSync(
      `${folder}/config.yml`,
      JSON.stringify({
        version: 0.1,
        log: { level: "warn" },
        storage: { filesystem: { rootdirectory: `${folder}/data` } },
        http: { addr: address, relativeurls: true, ...(tls ? { tls: ownTls } : {}) },
        ...(auth === undefined ? {} : { auth }),
      }),
    );
    const process = new Deno.Command("docker-registry", {
      args: ["serve", `${folder}/config.yml`],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    const registry = new Registry(folder, address, process, tokenServer, tokens);
    try {
      await registry.#untilAnswers();
    } catch (error) {
      await registry[Symbol.asyncDispose]();
      throw error;
    }
    return registry;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.process.kill("SIGTERM");
    } catch {
      // Has ended by itself.
    }
    await this.process.status;
    await this.tokenServer?.shutdown();
    await Deno.remove(this.folder, { recursive: true });
  }

  async #untilAnswers(): Promise<void> {
    for (let attempt = 0; attempt < 500; attempt++) {
      try {
        await (await fetch(`http://${this.address}/v2/`)).body?.cancel();
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    throw new Error(`Waited 10 s in vain for docker-registry at ${this.address}`);
  }
}

/** A token by the specification of distribution, for whoever sends the account's password. */
async function giveToken(request: Request, certificate: string, key: string): Promise<Response> {
  const { user, password, refreshToken } = account;
  const oauth = request.method === "POST";
  const query = oauth
    ? new URLSearchParams(await request.text())
    : new URL(request.url).searchParams;
  const known = oauth
    ? query.get("grant_type") === "refresh_token" && query.get("refresh_token") === refreshToken
    : request.headers.get("authorization") === `Basic ${btoa(`${user}:${password}`)}`;
  if (!known) return new Response("", { status: 401 });
  const access = query.getAll("scope").map((scope) => {
    const [type, name, actions] = scope.split(":");
    return { type, name, actions: actions?.split(",") };
  });
  if (query.get("service") !== service) return new Response("", { status: 400 });
  const now = Math.floor(Date.now() / 1000);
  const der = certificate.replace(/-----[^-]*-----|\s/g, "");
  const parts = [
    { typ: "JWT", alg: "ES256", x5c: [der] },
    {
      iss: issuer,
      aud: service,
      sub: user,
      exp: now + 60,
      nbf: now - 60,
      iat: now,
      jti: crypto.randomUUID(),
      access,
    },
  ].map((part) => base64url(new TextEncoder().encode(JSON.stringify(part))));
  const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" };
  const pkcs8 = Uint8Array.fromBase64(key.replace(/-----[^-]*-----|\s/g, ""));
  const signer = await crypto.subtle.importKey("pkcs8", pkcs8, algorithm, false, ["sign"]);
  const text = new TextEncoder().encode(parts.join("."));
  const signature = new Uint8Array(await crypto.subtle.sign(algorithm, signer, text));
  const token = `${parts.join(".")}.${base64url(signature)}`;
  return Response.json(oauth ? { access_token: token } : { token });
}

function base64url(bytes: Uint8Array): string {
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
