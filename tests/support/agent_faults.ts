/** What goes wrong in a played agent, at the boundary to the C library and from a call's begin on. */
import { libc } from "../../src/linux/libc.ts";

/** Its argument: before which of its calls it is killed or stopped, or that setns(2) fails. */
export type AgentFault = `SIGKILL ${number}` | `SIGSTOP ${number}` | "no way back";

type Functions = Record<string, (...args: unknown[]) => unknown>;

/** Makes a fault come in the call that is served next. */
export function prepareFault(fault: string): void {
  const functions = libc() as unknown as Functions;
  if (fault === "no way back") return refuseWayBack(functions);
  const [signal, number] = fault.split(" ");
  if (signal !== "SIGKILL" && signal !== "SIGSTOP") throw new Error(`Unknown fault ${fault}`);
  signalBeforeCall(functions, signal, Number(number));
}

function signalBeforeCall(functions: Functions, signal: Deno.Signal, number: number): void {
  let calls = 0;
  for (const [name, call] of Object.entries(functions)) {
    // Asking for the error number is no system call, so nothing lies between it and the one before.
    if (name === "__errno_location") continue;
    functions[name] = (...args) => {
      if (++calls === number) Deno.kill(Deno.pid, signal);
      return call(...args);
    };
  }
}

/** The first setns(2) enters, the second one would return. */
function refuseWayBack(functions: Functions): void {
  const setns = functions.setns!;
  let calls = 0;
  functions.setns = (file, kind) => setns(++calls === 1 ? file : -1, kind);
}
