/**
 * The libraries through which containerd and CRI-O call CNI plugins, each in a program of its own
 * (`tests/e2e/drivers`) that is asked by lines.
 */
import type { NamedNamespace } from "../../support/topology.ts";

/**
 * The command line that runs a program with a folder in place of `/var/lib/cni`, where libcni keeps
 * results; namespaces that others mount meanwhile are seen.
 */
export function withCache(cache: string, command: readonly string[]): string[] {
  const script =
    'mount -t tmpfs tmpfs /var/lib; mkdir /var/lib/cni; mount --bind "$0" /var/lib/cni; exec "$@"';
  return ["unshare", "--mount", "--propagation=slave", "sh", "-ec", script, cache, ...command];
}

/** What a runtime is asked to do for a pod. */
export interface LibraryPod {
  readonly id: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly netns: NamedNamespace;
}

/** A network that the library has loaded. */
export interface LoadedNetwork {
  readonly name: string;
  /** Types of its plugins; CRI-O's library does not tell them. */
  readonly types?: readonly string[];
}

/** What the library has said. */
export interface LibraryAnswer {
  /** Its error; missing when all went well. */
  readonly error?: string;
  /** The networks that a pod gets. */
  readonly networks?: readonly LoadedNetwork[];
}

/** A library that runs; dispose of it to end it. */
export class RuntimeLibrary implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #stdin: WritableStreamDefaultWriter<Uint8Array>;
  readonly #lines: ReadableStreamDefaultReader<string>;
  #text = "";

  /**
   * @param program Path of the driver.
   * @param args Its arguments: net dir, bin dir, then `max_conf_num` or `cni_default_network`.
   * @param cache Folder that takes the place of `/var/lib/cni`, where libcni keeps results.
   */
  constructor(program: string, args: readonly string[], cache: string) {
    Deno.mkdirSync(cache, { recursive: true });
    const [first, ...rest] = withCache(cache, [program, ...args]);
    this.#child = new Deno.Command(first!, {
      args: rest,
      clearEnv: true,
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root" },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#stdin = this.#child.stdin.getWriter();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Has it read the net dir, as at its start. */
  load(): Promise<LibraryAnswer> {
    return this.#ask({ command: "load" });
  }

  /** Has it set up a pod's networks. */
  add(pod: LibraryPod): Promise<LibraryAnswer> {
    return this.#ask({ command: "add", ...pod, netns: pod.netns.path });
  }

  /** Has it tear down a pod's networks. */
  remove(pod: LibraryPod): Promise<LibraryAnswer> {
    return this.#ask({ command: "del", ...pod, netns: pod.netns.path });
  }

  async #ask(request: Record<string, string>): Promise<LibraryAnswer> {
    await this.#stdin.write(new TextEncoder().encode(JSON.stringify(request) + "\n"));
    for (;;) {
      const end = this.#text.indexOf("\n");
      if (end >= 0) {
        const line = this.#text.slice(0, end);
        this.#text = this.#text.slice(end + 1);
        return JSON.parse(line);
      }
      const { value, done } = await this.#lines.read();
      if (done) {
        throw new Error(`The library's driver ended while it was asked to ${request.command}`);
      }
      this.#text += value;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stdin.close().catch(() => {}); // It ends with its input; it may have ended already.
    await this.#child.status;
    await this.#lines.cancel();
  }
}
