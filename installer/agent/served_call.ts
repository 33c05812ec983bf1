/**
 * Serves a call of the plugin inside of the agent, with the plugin's own code. What the agent cannot
 * do as well as the plugin it hands back: the plugin then does the whole call, and says itself what
 * is wrong, so that every message exists once.
 */
import type { CallOutcome, ReceivedFinish } from "../../src/agent/messages.ts";
import type { PodReference } from "../../src/cni/args.ts";
import { type ProcessOutput, serve } from "../../src/cni/serve.ts";
import type { NetworkSettings } from "../../src/cni/settings.ts";
import { OtherEngineError } from "../../src/engine/choice/nftables_alone.ts";
import type { Pod } from "../../src/kubernetes/pod.ts";
import type { LedgerEntry } from "../../src/ledger/entry.ts";
import type { FileDescriptor } from "../../src/linux/libc.ts";
import {
  isOneOfNamespaces,
  LostNamespaceError,
  ownNamespace,
  withNetworkNamespace,
} from "../../src/linux/network_namespace.ts";
import type { LogRecord } from "../../src/log/log.ts";
import { Call, type CallHost } from "../../src/plugin/call.ts";
import { mayHavePins } from "../../src/plugin/may_have_pins.ts";
import { verbHandlers } from "../../src/plugin/verbs.ts";
import { isPodOfUid } from "../../src/pod/lookup.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import type { NamespaceFacts, Ruleset } from "../../src/redirect/ruleset.ts";
import type { ShimRequest } from "../../src/shim/words.ts";
import { messageOf } from "../../src/text/message_of.ts";
import { VERSION } from "../../src/version.ts";
import type { ServedCall } from "./call_server.ts";
import type { CompiledRules } from "./compiled_rules.ts";
import type { PodProvider } from "./socket_server.ts";

/** Why a call goes back to the plugin. */
export type HandBackReason =
  /** Neither the watch nor the API server has the pod in time. */
  | "pod-unknown"
  /** No open namespace came with the call, or it is the host's, or this program's own. */
  | "namespace"
  /** This program may not enter a namespace. */
  | "capabilities"
  /** The engine is not "nftables", or the namespace has tables of iptables. */
  | "engine"
  /** Whoever asked has given up meanwhile. */
  | "given-up"
  /** Something went wrong in the namespace; the plugin tries again and says what. */
  | "failed"
  /** The network configuration is larger than what this program parses for others. */
  | "too-large";

/** Where a call comes from, as far as serving it needs that. */
export interface CallOrigin {
  readonly started: number;
  readonly namespace: FileDescriptor | undefined;
  readonly isPeerGone: boolean;
  /** Opens the network namespace that the shim runs in, which is the host's. */
  openCallersNamespace(): FileDescriptor;
}

/** What serving needs of the agent. */
export interface CallAgent {
  readonly pods: PodProvider;
  readonly rules: CompiledRules;
  /** Whether this program may enter the namespaces of pods and change their rules. */
  readonly mayCapture: boolean;
  podAnswered(source: "cache" | "api" | "error"): void;
  /** The project's own folder, as this program sees it. */
  readonly stateFolder: string;
  /** Takes over what the plugin would tell at its end; the entry is this program's own work. */
  finished(report: Omit<ReceivedFinish, "entry">, entry?: LedgerEntry): void;
  /** A call was served. */
  served(): void;
  /** A call was handed back. */
  handedBack(reason: HandBackReason, error: unknown): void;
  /** The program is in a foreign namespace for good, and has to end. */
  lost(error: LostNamespaceError): never;
}

/** Milliseconds for asking the API server; the shim waits for 3 s, and the plugin then asks for 30 s. */
const patienceMilliseconds = 500;

/** Most bytes of a network configuration; each can cost twenty times its size when it is parsed. */
const mostInput = 256 * 1024;

/** Serves a call; never throws. */
export async function serveCall(
  request: ShimRequest,
  origin: CallOrigin,
  agent: CallAgent,
): Promise<ServedCall> {
  const host = new AgentHost(origin, agent);
  let call: Call | undefined;
  let output: ProcessOutput | undefined;
  if (request.input.length > mostInput) {
    host.note("too-large", new Error(`Stdin has ${request.input.length} bytes`));
  } else {
    output = await serve(
      {
        variable: (name) => request.environment.get(name),
        input: () => request.input,
        about: `kuma-cni ${VERSION}`,
      },
      verbHandlers(
        (request) => call = new Call(request, origin.started, host),
        agent.stateFolder,
        // The plugin sees the host's BPF file system, this program does not.
        (request) => {
          if (!mayHavePins(request)) return Promise.resolve();
          return Promise.reject(host.note("engine", new Error("There may be pins")));
        },
      ),
    );
  }
  const { handedBack } = host;
  if (handedBack !== undefined || output === undefined) {
    const { reason, error } = handedBack!;
    return {
      answer: { kind: "run-it-yourself" },
      finish: () => agent.handedBack(reason, error),
    };
  }
  const { exitCode, stdout, stderr, error } = output;
  return {
    answer: {
      kind: "answered",
      exitCode,
      stdout,
      stderr: new TextEncoder().encode(stderr),
    },
    finish: () => {
      agent.served();
      void call?.deliver(error);
    },
  };
}

/** The agent in the place of the plugin's process. */
class AgentHost implements CallHost {
  /** Set when the plugin must do the call. */
  handedBack: { readonly reason: HandBackReason; readonly error: unknown } | undefined;

  constructor(private readonly origin: CallOrigin, private readonly agent: CallAgent) {}

  /** Notes that the plugin must do the call; returns what to throw, so that nothing more is done. */
  note(reason: HandBackReason, error: unknown): Error {
    this.handedBack ??= { reason, error };
    return new Error(`The plugin must do this call: ${messageOf(error)}`);
  }

  async pod(reference: PodReference): Promise<Pod> {
    const { pods } = this.agent;
    const known = pods.cached({ type: "pod", ...reference });
    if (known !== undefined) {
      this.agent.podAnswered("cache");
      return known;
    }
    try {
      const signal = AbortSignal.timeout(patienceMilliseconds);
      const pod = await pods.fetch({ type: "pod", ...reference }, signal);
      if (!isPodOfUid(pod, reference.uid)) throw new Error("The API server has another pod");
      this.agent.podAnswered("api");
      return pod;
    } catch (error) {
      this.agent.podAnswered("error");
      throw this.note("pod-unknown", error);
    }
  }

  inPodNamespace<T>({ engine }: NetworkSettings, work: () => T): T {
    const { namespace } = this.origin;
    if (engine !== "auto" && engine !== "nftables") {
      throw this.note("engine", new Error(`The engine is "${engine}"`));
    }
    if (!this.agent.mayCapture) {
      throw this.note("capabilities", new Error("Capabilities are missing"));
    }
    if (namespace === undefined) throw this.note("namespace", new Error("None is open"));
    try {
      // Whoever has given up has started the plugin, which is in the namespace by now.
      if (this.origin.isPeerGone) throw this.note("given-up", new Error("Nobody waits"));
      if (this.#isHosts(namespace)) throw this.note("namespace", new Error("It is not a pod's"));
      return withNetworkNamespace(namespace, work);
    } catch (error) {
      if (error instanceof LostNamespaceError) this.agent.lost(error);
      throw this.note(error instanceof OtherEngineError ? "engine" : "failed", error);
    }
  }

  compile(config: RedirectConfig, facts: NamespaceFacts): Ruleset {
    return this.agent.rules.compile(config, facts);
  }

  finish(records: readonly LogRecord[], outcome: CallOutcome, entry?: LedgerEntry): void {
    this.agent.finished({ type: "finish", records, outcome }, entry);
  }

  /** Whether it is this program's own namespace, or the one that the container runtime works in. */
  #isHosts(namespace: FileDescriptor): boolean {
    using callers = this.origin.openCallersNamespace();
    return isOneOfNamespaces(namespace, [ownNamespace, callers]);
  }
}
