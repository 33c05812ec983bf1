/** Starts the plugin once before anything names it: what cannot start would stop every pod. */
import { LinuxError } from "../../src/linux/errno.ts";
import { runProgram } from "../../src/linux/process.ts";

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
  try {
    const env = { CNI_COMMAND: "VERSION" };
    const { status, signal, timedOut, stdout, stderr } = runProgram(
      { path, args: [], env },
      patience,
    );
    if (status === 0 && isVersionResult(stdout)) return { kind: "started" };
    const end = timedOut
      ? `it did not end within ${patience / 1000} s`
      : status === undefined
      ? `signal ${signal} ended it`
      : status === 0
      ? "its answer is not that of a CNI plugin"
      : `it ended with exit code ${status}`;
    const words = stderr.trim().split("\n")[0]?.slice(0, 200) ?? "";
    return {
      kind: isSelfContained ? "failed" : "doubt",
      reason: `asked for its version, ${end}${words === "" ? "" : `: ${words}`}`,
    };
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    // A folder without the right to execute, or a rule of the container's: no fault of the program's.
    const isForbidden = error.code === "EACCES" || error.code === "EPERM";
    return {
      kind: isSelfContained && !isForbidden ? "failed" : "doubt",
      reason: error.message,
    };
  }
}

/**
 * Starts a shim that knows neither an agent nor a plugin: it must say so, in an error of the protocol.
 *
 * @param path As for {@linkcode startProgram}.
 */
export function startShim(path: string): ProgramStart {
  try {
    const env = { CNI_COMMAND: "VERSION" };
    const { status, stdout } = runProgram({ path, args: [], env }, patience);
    if (status === 1 && codeOf(stdout) === shimAloneCode) return { kind: "started" };
    return { kind: "failed", reason: `started without a plugin, it ended with ${status}` };
  } catch (error) {
    if (!(error instanceof LinuxError)) throw error;
    const isForbidden = error.code === "EACCES" || error.code === "EPERM";
    return { kind: isForbidden ? "doubt" : "failed", reason: error.message };
  }
}

/** Code of the error that `src/shim/shim.c` answers when nobody else is there to answer. */
const shimAloneCode = 11;

function codeOf(text: string): unknown {
  try {
    return JSON.parse(text)?.code;
  } catch {
    return undefined;
  }
}

function isVersionResult(text: string): boolean {
  try {
    return Array.isArray(JSON.parse(text)?.supportedVersions);
  } catch {
    return false;
  }
}
