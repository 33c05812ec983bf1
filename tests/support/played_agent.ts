/**
 * An agent of the tests: the real server of calls, for whoever brings a kubeconfig. It asks the API
 * server that the call's own configuration names, and writes the log where the plugin would. At its
 * end it says how many calls it has served.
 */
import { endWhenLost } from "../../installer/agent/call_service.ts";
import { CallServer } from "../../installer/agent/call_server.ts";
import { CompiledRules } from "../../installer/agent/compiled_rules.ts";
import { serveCall } from "../../installer/agent/served_call.ts";
import { isRecord } from "../../src/json/record.ts";
import { appendToLogFile, stateFolderOf } from "../../src/log/file.ts";
import { formatRecord, Logger } from "../../src/log/log.ts";
import { ApiPodSource } from "../../src/pod/api_source.ts";
import type { ShimRequest } from "../../src/shim/words.ts";
import { prepareFault } from "./agent_faults.ts";

const [socket, fault] = Deno.args;
if (socket === undefined) throw new Error("The socket's path is missing");

/** The paths of a configuration that may be anything. */
function pathsOf({ input }: ShimRequest): { kubeconfig?: string; agentSocket?: string } {
  const textAt = (value: unknown, section: string, key: string) => {
    const part = isRecord(value) ? value[section] : undefined;
    const text = isRecord(part) ? part[key] : undefined;
    return typeof text === "string" ? text : undefined;
  };
  try {
    const config = JSON.parse(new TextDecoder().decode(input));
    const kubeconfig = textAt(config, "kubernetes", "kubeconfig");
    const agentSocket = textAt(config, "agent", "socket");
    return {
      ...(kubeconfig === undefined ? {} : { kubeconfig }),
      ...(agentSocket === undefined ? {} : { agentSocket }),
    };
  } catch {
    return {};
  }
}

const log = new Logger("played-agent", "info", (record) => console.error(formatRecord(record)));
const rules = new CompiledRules();
const server = new CallServer(
  socket,
  (request, from) => {
    if (fault !== undefined) prepareFault(fault);
    const { kubeconfig, agentSocket } = pathsOf(request);
    const stateFolder = stateFolderOf(kubeconfig, agentSocket);
    return serveCall(request, from, {
      pods: {
        cached: () => undefined,
        fetch: async (reference, signal) => {
          if (kubeconfig === undefined) throw new Error("There is no kubeconfig");
          using source = new ApiPodSource(kubeconfig, 1000);
          return await source.get(reference, signal);
        },
      },
      rules,
      stateFolder: stateFolder ?? "/nonexistent/kuma-cni.d",
      mayCapture: true,
      podAnswered: () => {},
      finished: ({ records }) => {
        if (stateFolder !== undefined) appendToLogFile(stateFolder, records);
      },
      served: () => {
        console.error("played agent: served");
        // A call that was over before its fault; one that was handed back may be so for lack of time.
        if (fault?.startsWith("SIGKILL")) Deno.exit(0);
      },
      handedBack: () => {},
      lost: (error) => endWhenLost(log, error),
    });
  },
  { failed: () => {} },
);
server.ensureServing();
