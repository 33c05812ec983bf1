/** The kubeconfig's authority is the only one that is trusted, whatever the environment says. */
import assert from "node:assert/strict";
import { type ClusterAccess } from "../src/kubernetes/kubeconfig.ts";
import { ApiServer } from "./support/api_server.ts";
import { type Authority, makeAuthority } from "./support/certificates.ts";
import { injectedPod } from "./support/pods.ts";

/** A server that a stranger's authority vouches for, and a kubeconfig that names another one. */
class Bed implements AsyncDisposable {
  private constructor(
    readonly folder: string,
    readonly own: Authority,
    readonly stranger: Authority,
    readonly server: ApiServer,
  ) {}

  static async start(): Promise<Bed> {
    const folder = await Deno.makeTempDir({ prefix: "kuma-test-trust-" });
    const [own, stranger] = [await makeAuthority("own"), await makeAuthority("stranger")];
    const server = await ApiServer.start({ authority: stranger, objects: [injectedPod()] });
    await Deno.writeTextFile(`${folder}/stranger.pem`, stranger.certificate);
    await Deno.mkdir(`${folder}/certificates`);
    // OpenSSL's name of a certificate in such a folder: the hash of its subject.
    const { stdout } = await new Deno.Command("openssl", {
      args: ["x509", "-noout", "-subject_hash", "-in", `${folder}/stranger.pem`],
    }).output();
    const hash = new TextDecoder().decode(stdout).trim();
    await Deno.copyFile(`${folder}/stranger.pem`, `${folder}/certificates/${hash}.0`);
    return new Bed(folder, own, stranger, server);
  }

  /** The ways in which a node's environment can make Deno trust the stranger. */
  get waysIn(): Readonly<Record<string, Readonly<Record<string, string>>>> {
    const file = `${this.folder}/stranger.pem`;
    return {
      DENO_CERT: { DENO_CERT: file },
      SSL_CERT_FILE: { DENO_TLS_CA_STORE: "system", SSL_CERT_FILE: file },
      SSL_CERT_DIR: { DENO_TLS_CA_STORE: "system", SSL_CERT_DIR: `${this.folder}/certificates` },
      all: {
        DENO_CERT: file,
        DENO_TLS_CA_STORE: "system,mozilla",
        SSL_CERT_FILE: file,
        SSL_CERT_DIR: `${this.folder}/certificates`,
      },
    };
  }

  access(changes: Partial<ClusterAccess> = {}): ClusterAccess {
    return {
      server: this.server.url,
      certificateAuthority: this.own.certificate,
      token: this.server.token,
      insecureSkipTlsVerify: false,
      ...changes,
    };
  }

  async ask(
    how: string,
    access: ClusterAccess,
    environment: Readonly<Record<string, string>>,
  ): Promise<string> {
    this.server.requests.length = 0;
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--quiet", "--allow-all", "--no-check"],
        new URL("support/ask_api.ts", import.meta.url).pathname,
        ...[how, JSON.stringify(access)],
      ],
      clearEnv: true,
      env: {
        PATH: Deno.env.get("PATH") ?? "",
        HOME: Deno.env.get("HOME") ?? "",
        DENO_DIR: Deno.env.get("DENO_DIR") ?? `${Deno.env.get("HOME")}/.cache/deno`,
        ...environment,
      },
    }).output();
    const text = new TextDecoder().decode(stdout).trim();
    assert.notEqual(text, "", new TextDecoder().decode(stderr));
    return text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
    await Deno.remove(this.folder, { recursive: true });
  }
}

Deno.test("another authority of the environment does not count beside the kubeconfig's", async (t) => {
  await using bed = await Bed.start();
  const transports: [string, string, Partial<ClusterAccess>][] = [
    ["direct", "direct", {}],
    ["fetch", "fetch", {}],
    ["another server name", "fetch", { tlsServerName: "localhost" }],
    [
      "another server name with a client certificate",
      "fetch",
      {
        tlsServerName: "localhost",
        clientCertificate: await bed.stranger.issue({ commonName: "me", usage: "client" }),
      },
    ],
  ];
  for (const [transport, how, changes] of transports) {
    for (const [way, environment] of Object.entries(bed.waysIn)) {
      await t.step(`${transport}, ${way}`, async () => {
        const answer = await bed.ask(how, bed.access(changes), environment);
        assert.match(answer, /^tls: .*UnknownIssuer/i);
        assert.doesNotMatch(answer, /environment has changed/);
        assert.equal(bed.server.requests.length, 0, "nobody may get the token");
      });
    }
    await t.step(`${transport}, the authority of the kubeconfig`, async () => {
      const certificateAuthority = bed.stranger.certificate;
      const access = bed.access({ ...changes, certificateAuthority });
      assert.equal(await bed.ask(how, access, bed.waysIn.all!), "answered");
    });
  }
});

Deno.test("a kubeconfig without an authority trusts what the environment says", async (t) => {
  await using bed = await Bed.start();
  const { certificateAuthority: _, ...access } = bed.access();
  for (const how of ["direct", "fetch"]) {
    for (const [way, environment] of Object.entries(bed.waysIn)) {
      // Deno 2.6 does not read this variable, later ones do.
      if (way === "SSL_CERT_DIR") continue;
      await t.step(`${how}, ${way}`, async () => {
        assert.equal(await bed.ask(how, access, environment), "answered");
      });
    }
    await t.step(`${how}, nothing said`, async () => {
      assert.match(await bed.ask(how, access, {}), /^tls: .*UnknownIssuer/);
    });
  }
});

Deno.test("a kubeconfig that asks for no check gets none", async (t) => {
  await using bed = await Bed.start();
  for (const how of ["direct", "fetch"]) {
    await t.step(how, async () => {
      const access = bed.access({ insecureSkipTlsVerify: true });
      assert.equal(await bed.ask(how, access, {}), "answered");
    });
  }
});
