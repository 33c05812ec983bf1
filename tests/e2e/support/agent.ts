/** A node's agent as those see it who cannot ask the API server: by the container runtime. */
import { type Output, outputOf } from "../../support/programs.ts";
import type { Machine } from "./machine.ts";
import { type RunningContainer, Sandboxes } from "./sandboxes.ts";

/** Of the values in `Stage`. */
export const healthPort = 9910;

/** What `/readyz` has answered. */
export interface Readiness {
  readonly status: string;
  readonly reason: string;
}

/** The node agent on a machine. */
export class Agent {
  constructor(private readonly machine: Machine, private readonly sandboxes: Sandboxes) {}

  /** Its container; `undefined` while it does not run. */
  async find(): Promise<RunningContainer | undefined> {
    return await this.sandboxes.container("kube-system", "install-cni");
  }

  /** Runs a command of install-cni beside it. */
  async run(...args: readonly string[]): Promise<Output> {
    const { id } = await this.#container();
    return await this.sandboxes.exec(id, ["/install-cni", ...args]);
  }

  /** Codes of what `doctor` finds wrong, and its exit code. */
  async doctor(): Promise<{ readonly codes: readonly string[]; readonly exitCode: number }> {
    const { code, stdout, stderr } = await this.run("doctor", "-o", "json");
    if (stdout === "") throw new Error(`The doctor says nothing, ends with ${code}: ${stderr}`);
    const { findings } = JSON.parse(stdout) as { findings: { grade: string; code?: string }[] };
    const wrong = findings.filter(({ grade }) => grade === "failure" || grade === "warning");
    return { codes: wrong.map(({ code }) => code ?? "?"), exitCode: code };
  }

  /** What the agent answers kubelet's probe; status 000 while nobody answers. */
  async readiness(): Promise<Readiness> {
    const { stdout } = await this.#ask("/readyz", "\n%{http_code}");
    const lines = stdout.trimEnd().split("\n");
    return { status: lines.pop() ?? "", reason: lines.join("\n") };
  }

  /** Value of a metric's line; `undefined` without that line. */
  async metric(line: string): Promise<number | undefined> {
    const { stdout } = await this.#ask("/metrics", "");
    const found = stdout.split("\n").find((text) => text.startsWith(`${line} `));
    return found === undefined ? undefined : Number(found.slice(line.length + 1));
  }

  /** Stops its process in its tracks, or has it go on. */
  async signal(signal: "KILL" | "STOP" | "CONT"): Promise<void> {
    await this.sandboxes.signal((await this.#container()).id, signal);
  }

  async #container(): Promise<RunningContainer> {
    const found = await this.find();
    if (found === undefined) throw new Error(`No agent runs on ${this.machine.name}`);
    return found;
  }

  async #ask(path: string, format: string): Promise<Output> {
    const address = await this.sandboxes.addressOf((await this.#container()).sandbox);
    const url = `http://${address}:${healthPort}${path}`;
    const curl = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "5"];
    const command = [...curl, "--write-out", format, url];
    const output = await outputOf([
      "nsenter",
      `--net=${this.machine.networkNamespace}`,
      ...command,
    ]);
    // 7: nobody listens there yet.
    if (output.code === 0 || output.code === 7) return output;
    throw new Error(`The agent does not answer at ${url}: ${output.stderr}`);
  }
}
