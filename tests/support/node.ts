/**
 * A node as install-cni meets it: host folders, a service account, an API server, and the agent as
 * a real process, with the environment that the Helm chart gives it.
 */
import type { ApiServer } from "./api_server.ts";

/** Choices of a node. */
export interface NodeOptions {
  readonly api: ApiServer;
  /** The net dir; a new folder unless told. */
  readonly netDir?: string;
  /** The bin dir; a new folder unless told. */
  readonly binDir?: string;
  /** Name of the configuration file; empty lets install-cni find it. */
  readonly confName?: string;
  /** The program and its first arguments, for example the compiled install-cni. */
  readonly command: readonly string[];
  /** Folder with the plugin's files. */
  readonly sourceDir: string;
  /** Network namespace to run in. */
  readonly networkNamespace?: string;
  /** Further environment. */
  readonly env?: Readonly<Record<string, string>>;
  /** Added to the plugin's configuration. */
  readonly network?: Readonly<Record<string, unknown>>;
}

/** A node's folders and its running agent; dispose of it to remove both. */
export class TestNode implements AsyncDisposable {
  readonly folder: string = Deno.makeTempDirSync({ prefix: "kuma-test-node-" });
  readonly netDir: string;
  readonly binDir: string;
  #agent: Deno.ChildProcess | undefined;
  #log = "";

  constructor(private readonly options: NodeOptions) {
    this.netDir = options.netDir ?? `${this.folder}/net.d`;
    this.binDir = options.binDir ?? `${this.folder}/bin`;
    const { api } = options;
    for (const path of [this.netDir, this.binDir, this.serviceAccount]) {
      Deno.mkdirSync(path, { recursive: true });
    }
    Deno.writeTextFileSync(`${this.serviceAccount}/ca.crt`, api.certificateAuthority);
    Deno.writeTextFileSync(`${this.serviceAccount}/namespace`, "kuma-system");
    this.writeToken(api.token);
  }

  /** Folder of the service account's files. */
  get serviceAccount(): string {
    return `${this.folder}/serviceaccount`;
  }

  /** The file that exists while everything is installed. */
  get readyFile(): string {
    return `${this.folder}/ready`;
  }

  /** The agent's socket. */
  get socket(): string {
    return `${this.netDir}/kuma-cni.d/agent.sock`;
  }

  /** Whether somebody listens at the agent's socket; a file alone can be left over. */
  async isServing(): Promise<boolean> {
    try {
      (await Deno.connect({ transport: "unix", path: this.socket })).close();
      return true;
    } catch {
      return false;
    }
  }

  /** What all agents of this node have written to stderr. */
  get log(): string {
    return this.#log;
  }

  /** Process identifier of the running agent. */
  get pid(): number {
    if (this.#agent === undefined) throw new Error("Agent is not running");
    return this.#agent.pid;
  }

  /** Writes the service account's token as kubelet does: by rename. */
  writeToken(token: string): void {
    Deno.writeTextFileSync(`${this.serviceAccount}/token.new`, token);
    Deno.renameSync(`${this.serviceAccount}/token.new`, `${this.serviceAccount}/token`);
  }

  /** Environment of install-cni. */
  get env(): Record<string, string> {
    const url = new URL(this.options.api.url);
    return {
      PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
      HOME: "/root",
      ...(Deno.env.get("DENO_DIR") === undefined ? {} : { DENO_DIR: Deno.env.get("DENO_DIR")! }),
      CNI_CONF_NAME: this.options.confName ?? "",
      CNI_NET_DIR: this.netDir,
      MOUNTED_CNI_NET_DIR: this.netDir,
      MOUNTED_CNI_BIN_DIR: this.binDir,
      CNI_SOURCE_DIR: this.options.sourceDir,
      CHAINED_CNI_PLUGIN: "true",
      CNI_LOG_LEVEL: "debug",
      KUBE_CA_FILE: `${this.serviceAccount}/ca.crt`,
      KUBE_SERVICE_ACCOUNT_TOKEN_PATH: `${this.serviceAccount}/token`,
      KUBERNETES_SERVICE_HOST: url.hostname.replace(/^\[|\]$/g, ""),
      KUBERNETES_SERVICE_PORT: url.port,
      READY_FILE: this.readyFile,
      NODE_NAME: "node-1",
      CNI_NETWORK_CONFIG: JSON.stringify({
        cniVersion: "0.3.1",
        name: "kuma-cni",
        type: "kuma-cni",
        log_level: "info",
        kubernetes: {
          kubeconfig: "__KUBECONFIG_FILEPATH__",
          cni_bin_dir: this.binDir,
          exclude_namespaces: ["kube-system"],
        },
        ...this.options.network,
      }),
      ...this.options.env,
    };
  }

  /** Starts the agent and waits until it is ready. */
  async start(): Promise<void> {
    // One that was killed has left its ready file, which says nothing about the new one.
    const stale = identityOf(this.readyFile);
    this.spawn();
    await this.until("install-cni is ready", () => {
      const identity = identityOf(this.readyFile);
      return identity !== undefined && identity !== stale;
    });
  }

  /** Starts the agent and waits for nothing. */
  spawn(): void {
    const { networkNamespace } = this.options;
    const command = [
      ...(networkNamespace === undefined ? [] : ["nsenter", `--net=${networkNamespace}`]),
      ...this.options.command,
    ];
    const agent = new Deno.Command(command[0]!, {
      args: command.slice(1),
      clearEnv: true,
      env: this.env,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#agent = agent;
    this.#follow(agent.stderr);
  }

  /** Sends a signal to the agent and waits for its end; returns the exit code. */
  async stop(signal: Deno.Signal = "SIGTERM"): Promise<number> {
    const agent = this.#agent;
    if (agent === undefined) return 0;
    this.#agent = undefined;
    agent.kill(signal);
    return (await agent.status).code;
  }

  /** Runs a subcommand of install-cni, such as `uninstall`, with the same settings. */
  async run(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const [program, ...first] = this.options.command;
    const { code, stdout, stderr } = await new Deno.Command(program!, {
      args: [...first, ...args],
      clearEnv: true,
      env: this.env,
      stdin: "null",
    }).output();
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  }

  /** Waits for a condition; the error has the agent's log. */
  async until(
    what: string,
    condition: () => boolean | Promise<boolean>,
    milliseconds = 15_000,
  ): Promise<void> {
    const deadline = performance.now() + milliseconds;
    while (!(await condition())) {
      if (performance.now() > deadline) {
        throw new Error(`Waited ${milliseconds} ms in vain until ${what}; log:\n${this.#log}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** The plugin's entry in a configuration list of the net dir. */
  entry(name: string): Record<string, unknown> {
    const list = JSON.parse(Deno.readTextFileSync(`${this.netDir}/${name}`)) as {
      cniVersion: string;
      name: string;
      plugins: Record<string, unknown>[];
    };
    const entry = list.plugins.find(({ type }) => type === "kuma-cni");
    if (entry === undefined) throw new Error(`"${name}" has no entry of kuma-cni`);
    // What a runtime makes of an entry: name and version come from the list.
    return { ...entry, cniVersion: list.cniVersion, name: list.name };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
    await Deno.remove(this.folder, { recursive: true });
  }

  async #follow(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) this.#log += decoder.decode(chunk, { stream: true });
  }
}

function identityOf(path: string): string | undefined {
  try {
    const { ino, mtime } = Deno.lstatSync(path);
    return `${ino}-${mtime?.getTime()}`;
  } catch {
    return undefined;
  }
}
