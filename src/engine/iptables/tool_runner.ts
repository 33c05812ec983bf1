/**
 * Runs the iptables tools in the thread's network namespace: with bounded time, without name
 * service look-ups, and without waiting for other namespaces' locks.
 */
import type { IpFamily } from "../../ip/address.ts";
import { LinuxError } from "../../linux/errno.ts";
import { type PrivateMount, withPrivateMounts } from "../../linux/private_mounts.ts";
import { type Program, type ProgramResult, runPrograms } from "../../linux/process.ts";
import type { FileDescriptor } from "../../linux/libc.ts";
import type { Entrance } from "./entrance.ts";
import { parseSavedRules, type SavedTables } from "./saved_rules.ts";
import { ToolError } from "./tool_error.ts";
import { isAtLeast, type Tools } from "./tools.ts";

/**
 * The lock file of the legacy tools. The usual one is shared by all namespaces of the host, so that
 * one slow pod delays all; this is the network namespace itself, the same inode for all who use it.
 */
const LOCK_FILE = "/proc/self/ns/net";
const USUAL_LOCK_FILE = "/run/xtables.lock";
const NAME_SERVICE_FILE = "/etc/nsswitch.conf";
/** Seconds that a legacy tool waits for the lock. */
const LOCK_WAIT_SECONDS = 5;
/** Exit status of the tools when somebody else holds the lock or changed the table meanwhile. */
const RESOURCE_PROBLEM = 4;

/** How the tools of one call are run. */
export interface ToolRunnerOptions {
  /** Bound for one tool. */
  readonly toolTimeoutMs: number;
  /** Bound for all tools from now on. */
  readonly totalTimeoutMs: number;
  /** A lock that tools go on holding when this process is killed. */
  readonly lock: FileDescriptor | undefined;
  /** Tells the way into the pod's user namespace, where it has one; which changes need. */
  readonly entrance: () => Entrance | undefined;
}

/** Runs the tools until a deadline. */
export class ToolRunner {
  readonly #deadline: number;

  constructor(private readonly options: ToolRunnerOptions) {
    this.#deadline = performance.now() + options.totalTimeoutMs;
  }

  /**
   * Does work whose tools see no name service: with one, they look up each numeric UID as a name,
   * over a network that is only half there.
   *
   * @param tools those that will run
   * @param notes gets a sentence when that is not possible; the work is done anyway
   */
  sandboxed<T>(tools: Tools, notes: string[], work: () => T): T {
    const mounts: PrivateMount[] = [];
    if (exists(NAME_SERVICE_FILE)) mounts.push({ source: "/dev/null", path: NAME_SERVICE_FILE });
    // Older tools do not know the variable that names the lock file.
    const oldLock = tools.backend === "legacy" && !isAtLeast(tools.version, 1, 8, 6);
    if (oldLock && exists(USUAL_LOCK_FILE)) {
      mounts.push({ source: "/proc/thread-self/ns/net", path: USUAL_LOCK_FILE });
    }
    return withPrivateMounts(mounts, (problems) => {
      notes.push(
        ...problems.map((problem) => `iptables tools run with the host's files: ${problem}`),
      );
      return work();
    });
  }

  /**
   * Reads the rules of some families.
   *
   * @param args what the tools are told; `-c`: print what each rule has counted
   * @throws {ToolError} when a tool fails or prints something else
   */
  save(
    tools: Tools,
    families: readonly IpFamily[],
    args: readonly "-c"[] = [],
  ): Map<IpFamily, SavedTables> {
    const programs = families.map((family) => ({ ...this.#program(tools, family, "save"), args }));
    const results = this.#run(programs);
    return new Map(families.map((family, i) => {
      const [program, result] = [programs[i], results[i]];
      const attempt = `Cannot read the ${familyName(family)} rules`;
      if (program === undefined || result === undefined) throw new ToolError(attempt);
      throwIfFailed(attempt, program, result);
      try {
        return [family, parseSavedRules(result.stdout)];
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error;
        throw new ToolError(`${attempt} with "${program.path}": ${error.message}`, false, error);
      }
    }));
  }

  /**
   * Gives each family's text to its `restore` tool, all at the same time.
   *
   * @throws {ToolError} when one fails; others may have succeeded then
   */
  restore(tools: Tools, texts: ReadonlyMap<IpFamily, string>): void {
    const families = [...texts.keys()];
    const programs = families.map((family): Program => ({
      ...this.#program(tools, family, "restore"),
      args: ["--noflush", ...waitArguments(tools)],
      input: texts.get(family) ?? "",
    }));
    const entrance = this.options.entrance();
    const results = this.#run(
      entrance === undefined ? programs : programs.map((program) => entrance.wrap(program)),
    );
    families.forEach((family, i) => {
      const [program, result] = [programs[i], results[i]];
      const attempt = `Cannot change the ${familyName(family)} rules`;
      if (program === undefined || result === undefined) throw new ToolError(attempt);
      throwIfFailed(attempt, program, result);
    });
  }

  #program(tools: Tools, family: IpFamily, kind: "save" | "restore"): Program {
    const path = tools.families[family]?.[kind];
    if (path === undefined) throw missingTools(tools, family);
    const { lock } = this.options;
    return {
      path,
      args: [],
      ...(lock === undefined ? {} : { inherits: lock.number }),
      env: {
        PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
        LANG: "C",
        LC_ALL: "C",
        ...(tools.backend === "legacy" ? { XTABLES_LOCKFILE: LOCK_FILE } : {}),
      },
    };
  }

  #run(programs: readonly Program[]): ProgramResult[] {
    const left = this.#deadline - performance.now();
    try {
      return runPrograms(programs, Math.max(Math.min(left, this.options.toolTimeoutMs), 1));
    } catch (error) {
      if (error instanceof LinuxError) throw new ToolError(error.message, false, error);
      throw error;
    }
  }
}

/** The error for a family whose tools are not on the host. */
export function missingTools(tools: Tools, family: IpFamily): ToolError {
  const name = family === "ipv4" ? "iptables" : "ip6tables";
  return new ToolError(
    `Cannot change the ${
      familyName(family)
    } rules: No "${name}-restore" and "${name}-save" for the ` +
      `${tools.backend} backend on this host; install them, or set the engine to "nftables"`,
  );
}

function familyName(family: IpFamily): string {
  return family === "ipv4" ? "IPv4" : "IPv6";
}

function waitArguments(tools: Tools): string[] {
  // The nf_tables backend has no lock; releases before 1.6.2 cannot wait.
  return tools.backend === "legacy" && isAtLeast(tools.version, 1, 6, 2)
    ? [`--wait=${LOCK_WAIT_SECONDS}`]
    : [];
}

function throwIfFailed(attempt: string, program: Program, result: ProgramResult): void {
  if (result.status === 0) return;
  const start = `${attempt} with "${program.path}"`;
  if (result.timedOut) throw new ToolError(`${start}: It did not end in time and was killed`);
  const words = result.stderr.trim().replaceAll(/\s*\n\s*/g, " ").slice(0, 500);
  const end = result.status === undefined ? `signal ${result.signal}` : `status ${result.status}`;
  throw new ToolError(
    `${start}: It ended with ${end}${words === "" ? "" : ` and said: ${words}`}` +
      failedLine(result.stderr, program.input),
    result.status === RESOURCE_PROBLEM,
  );
}

/** The line of the input that a tool complains about. */
function failedLine(stderr: string, input: string | undefined): string {
  const number = /\bline:? (\d+)/.exec(stderr)?.[1];
  const line = input?.split("\n")[Number(number) - 1];
  return line === undefined ? "" : ` (line ${number} is "${line}")`;
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch {
    return false;
  }
}
