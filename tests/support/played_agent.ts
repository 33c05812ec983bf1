/**
 * An agent of the tests: the real server of calls, for whoever brings a kubeconfig. It asks the API
 * server that the call's own configuration names, and writes the log where the plugin would. At its
 * end it says how many calls it has served.
 */
import { CallServer } from "../../installer/agent/call_server.ts";
import { CompiledRules } from "../../installer/agent/compiled_rules.ts";
import { serveCall } from "../../installer/agent/served_call.ts";
import { libc } from "../../src/linux/libc.ts";
import { isRecord } from "../../src/json/record.ts";
import { appendToLogFile, stateFolderOf } from "../../src/log/file.ts";
import { ApiPodSource } from "../../src/pod/api_source.ts";
import type { ShimRequest } from "../../src/shim/words.ts";

const [socket, killAt] = Deno.args;
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

/** Kills this process before its n-th call of the C library, counted from here. */
function killBeforeCall(n: number): void {
  const functions = libc() as unknown as Record<string, (...args: unknown[]) => unknown>;
  let calls = 0;
  for (const [name, call] of Object.entries(functions)) {
    // Asking for the error number is no system call, so nothing lies between it and the one before.
    if (name === "__errno_location") continue;
    functions[name] = (...args) => {
      if (++calls === n) Deno.kill(Deno.pid, "SIGKILL");
      return call(...args);
    };
  }
}

const rules = new CompiledRules();
const server = new CallServer(
  socket,
  (request, from) => {
    if (killAt !== undefined) killBeforeCall(Number(killAt));
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
      served: () => console.error("played agent: served"),
      handedBack: () => {},
      lost: (error) => {
        throw error;
      },
    });
  },
  { failed: () => {} },
);
server.ensureServing();
