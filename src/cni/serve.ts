/** One call of the protocol from environment and stdin to the complete answer. */
import { CniError, CniErrorCode, renderError, toCniError } from "./errors.ts";
import {
  type CniEnvironment,
  parseEnvironment,
  type ReadVariable,
  type Verb,
} from "./environment.ts";
import { type NetworkConfig, parseNetworkConfig } from "./network_config.ts";
import { addResult, versionResult } from "./result.ts";
import { isAtLeast, supportedVersions } from "./versions.ts";

/** A well-formed call. */
export interface CniRequest {
  readonly environment: CniEnvironment;
  readonly config: NetworkConfig;
}

/** What a verb does; it resolves on success and throws on failure. */
export type Handler = (request: CniRequest) => Promise<void> | void;

/** What the verbs do. */
export interface Handlers {
  add: Handler;
  check: Handler;
  status: Handler;
  /** DEL and GC: notes and pins of what goes; they succeed whatever comes of it. */
  forget?: Handler;
}

/** Everything that the process has to put out, in one piece. */
export interface ProcessOutput {
  readonly stdout: Uint8Array;
  readonly stderr: string;
  readonly exitCode: 0 | 1;
  /** Set when the call failed. */
  readonly error?: CniError;
}

/** Where a call comes from. */
export interface Caller {
  readonly variable: ReadVariable;
  /** Reads stdin to its end. */
  input(): Uint8Array | Promise<Uint8Array>;
  /** Program name and version, for a call without `CNI_COMMAND`. */
  readonly about: string;
}

/**
 * Serves one call. Never throws: whatever goes wrong becomes an error object.
 *
 * DEL succeeds for every well-formed call whatever the plugin's own settings say: the rules go with
 * the namespace, what else there is gets swept later, and a DEL that fails keeps a pod from going.
 */
export async function serve(caller: Caller, handlers: Handlers): Promise<ProcessOutput> {
  let cniVersion: string | undefined;
  try {
    const environment = parseEnvironment(caller.variable);
    if (environment === undefined) {
      const versions = `CNI protocol versions supported: ${supportedVersions().join(", ")}`;
      return { stdout: new Uint8Array(), stderr: `${caller.about}\n${versions}\n`, exitCode: 0 };
    }
    // VERSION is answered without reading: a person who asks need not close stdin first.
    if (environment.verb === "VERSION") return success(encode(versionResult()));
    const config = parseNetworkConfig(await caller.input());
    cniVersion = config.cniVersion;
    requireVerb(environment.verb, cniVersion);
    return success(await perform({ environment, config }, handlers));
  } catch (thrown) {
    return failure(thrown, cniVersion);
  }
}

/**
 * Makes the answer of a failed call.
 *
 * @param thrown What was caught.
 * @param cniVersion The configuration's version when it is known.
 */
export function failure(thrown: unknown, cniVersion?: string): ProcessOutput {
  const error = toCniError(thrown);
  return {
    stdout: encode(renderError(error, cniVersion)),
    stderr: "",
    exitCode: 1,
    error,
  };
}

async function perform(request: CniRequest, handlers: Handlers): Promise<Uint8Array> {
  switch (request.environment.verb) {
    case "ADD": {
      // Before the work: a result that cannot be given must not cost a half-finished ADD.
      const result = addResult(request.config);
      await handlers.add(request);
      return result;
    }
    case "CHECK":
      await handlers.check(request);
      break;
    case "STATUS":
      await handlers.status(request);
      break;
    case "DEL":
    case "GC":
      try {
        await handlers.forget?.(request);
      } catch {
        // A DEL that fails keeps a pod from going.
      }
      break;
  }
  return new Uint8Array();
}

/** CHECK came with 0.4.0, GC and STATUS with 1.1.0. */
function requireVerb(verb: Verb, cniVersion: string): void {
  const since = verb === "CHECK" ? "0.4.0" : verb === "GC" || verb === "STATUS" ? "1.1.0" : "0.1.0";
  if (isAtLeast(cniVersion, since)) return;
  throw new CniError(
    CniErrorCode.IncompatibleVersion,
    `Config version ${cniVersion} does not allow ${verb}`,
    `${verb} exists since CNI version ${since}`,
  );
}

function success(stdout: Uint8Array): ProcessOutput {
  return { stdout, stderr: "", exitCode: 0 };
}

function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}
