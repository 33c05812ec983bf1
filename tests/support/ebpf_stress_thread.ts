/** A thread of `ebpf_stress.ts`: the sidecar, or a client that connects many times. */
import { connectTcp, formatEndpoint, listenTcp, poll } from "./sockets.ts";

/** What all threads have counted. */
export interface StressCounts {
  readonly right: number;
  /** What was asked and what the sidecar was told, of the first few. */
  readonly wrong: readonly string[];
}

const TIMEOUT_MS = 20_000;

function randomTarget() {
  const part = () => Math.floor(Math.random() * 254) + 1;
  return { address: `10.${part()}.${part()}.${part()}`, port: 1024 + part() * 200 };
}

function connectMany(count: number): StressCounts {
  let right = 0;
  const wrong: string[] = [];
  for (let index = 0; index < count; index++) {
    const target = randomTarget();
    const wanted = formatEndpoint(target);
    try {
      using client = connectTcp(target, { timeoutMs: TIMEOUT_MS });
      client.wait(TIMEOUT_MS);
      const told = new TextDecoder().decode(client.receive());
      const peer = formatEndpoint(client.remote);
      if (told === wanted && peer === wanted) right++;
      else wrong.push(`${wanted}: sidecar was told ${told}, client ${peer}`);
    } catch (error) {
      wrong.push(`${wanted}: ${error}`);
    }
  }
  return { right, wrong: wrong.slice(0, 5) };
}

function serve(stop: Int32Array): void {
  using listener = listenTcp({ address: "0.0.0.0", port: 15001 }, 4096);
  Atomics.store(stop, 1, 1);
  Atomics.notify(stop, 1);
  while (Atomics.load(stop, 0) === 0) {
    if (!poll([{ fd: listener.fd }], 50)[0]) continue;
    using socket = listener.accept();
    const original = socket?.originalDestination();
    if (original !== undefined) {
      socket!.send(new TextEncoder().encode(formatEndpoint(original)));
    }
  }
}

const worker = self as unknown as {
  onmessage: (event: MessageEvent) => void;
  postMessage(message: unknown): void;
};
worker.onmessage = ({ data: { stop, connections } }) => {
  if (stop === undefined) return worker.postMessage(connectMany(connections));
  serve(stop);
  worker.postMessage({ right: 0, wrong: [] });
};
