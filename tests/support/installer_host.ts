/** A host for install-cni: folders of its own, and the program started on them. */
import { ok } from "node:assert/strict";
import { parseSettings } from "../../installer/settings/settings.ts";
import { type Settings } from "../../installer/settings/declarations.ts";
import { Logger } from "../../src/log/log.ts";
import { exists } from "./files.ts";
import { compiledShim, pluginBehind } from "./shim.ts";
import { loader, programWithSlot, scriptPlugin } from "./stand_in_program.ts";

/** A network configuration as the chart writes it. */
export const networkConfig = `{
  "cniVersion": "0.3.1",
  "name": "kuma-cni",
  "type": "kuma-cni",
  "log_level": "info",
  "kubernetes": {
    "kubeconfig": "__KUBECONFIG_FILEPATH__",
    "cni_bin_dir": "/opt/cni/bin",
    "exclude_namespaces": [ "kube-system" ]
  }
}
`;

/** A primary plugin's list. */
export const primaryList = `{
  "name": "k8s-pod-network",
  "cniVersion": "0.3.1",
  "plugins": [
    {
      "type": "calico",
      "mtu": 12345678901234567890
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`;

/** A primary plugin's single configuration. */
export const primarySingle = '{ "name": "cbr0", "type": "flannel", "cniVersion": "0.3.1" }';

/** A certificate authority that nobody has the key of. */
export const authority = `-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIUGtzXkUEN2DDE8cnV8p90qSo2iJ0wCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjcwMjQ4MzVaGA8yMTI2MTEwMzAyNDgz
NVowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABFpS
ULrd5YFSW+XDesSOdMAM+VTF7LaqDuhBeKlX8YV4GsiciTxGxRv6ZhkLTfHcA1wP
OVpjhAEyTyN3tD1ZvYCjUzBRMB0GA1UdDgQWBBSM8ZCKXgW/Osa+ULRZTLd+Ff9/
lDAfBgNVHSMEGDAWgBSM8ZCKXgW/Osa+ULRZTLd+Ff9/lDAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0cAMEQCIGsRwuLcNA9Il/MEWgj6lfyO+St0jZIxswKG
1BSupOD1AiACUTqCRzySmWzGWV72CGcAaA/div0lBKEEwBmDwoRTHw==
-----END CERTIFICATE-----
`;

/** Folders of a host, as the container sees them. */
export class InstallerHost implements AsyncDisposable {
  readonly root: string;
  readonly netDir: string;
  readonly binDir: string;
  readonly sourceDir: string;
  readonly secrets: string;
  readonly readyFile: string;
  readonly #running = new Set<RunningInstaller>();

  /** @param parent By default in memory: thousands of forced writes would otherwise wait for the disk. */
  constructor(parent = "/dev/shm") {
    this.root = Deno.makeTempDirSync({ dir: parent, prefix: "kuma-test-" });
    this.netDir = `${this.root}/net.d`;
    this.binDir = `${this.root}/bin`;
    this.sourceDir = `${this.root}/image`;
    this.secrets = `${this.root}/secrets`;
    this.readyFile = `${this.root}/run/ready`;
    for (const path of [this.netDir, this.binDir, this.sourceDir, this.secrets]) {
      Deno.mkdirSync(path);
    }
    Deno.mkdirSync(`${this.root}/run`);
    Deno.writeTextFileSync(`${this.sourceDir}/kuma-cni`, scriptPlugin, { mode: 0o755 });
    this.writeSecret("token", "token-1");
    this.writeSecret("ca.crt", authority);
  }

  /** Makes the image's plugin a self-contained one: a program with an interpreter slot, libraries. */
  shipLibraries(version: string): void {
    Deno.writeFileSync(`${this.sourceDir}/kuma-cni`, programWithSlot(version), { mode: 0o755 });
    const folder = `${this.sourceDir}/kuma-cni.lib`;
    if (exists(folder)) Deno.removeSync(folder, { recursive: true });
    Deno.mkdirSync(`${folder}/${version}`, { recursive: true });
    Deno.writeFileSync(`${folder}/${version}/ld-linux-x86-64.so.2`, loader(version));
    Deno.writeTextFileSync(`${folder}/${version}/libc.so.6`, `libc.so.6 of version ${version}`);
  }

  /** Gives the image a shim. */
  async shipShim(): Promise<void> {
    const shim = await compiledShim();
    Deno.writeFileSync(`${this.sourceDir}/kuma-cni.shim`, shim, { mode: 0o755 });
  }

  /** The plugin that runtimes come to: `kuma-cni`, or what the shim in its place names. */
  pluginPath(): string | undefined {
    return pluginBehind(`${this.binDir}/kuma-cni`, this.binDir);
  }

  /** Writes a file of the service account. */
  writeSecret(name: string, text: string): void {
    // Whole at once as kubelet writes it: half of a long token would be taken for a short one.
    Deno.writeTextFileSync(`${this.secrets}/.${name}`, text);
    Deno.renameSync(`${this.secrets}/.${name}`, `${this.secrets}/${name}`);
  }

  /** Environment of install-cni. */
  environment(extra: Record<string, string> = {}): Record<string, string> {
    return {
      CNI_NETWORK_CONFIG: networkConfig,
      MOUNTED_CNI_NET_DIR: this.netDir,
      MOUNTED_CNI_BIN_DIR: this.binDir,
      CNI_SOURCE_DIR: this.sourceDir,
      KUBE_CA_FILE: `${this.secrets}/ca.crt`,
      KUBE_SERVICE_ACCOUNT_TOKEN_PATH: `${this.secrets}/token`,
      KUBERNETES_SERVICE_HOST: "127.0.0.1",
      KUBERNETES_SERVICE_PORT: "1",
      READY_FILE: this.readyFile,
      POD_NAME: "kuma-cni-node-x",
      POD_NAMESPACE: "kube-system",
      ...extra,
    };
  }

  /** The settings that such an environment gives. */
  settings(extra: Record<string, string> = {}): Settings {
    const environment = this.environment(extra);
    return parseSettings(({ variable }) => environment[variable]);
  }

  /** Starts install-cni, behind other words of a command line if need be. */
  start(
    extra: Record<string, string> = {},
    args: readonly string[] = [],
    behind: readonly string[] = [],
  ): RunningInstaller {
    const running = new RunningInstaller(this.environment(extra), args, behind);
    this.#running.add(running);
    return running;
  }

  /** Runs install-cni to its end. */
  async run(
    args: readonly string[],
    extra: Record<string, string> = {},
  ): Promise<{ code: number; stdout: string; stderr: string }> {
    const running = this.start(extra, args);
    const { code } = await running.ended;
    return { code, stdout: running.stdout, stderr: running.stderr };
  }

  /** Writes a file of the net dir in one step. */
  writeConf(name: string, text: string): void {
    Deno.writeTextFileSync(`${this.netDir}/.foreign`, text);
    Deno.renameSync(`${this.netDir}/.foreign`, `${this.netDir}/${name}`);
  }

  /** Reads a file of the net dir; `undefined` when it is missing. */
  readConf(name: string): string | undefined {
    try {
      return Deno.readTextFileSync(`${this.netDir}/${name}`);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
  }

  /** Types of the plugins in a list; empty when it is missing or no JSON. */
  typesIn(name: string): string[] {
    try {
      return JSON.parse(this.readConf(name) ?? "{}").plugins.map((p: { type: string }) => p.type);
    } catch {
      return [];
    }
  }

  /** Whether the ready file is there. */
  get isReady(): boolean {
    return exists(this.readyFile);
  }

  /** Names, modes and contents of everything in net dir and bin dir, for comparing. */
  snapshot(): Record<string, string> {
    const result: Record<string, string> = {};
    const visit = (folder: string) => {
      for (const { name } of Deno.readDirSync(folder)) {
        const path = `${folder}/${name}`;
        const info = Deno.lstatSync(path);
        const key = path.slice(this.root.length);
        const mode = ((info.mode ?? 0) & 0o7777).toString(8);
        if (info.isDirectory) {
          result[key] = `${mode} ${info.uid} folder`;
          visit(path);
        } else if (info.isSymlink) result[key] = `link ${Deno.readLinkSync(path)}`;
        else result[key] = `${mode} ${info.uid}:${info.gid} ${Deno.readTextFileSync(path)}`;
      }
    };
    visit(this.netDir);
    visit(this.binDir);
    return result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const running of this.#running) await running.kill();
    Deno.removeSync(this.root, { recursive: true });
  }
}

/** An install-cni process. */
export class RunningInstaller {
  readonly process: Deno.ChildProcess;
  /** Resolves when the process has ended and its output is read. */
  readonly ended: Promise<Deno.CommandStatus>;
  stdout = "";
  stderr = "";
  #hasEnded = false;

  constructor(
    environment: Record<string, string>,
    args: readonly string[],
    behind: readonly string[] = [],
  ) {
    const main = new URL("../../installer/main.ts", import.meta.url).pathname;
    const [program, ...before] = [...behind, Deno.execPath()];
    this.process = new Deno.Command(program!, {
      args: [...before, "run", "--quiet", "--no-check", "-A", main, ...args],
      env: environment,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const collect = async (
      stream: ReadableStream<Uint8Array<ArrayBuffer>>,
      take: (text: string) => void,
    ) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) take(text);
    };
    this.ended = Promise.all([
      this.process.status,
      collect(this.process.stdout, (text) => this.stdout += text),
      collect(this.process.stderr, (text) => this.stderr += text),
    ]).then(([status]) => {
      this.#hasEnded = true;
      return status;
    });
  }

  /** Waits until something holds. */
  async until(what: string, holds: () => boolean, milliseconds = 10_000): Promise<void> {
    const deadline = performance.now() + milliseconds;
    while (!holds()) {
      ok(
        performance.now() < deadline,
        `Waited in vain until ${what}; install-cni said:\n${this.stderr}`,
      );
      ok(!this.#hasEnded, `install-cni ended before ${what}; it said:\n${this.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** Sends SIGTERM and returns the exit code. */
  async terminate(): Promise<number> {
    this.process.kill("SIGTERM");
    return (await this.ended).code;
  }

  /** Kills the process, if it still runs, and waits for its end. */
  async kill(): Promise<void> {
    if (!this.#hasEnded) {
      try {
        this.process.kill("SIGKILL");
      } catch {
        // Ended in this moment.
      }
    }
    await this.ended;
  }
}

/** A logger that keeps quiet. */
export function quietLog(): Logger {
  return new Logger("install-cni", "off", () => {});
}
