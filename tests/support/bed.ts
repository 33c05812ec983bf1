/**
 * The traffic bed: a pod, a remote host and a router between them in network namespaces of their
 * own, with real processes that play the application, the sidecar and the remote host. Needs root
 * (in its user namespace) and nothing that Debian's base does not have.
 */
import { withNetworkNamespace } from "../../src/linux/network_namespace.ts";
import { ADDRESSES, BedNetwork, type BedNetworkOptions } from "./bed_network.ts";
import type { StandinCommand, StandinConfig, StandinReply } from "./standin.ts";

export { ADDRESSES };

/** Who can be asked to be a client: the pod's processes and the remote host. */
export type Who = "app" | "sidecar" | "root" | "peer";

type Question<T> = T extends StandinCommand ? Omit<T, "id"> : never;

/** What a stand-in can be asked, without the identifier that {@linkcode Bed.ask} adds. */
export type BedQuestion = Question<StandinCommand>;

const STANDINS: Readonly<Record<Who, StandinConfig>> = {
  app: { name: "app", uid: 1000, tcp: [8080, 9999], dns: [] },
  // Port 9001 stands for the application probe proxy. The DNS proxy listens on loopback: a wildcard
  // UDP socket would answer from the pod's address, and such an answer does not match its NAT entry.
  sidecar: {
    name: "sidecar",
    uid: 5678,
    tcp: [15001, 15006, 9001],
    dns: ["127.0.0.1:15053", "[::1]:15053"],
    passthroughPort: 15006,
  },
  root: { name: "root", tcp: [], dns: [] },
  peer: {
    name: "peer",
    tcp: [80, 9901, 9999],
    dns: [`${ADDRESSES.ipv4.dns}:53`, `[${ADDRESSES.ipv6.dns}]:53`],
  },
};

/** One running stand-in. */
class Standin implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #waiting = new Map<number, (reply: StandinReply) => void>();
  readonly #up = Promise.withResolvers<void>();
  #lastId = 0;

  constructor(netns: string, config: StandinConfig) {
    const program = new URL("standin.ts", import.meta.url).pathname;
    // A child belongs to the namespace of the thread that forks it, which is this one.
    this.#child = withNetworkNamespace(netns, () =>
      new Deno.Command(Deno.execPath(), {
        args: ["run", "--quiet", "--no-config", "-A", program, JSON.stringify(config)],
        stdin: "piped",
        stdout: "piped",
      }).spawn());
    this.#stdin = this.#child.stdin.getWriter();
    this.#readReplies(config.name).catch((error) => this.#up.reject(error));
  }

  /** Resolves when all its listeners are there. */
  get up(): Promise<void> {
    return this.#up.promise;
  }

  async #readReplies(name: string): Promise<void> {
    let text = "";
    for await (const chunk of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
        const line = JSON.parse(text.slice(0, end));
        text = text.slice(end + 1);
        if ("up" in line) this.#up.resolve();
        else this.#waiting.get(line.id)?.(line);
      }
    }
    this.#up.reject(new Error(`Stand-in "${name}" ended before it was up; see its messages above`));
    for (const [id, resolve] of this.#waiting) resolve({ id, error: "stand-in ended" });
  }

  async ask(question: BedQuestion): Promise<StandinReply> {
    const id = ++this.#lastId & 0xffff;
    const { promise, resolve } = Promise.withResolvers<StandinReply>();
    this.#waiting.set(id, resolve);
    await this.#stdin.write(new TextEncoder().encode(JSON.stringify({ ...question, id }) + "\n"));
    const reply = await promise;
    this.#waiting.delete(id);
    return reply;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin.close().catch(() => {}); // It ends with its input; it may have ended already.
    await this.#child.status;
  }
}

/** The namespaces with their stand-ins; dispose of it to remove everything. */
export class Bed implements AsyncDisposable {
  readonly #standins = new Map<Who, Standin>();

  private constructor(readonly network: BedNetwork, private readonly ipv6: boolean) {}

  /**
   * Makes the namespaces and starts stand-ins, by default all of them.
   *
   * @param options families of the pod, and who takes part
   */
  static async create(
    options: BedNetworkOptions & { readonly who?: readonly Who[] } = {},
  ): Promise<Bed> {
    const bed = new Bed(BedNetwork.create(options), options.ipv6 ?? true);
    try {
      await bed.start(...options.who ?? ["app", "sidecar", "root", "peer"]);
      return bed;
    } catch (error) {
      await bed[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Path of the pod's network namespace as a runtime writes it in `CNI_NETNS`. */
  get podNetns(): string {
    return this.network.pod;
  }

  /** Starts stand-ins and waits until they listen. */
  async start(...who: readonly Who[]): Promise<void> {
    for (const name of who) {
      const inPod = name !== "peer";
      const config = STANDINS[name];
      // Without IPv6 in the pod there is no ::1 to listen on.
      const dns = inPod && !this.ipv6 ? config.dns.filter((at) => !at.startsWith("[")) : config.dns;
      const netns = inPod ? this.network.pod : this.network.peer;
      this.#standins.set(name, new Standin(netns, { ...config, dns }));
    }
    await Promise.all(who.map((name) => this.#standins.get(name)?.up));
  }

  /** Lets a stand-in be a client. */
  async ask(who: Who, question: BedQuestion): Promise<StandinReply> {
    const standin = this.#standins.get(who);
    if (standin === undefined) throw new Error(`Stand-in "${who}" has not been started`);
    return await standin.ask(question);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#standins.values()].map((s) => s[Symbol.asyncDispose]()));
    this.#standins.clear();
    this.network[Symbol.dispose]();
  }
}
