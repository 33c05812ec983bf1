/** Puts the server of the shim's calls together with what it needs of the running agent. */
import { missingCapabilities } from "../../src/linux/capabilities.ts";
import type { LostNamespaceError } from "../../src/linux/network_namespace.ts";
import type { Logger } from "../../src/log/log.ts";
import { messageOf } from "../../src/text/message_of.ts";
import type { ServiceContext } from "../loop/service.ts";
import type { AgentMetrics } from "./agent_metrics.ts";
import { type CallObserver, CallServer } from "./call_server.ts";
import { CompiledRules } from "./compiled_rules.ts";
import { type CallAgent, serveCall } from "./served_call.ts";
import type { PodProvider } from "./socket_server.ts";

/** As when staying fails for another reason; kubelet starts the program again. */
const exitCodeWhenLost = 5;

/** What the server needs of its owner. */
export interface CallServiceParts
  extends Pick<CallObserver, "failed">, Pick<CallAgent, "finished"> {
  readonly pods: PodProvider;
  readonly metrics: AgentMetrics;
}

/** Makes the server; it serves nobody before it is told to. */
export function callServerOf(
  { log, paths }: ServiceContext,
  { pods, metrics, finished, failed }: CallServiceParts,
): CallServer {
  const rules = new CompiledRules();
  const missing = missingCapabilities(["CAP_SYS_ADMIN", "CAP_NET_ADMIN"]);
  return new CallServer(
    paths.callSocket,
    (request, from) =>
      serveCall(request, from, {
        pods,
        rules,
        stateFolder: paths.stateDir,
        mayCapture: missing.length === 0,
        podAnswered: (source) => metrics.podRequests.increment({ source }),
        finished,
        served: () => metrics.shimCalls.increment({ served: "agent" }),
        handedBack: (reason, error) => {
          metrics.shimCalls.increment({ served: "plugin", reason });
          log.debug("Call is left to the plugin", { reason, error: messageOf(error) });
        },
        lost: (error) => endWhenLost(log, error),
      }),
    {
      failed,
      listening: () =>
        log.info("Calls of the shim are served", {
          meshedPods: missing.length === 0 ? "here" : "by the plugin",
          ...(missing.length === 0 ? {} : { missing }),
        }),
    },
  );
}

/** Ends the program, whose thread is in a pod's namespace for good. */
export function endWhenLost(log: Logger, error: LostNamespaceError): never {
  log.error("Cannot go on in a foreign network namespace", { reason: messageOf(error) });
  Deno.exit(exitCodeWhenLost);
}
