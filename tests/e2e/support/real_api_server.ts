/**
 * A real API server with etcd, and nothing else of a cluster, on free ports of 127.0.0.1. Objects are
 * what a test makes of them: no controller and no kubelet changes any.
 */
import { KubernetesClient } from "../../../src/kubernetes/client.ts";
import type { JsonPatch } from "../../../src/kubernetes/changes.ts";
import { ApiError } from "../../../src/kubernetes/errors.ts";
import { type KubernetesVersion, part } from "../../../scripts/e2e/parts.ts";
import { apiKinds, resourceOf } from "../../support/api_kinds.ts";
import { type ClusterUser, Identities } from "./identities.ts";
import { ask } from "./api_questions.ts";
import type { KubernetesObject } from "../../support/pods.ts";

/** A running API server; dispose of it to stop it. */
export class RealApiServer implements AsyncDisposable {
  readonly port = freePort();
  readonly #etcd = freePort();
  readonly #folder = Deno.makeTempDirSync({ prefix: "kuma-test-api-" });
  #identities!: Identities;
  readonly #daemons = new Map<string, Deno.ChildProcess>();
  readonly #clients: KubernetesClient[] = [];

  private constructor(private readonly program: string, private readonly etcd: string) {}

  /**
   * Starts it and waits until it is ready.
   *
   * @param users Names that have a token each, besides `admin`.
   */
  static async start(
    version: KubernetesVersion,
    users: readonly string[],
  ): Promise<RealApiServer> {
    const programs = await part(`kubernetes-${version}`);
    const server = new RealApiServer(`${programs}/kube-apiserver`, `${await part("etcd")}/etcd`);
    try {
      await server.#start(users);
    } catch (error) {
      const log = Deno.readTextFileSync(`${server.#folder}/kube-apiserver.log`).slice(-2000);
      await server[Symbol.asyncDispose]();
      throw new Error(`The API server does not start: ${log}`, { cause: error });
    }
    return server;
  }

  get url(): string {
    return `https://127.0.0.1:${this.port}`;
  }

  /** The certificate authority, PEM. */
  get certificateAuthority(): string {
    return this.#identities.certificateAuthority;
  }

  /** The token of a user. */
  token(user: string): string {
    return this.#identities.token(user);
  }

  /** The administrator's client. */
  get admin(): KubernetesClient {
    return this.#clients[0]!;
  }

  /** Makes an object, with its status; a namespace or whatever is there already stays. */
  async create(object: KubernetesObject): Promise<void> {
    const path = collectionOf(object);
    try {
      await this.admin.change({ verb: "create", path, body: object });
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 409)) throw error;
    }
    if (object.status !== undefined) await this.setStatus(object);
  }

  /** Gives an object this status. */
  async setStatus(object: KubernetesObject): Promise<void> {
    await this.patch(object, [{ op: "add", path: "/status", value: object.status }], "/status");
  }

  /** Changes an object. */
  async patch(
    object: KubernetesObject,
    operations: readonly JsonPatch[],
    subresource = "",
  ): Promise<void> {
    const path = `${collectionOf(object)}/${object.metadata.name}${subresource}`;
    await this.admin.change({ verb: "patch", path, operations });
  }

  /** Reads an object; `undefined` when there is none. */
  async get(object: KubernetesObject): Promise<KubernetesObject | undefined> {
    try {
      const path = `${collectionOf(object)}/${object.metadata.name}`;
      return await this.admin.getJson(path) as unknown as KubernetesObject;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  /** Deletes an object at once. */
  async delete(object: KubernetesObject): Promise<void> {
    const found = await this.get(object);
    if (found === undefined) return;
    const { uid, resourceVersion } = found.metadata;
    const path = `${collectionOf(object)}/${object.metadata.name}?gracePeriodSeconds=0`;
    await this.admin.change({
      verb: "delete",
      path,
      uid: uid!,
      resourceVersion: resourceVersion!,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.close();
    for (const name of [...this.#daemons.keys()].reverse()) await this.#stop(name);
    await Deno.remove(this.#folder, { recursive: true });
  }

  /** Kills it and starts it again: it knows nothing of earlier versions of objects then. */
  async restart(): Promise<void> {
    await this.#stop("kube-apiserver");
    await this.#serve();
  }

  async #start(users: readonly string[]): Promise<void> {
    const folder = this.#folder;
    const etcd = `http://127.0.0.1:${this.#etcd}`;
    const peers = `http://127.0.0.1:${freePort()}`;
    const known = users.map((name): [string, ClusterUser] => [name, { name }]);
    this.#identities = await Identities.write(folder, ["127.0.0.1"], {
      admin: { name: "admin", group: "system:masters" },
      ...Object.fromEntries(known),
    });
    this.#run("etcd", this.etcd, [
      `--data-dir=${folder}/etcd`,
      `--listen-client-urls=${etcd}`,
      `--advertise-client-urls=${etcd}`,
      `--listen-peer-urls=${peers}`,
      `--initial-advertise-peer-urls=${peers}`,
      `--initial-cluster=default=${peers}`,
    ]);
    this.#clients.push(
      new KubernetesClient({
        server: this.url,
        certificateAuthority: this.certificateAuthority,
        token: this.token("admin"),
        insecureSkipTlsVerify: false,
      }),
    );
    await this.#serve();
  }

  async #serve(): Promise<void> {
    const folder = this.#folder;
    this.#run("kube-apiserver", this.program, [
      `--etcd-servers=http://127.0.0.1:${this.#etcd}`,
      "--bind-address=127.0.0.1",
      "--advertise-address=127.0.0.1",
      `--secure-port=${this.port}`,
      `--cert-dir=${folder}/certificates`,
      `--tls-cert-file=${folder}/api-server.crt`,
      `--tls-private-key-file=${folder}/api-server.key`,
      `--token-auth-file=${folder}/tokens.csv`,
      "--authorization-mode=RBAC",
      // Nobody makes accounts here, which pods would have to name; and no node is tainted by itself.
      "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
      "--service-cluster-ip-range=10.96.0.0/16",
      "--service-account-issuer=https://kubernetes.default.svc",
      `--service-account-key-file=${folder}/accounts.crt`,
      `--service-account-signing-key-file=${folder}/accounts.key`,
      // History is forgotten all the time, so that a watch that was interrupted must list anew.
      "--etcd-compaction-interval=2s",
    ]);
    const end = performance.now() + 120_000;
    for (;;) {
      try {
        await this.admin.getJson("/api/v1/namespaces/kube-system");
        await this.admin.getJson("/api/v1/namespaces/default");
        const requests = [{ path: "/readyz", token: this.token("admin") }];
        const { url: server, certificateAuthority } = this;
        const [answer] = await ask({ server, certificateAuthority, requests });
        if (answer!.status === 200) return;
        throw new Error(`The API server is not ready: ${answer!.body}`);
      } catch (error) {
        if (performance.now() > end) throw error;
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }
  }

  #run(name: string, program: string, args: readonly string[]): void {
    const log = `${this.#folder}/${name}.log`;
    const script = 'exec "$0" "$@" >>"$LOG" 2>&1';
    this.#daemons.set(
      name,
      new Deno.Command("sh", {
        args: ["-c", script, program, ...args],
        env: { LOG: log },
        stdin: "null",
      }).spawn(),
    );
  }

  async #stop(name: string): Promise<void> {
    const daemon = this.#daemons.get(name);
    this.#daemons.delete(name);
    try {
      daemon?.kill("SIGKILL");
    } catch {
      // It has ended by itself.
    }
    await daemon?.status;
  }
}

function collectionOf(object: KubernetesObject): string {
  const { apiVersion = "v1", metadata: { namespace } } = object;
  const resource = resourceOf(object);
  const isKnown = Object.hasOwn(apiKinds, resource);
  const root = apiVersion.includes("/") ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  if (namespace !== undefined) return `${root}/namespaces/${namespace}/${resource}`;
  if (isKnown && apiKinds[resource]!.namespaced) throw new TypeError(`${resource} have namespaces`);
  return `${root}/${resource}`;
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
