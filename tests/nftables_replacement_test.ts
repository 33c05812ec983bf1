import assert from "node:assert/strict";
import { connectTcp, listenTcp } from "./support/sockets.ts";
import { addLinkAddress, createNamespace, createVethPair, setLinkUp } from "./support/topology.ts";

/** Applies alternating rulesets until it is killed, and prints a line for each hundred. */
const applier = (namespace: string, layouts: readonly string[]) => `
  import { NftablesEngine } from ${
  JSON.stringify(import.meta.resolve("../src/engine/nftables/nftables_engine.ts"))
};
  import { compileRuleset } from ${
  JSON.stringify(import.meta.resolve("../src/redirect/compile.ts"))
};
  import { withNetworkNamespace } from ${
  JSON.stringify(import.meta.resolve("../src/linux/network_namespace.ts"))
};
  import { readVectors, vectorConfig, vectorFacts } from ${
  JSON.stringify(import.meta.resolve("./support/vectors.ts"))
};
  const rulesets = readVectors().filter(({ name }) => ["C0", "C13"].includes(name))
    .map((vector) => compileRuleset(vectorConfig(vector, "2.9"), vectorFacts(vector)));
  const layouts = ${JSON.stringify(layouts)};
  withNetworkNamespace(${JSON.stringify(namespace)}, () => {
    for (let i = 0;; i++) {
      new NftablesEngine(layouts[i % layouts.length]).apply(rulesets[(i >> 1) % rulesets.length]);
      if (i % 20 === 0) console.log(i);
    }
  });`;

Deno.test("no connection slips past the sidecar while rules are replaced again and again", async () => {
  using pod = createNamespace();
  using peer = createNamespace();
  pod.run(() => {
    setLinkUp("lo");
    createVethPair("eth0", "eth0", peer.path);
    addLinkAddress("eth0", "10.97.8.2/24");
    addLinkAddress("eth0", "fd97:8::2/64");
    setLinkUp("eth0");
  });
  using peerV4 = peer.run(() => {
    addLinkAddress("eth0", "10.97.8.3/24");
    addLinkAddress("eth0", "fd97:8::3/64");
    setLinkUp("eth0");
    return listenTcp({ address: "0.0.0.0", port: 80 });
  });
  using peerV6 = peer.run(() => listenTcp({ address: "::", port: 80 }));
  using sidecarV4 = pod.run(() => listenTcp({ address: "0.0.0.0", port: 15001 }));
  using sidecarV6 = pod.run(() => listenTcp({ address: "::", port: 15001 }));

  const child = new Deno.Command(Deno.execPath(), {
    args: ["eval", applier(pod.path, ["inet", "inet", "per-family", "inet"])],
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let connections = 0;
  let applied = 0;
  try {
    assert.equal((await reader.read()).value, "0\n", "the first rules are in place");
    const end = performance.now() + 2500;
    while (performance.now() < end) {
      for (
        const [address, sidecar, real] of [
          ["10.97.8.3", sidecarV4, peerV4],
          ["fd97:8::3", sidecarV6, peerV6],
        ] as const
      ) {
        using client = pod.run(() => connectTcp({ address, port: 80 }, { timeoutMs: 2000 }));
        using accepted = sidecar.accept();
        assert(
          accepted,
          `connection ${connections} from port ${client.local.port} reached no sidecar`,
        );
        assert.equal(real.accept(), undefined);
        assert.deepEqual(accepted.originalDestination(), { address, port: 80 });
        connections++;
        client.reset();
      }
    }
    applied = Number((await reader.read()).value?.trim().split("\n").at(-1));
  } finally {
    child.kill("SIGKILL");
    await child.status;
    await reader.cancel();
  }
  assert(connections > 200 && applied > 20, `${connections} connections, ${applied} replacements`);
});
