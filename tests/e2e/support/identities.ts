/** Who is who in a cluster of the tests: certificates of its API server, and a token for each user. */
import { makeAuthority } from "../../support/certificates.ts";

/** A user of the API server. */
export interface ClusterUser {
  readonly name: string;
  readonly group?: string;
}

/** The identities of a cluster, written into a folder as the API server reads them. */
export class Identities {
  readonly #tokens: ReadonlyMap<string, string>;

  private constructor(
    /** The certificate authority, PEM. */
    readonly certificateAuthority: string,
    tokens: ReadonlyMap<string, string>,
  ) {
    this.#tokens = tokens;
  }

  /**
   * Makes them: `authority.crt`, `api-server.crt`, `accounts.crt` with their keys, and `tokens.csv`.
   *
   * @param ips Addresses of the API server.
   * @param users Users by the names that tests have for them.
   */
  static async write(
    folder: string,
    ips: readonly string[],
    users: Readonly<Record<string, ClusterUser>>,
  ): Promise<Identities> {
    const authority = await makeAuthority();
    const server = await authority.issue({
      commonName: "kube-apiserver",
      ips,
      dnsNames: ["kubernetes", "kubernetes.default", "kubernetes.default.svc"],
    });
    const accounts = await authority.issue({ commonName: "service-accounts" });
    const tokens = new Map(Object.keys(users).map((user) => [user, crypto.randomUUID()]));
    const lines = Object.entries(users).map(([user, { name, group }], index) =>
      [tokens.get(user), name, index, ...group === undefined ? [] : [`"${group}"`]].join()
    );
    const files = {
      "authority.crt": authority.certificate,
      "api-server.crt": server.certificate,
      "api-server.key": server.key,
      "accounts.crt": accounts.certificate,
      "accounts.key": accounts.key,
      "tokens.csv": lines.join("\n") + "\n",
    };
    for (const [name, text] of Object.entries(files)) {
      await Deno.writeTextFile(`${folder}/${name}`, text, { mode: 0o600 });
    }
    return new Identities(authority.certificate, tokens);
  }

  /** The bearer token of a user. */
  token(user: string): string {
    return this.#tokens.get(user)!;
  }

  /** Text of a user's kubeconfig. */
  kubeconfig(server: string, user: string): string {
    return JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [{
        name: "test",
        cluster: { server, "certificate-authority-data": btoa(this.certificateAuthority) },
      }],
      users: [{ name: user, user: { token: this.token(user) } }],
      contexts: [{ name: "test", context: { cluster: "test", user } }],
      "current-context": "test",
    });
  }
}
