/** Starts the plugin once before anything names it: what cannot start would stop every pod. */
import { LinuxError } from "../../src/linux/errno.ts";
import { type ProgramResult, runProgram } from "../../src/linux/process.ts";

/** How a start went: an error when the program is no good, a doubt when this process may not try. */
export type ProgramStart =
  | { readonly kind: "started" }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "doubt"; readonly reason: string };

/** A busy node takes its time; the agent answers nobody meanwhile. */
const patience = 5000;

/**
 * Asks a program for its version, as a runtime does.
 *
 * @param path Path of the program as this process sees it. Nobody may have it open for writing.
 * @param isSelfContained Whether it brings its loader and libraries, so that it runs anywhere.
 */
export function startProgram(path: string, isSelfContained: boolean): ProgramStart {
  const faulty = isSelfContained ? "failed" : "doubt";
  return tryVersion(path, faulty, (run) => {
    if (run.status === 0 && Array.isArray(fieldIn(run.stdout, "supportedVersions"))) return;
    const end = run.status === 0 ? "its answer is not that of a CNI plugin" : endOf(run);
    const words = run.stderr.trim().split("\n")[0]?.slice(0, 200) ?? "";
    return `asked for its version, ${end}${words === "" ? "" : `: ${words}`}`;
  });
}

/** Code of the error that `src/shim/shim.c` answers when nobody else is there to answer. */
const shimAloneCode = 11;

/**
 * Starts a shim that knows neither an agent nor a plugin: it must say so, in an error of the protocol.
 *
 * @param path As for {@linkcode startProgram}.
 */
export function startShim(path: string): ProgramStart {
  return tryVersion(path, "failed", (run) => {
    if (run.status === 1 && fieldIn(run.stdout, "code") === shimAloneCode) return;
    return `started without a plugin, ${endOf(run)}`;
  });
}

/**
 * Starts a program with the command VERSION.
 *
 * @param faulty What it means when it starts badly.
 * @param faultOf Tells what was wrong with a run, if anything.
 */
function tryVersion(
  path: string,
  faulty: "failed" | "doubt",
  faultOf: (run: ProgramResult) => string | undefined,
): ProgramStart {
  try {
    const run = runWhenFree(path);
    const reason = faultOf(run);
    return reason === undefined ? { kind: "started" } : { kind: faulty, reason };
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    // A folder without the right to execute, or a rule of the container's: no fault of the program's.
    const isForbidden = error.code === "EACCES" || error.code === "EPERM";
    return { kind: isForbidden ? "doubt" : faulty, reason: error.message };
  }
}

/** How often, and after how many milliseconds, a program is tried again that is open for writing. */
const tries = 50;
const pause = 10;

/**
 * Runs the program. A child that another thread of this process starts at the same time holds all that
 * was open, the program that had just been written too, until it has become a program of its own.
 */
function runWhenFree(path: string): ProgramResult {
  for (let left = tries;; left--) {
    try {
      return runProgram({ path, args: [], env: { CNI_COMMAND: "VERSION" } }, patience);
    } catch (error) {
      if (!(error instanceof LinuxError) || error.code !== "ETXTBSY" || left === 0) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, pause);
    }
  }
}

function endOf({ status, signal, timedOut }: ProgramResult): string {
  if (timedOut) return `it did not end within ${patience / 1000} s`;
  if (status === undefined) return `signal ${signal} ended it`;
  return `it ended with exit code ${status}`;
}

function fieldIn(text: string, name: string): unknown {
  try {
    return JSON.parse(text)?.[name];
  } catch {
    return undefined;
  }
}
