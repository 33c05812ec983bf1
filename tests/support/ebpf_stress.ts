/**
 * A program for tests: a sidecar that answers each connection with its original destination, and
 * threads that connect to random addresses and compare. It prints what they counted. It is started in
 * the pod's namespace and cgroup: `deno run -A ebpf_stress.ts <threads> <connections of each>`.
 */
import type { StressCounts } from "./ebpf_stress_thread.ts";

function startWorker(message: unknown): Promise<StressCounts> {
  const worker = new Worker(new URL("./ebpf_stress_thread.ts", import.meta.url), {
    type: "module",
  });
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => reject(new Error(event.message));
    worker.onmessage = ({ data }) => {
      worker.terminate();
      resolve(data);
    };
    worker.postMessage(message);
  });
}

async function main(threads: number, connections: number): Promise<void> {
  const stop = new Int32Array(new SharedArrayBuffer(8));
  const server = startWorker({ stop });
  while (Atomics.load(stop, 1) === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  const counts = await Promise.all(
    Array.from({ length: threads }, () => startWorker({ connections })),
  );
  Atomics.store(stop, 0, 1);
  await server;
  console.log(JSON.stringify({
    right: counts.reduce((sum, { right }) => sum + right, 0),
    wrong: counts.flatMap(({ wrong }) => wrong),
  }));
}

await main(Number(Deno.args[0]), Number(Deno.args[1]));
