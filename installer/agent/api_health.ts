/** Keeps an eye on the way to the API server, also when nobody asks it anything. */
import type { KubernetesClient } from "../../src/kubernetes/client.ts";
import type { ConnectionState } from "../../src/kubernetes/connection_state.ts";
import type { TokenTimes } from "../../src/kubernetes/token_expiry.ts";
import { type Doubt, doubtsOf, tokenInKubeconfig } from "../cluster/doubts.ts";
import { probe } from "../cluster/own_pod.ts";
import type { ServiceContext } from "../loop/service.ts";
import { DoubtLog } from "./doubt_log.ts";

/** A word of the API server counts for so long, in milliseconds; one request a minute and node. */
const freshness = 60_000;
/** While there is trouble its end is looked for more often. */
const troubledFreshness = 10_000;
/** Trouble that is over sooner is none. */
const patience = 3000;

/** Asks the API server now and then, and tells people what its answers mean for pods. */
export class ApiHealth {
  readonly #log: DoubtLog;
  readonly #stop = new AbortController();
  readonly #started = Date.now();
  #isAsking = false;
  #token: { readonly version: string; readonly times: TokenTimes | undefined } | undefined;

  /** @param connect Gives the client to ask with, which reports to the state. */
  constructor(
    private readonly context: ServiceContext,
    private readonly state: ConnectionState,
    private readonly connect: () => KubernetesClient,
  ) {
    this.#log = new DoubtLog(context.log);
  }

  /** What may keep meshed pods from starting now. */
  get doubts(): readonly Doubt[] {
    return doubtsOf(this.state, this.#tokenTimes, Date.now(), patience);
  }

  /** Until when the token on the host is good, in milliseconds since the epoch. */
  get tokenExpiry(): number | undefined {
    return this.#tokenTimes?.expires;
  }

  get #tokenTimes(): TokenTimes | undefined {
    const path = this.context.paths.kubeconfig;
    const version = versionOf(path);
    if (version === undefined) return undefined;
    if (this.#token?.version !== version) {
      this.#token = { version, times: tokenInKubeconfig(path) };
    }
    return this.#token.times;
  }

  /** Asks when it is time, and tells of changes. */
  tick(): void {
    this.#log.update(this.doubts);
    const { lastSuccess, lastFailure, problem } = this.state;
    const last = Math.max(lastSuccess ?? 0, lastFailure?.time ?? 0, this.#started);
    const isTroubled = problem !== undefined || this.state.forbidden.includes("get");
    const bound = isTroubled ? troubledFreshness : freshness;
    if (!this.#isAsking && Date.now() - last >= bound) void this.#ask();
  }

  stop(): void {
    this.#stop.abort();
  }

  async #ask(): Promise<void> {
    this.#isAsking = true;
    try {
      await probe(this.connect(), this.context.settings, this.#stop.signal);
    } catch (error) {
      // The authority's file cannot be read: what the plugin has on the host may still be right.
      if (!this.#stop.signal.aborted) this.state.failed("get", error);
    } finally {
      this.#isAsking = false;
    }
  }
}

/** Changes with the file; `undefined` when it is missing. */
function versionOf(path: string): string | undefined {
  try {
    const { ino, mtime, size } = Deno.statSync(path);
    return `${ino} ${mtime?.getTime()} ${size}`;
  } catch {
    return undefined;
  }
}
