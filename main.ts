/**
 * kuma-cni, the CNI plugin that captures the traffic of a Kuma mesh's pods: the process round the
 * verbs. It reads a call, has it served, writes the one answer, and hands its log over.
 */
import { type CniRequest, failure, type ProcessOutput, serve } from "./src/cni/serve.ts";
import { readInput } from "./src/cni/stdin.ts";
import { ignoreFileSizeSignal, wasClosed, writeFully } from "./src/linux/output.ts";
import { waitUntilReadable } from "./src/linux/poll.ts";
import { Call } from "./src/plugin/call.ts";
import { verbHandlers } from "./src/plugin/verbs.ts";
import { VERSION, versionLine } from "./src/version.ts";

const HELP = `kuma-cni ${VERSION}: CNI plugin that captures the traffic of a Kuma mesh's pods

A container runtime calls it with CNI_COMMAND and other CNI_* variables, and the network
configuration on stdin. By hand:

  kuma-cni --version                print the version
  CNI_COMMAND=VERSION kuma-cni      print the supported versions of the CNI specification

The node agent install-cni puts it on a node and has commands to look at what it does.
`;

const STDOUT = 1;
const STDERR = 2;

async function main(): Promise<void> {
  const started = performance.now();
  const [option] = Deno.args;
  if (option !== undefined && !Deno.env.get("CNI_COMMAND")) return introduce(option);

  let call: Call | undefined;
  let answered = false;
  const finish = async (answer: ProcessOutput): Promise<void> => {
    if (answered) return;
    answered = true;
    let code: number = answer.exitCode;
    try {
      ignoreFileSizeSignal();
      writeFully(STDERR, new TextEncoder().encode(answer.stderr));
      if (answer.stdout.length > 0 && wasClosed(STDOUT)) throw new Error("Stdout is closed");
      writeFully(STDOUT, answer.stdout);
    } catch (error) {
      // Nobody reads the answer, so nobody may take the call for a success.
      call?.log.error("Could not write the answer", { error: String(error) });
      code = 1;
    }
    await call?.deliver(answer.error);
    Deno.exit(code);
  };
  const panic = (event: Event, reason: unknown): void => {
    event.preventDefault();
    finish(failure(reason));
  };
  addEventListener("unhandledrejection", (event) => panic(event, event.reason));
  addEventListener("error", (event) => panic(event, event.error));

  const configure = (request: CniRequest): Call => call = new Call(request, started);
  await finish(
    await serve({
      variable: (name) => Deno.env.get(name),
      input: () =>
        readInput({
          wait: (milliseconds) => waitUntilReadable(0, milliseconds),
          read: (buffer) => Deno.stdin.readSync(buffer),
        }),
      about: `kuma-cni ${VERSION}`,
    }, verbHandlers(configure)),
  );
}

/** Answers a person who starts the program in a shell. */
function introduce(option: string): void {
  if (option === "--version") return console.log(versionLine("kuma-cni"));
  if (option === "--help" || option === "-h") return console.log(HELP.trimEnd());
  console.error(`Unknown option ${JSON.stringify(option)}; try "kuma-cni --help"`);
  Deno.exitCode = 1;
}

// Not awaited: the compiled plugin runs this as a script, which has no await at its top.
main();
