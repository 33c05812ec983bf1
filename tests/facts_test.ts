import assert from "node:assert/strict";
import { readNamespaceFacts } from "../src/engine/choice/facts.ts";
import { createNamespace } from "./support/topology.ts";
import { tool } from "./support/iptables.ts";
import { nftScript } from "./support/nft.ts";

Deno.test("facts of an empty namespace", () => {
  using namespace = createNamespace();
  assert.deepEqual(namespace.run(() => readNamespaceFacts()), {
    loopback: "lo",
    ipv6: true,
    dockerOutput: { ipv4: false, ipv6: false },
    conntrackZones: true,
  });
});

Deno.test("Docker's chain is found in the nat table of each family alone", () => {
  using namespace = createNamespace();
  const docker = () => namespace.run(() => readNamespaceFacts()).dockerOutput;
  nftScript(
    namespace,
    "table ip filter { chain DOCKER_OUTPUT {}; }; table inet nat { chain DOCKER_OUTPUT {}; }",
  );
  assert.deepEqual(docker(), { ipv4: false, ipv6: false });
  nftScript(namespace, "table ip nat { chain DOCKER_OUTPUT {}; }");
  assert.deepEqual(docker(), { ipv4: true, ipv6: false });
  nftScript(namespace, "table ip6 nat { chain DOCKER_OUTPUT {}; }");
  assert.deepEqual(docker(), { ipv4: true, ipv6: true });
});

Deno.test("Docker's chain is found in the legacy nat table, too", () => {
  using namespace = createNamespace();
  namespace.run(() => {
    tool("ip6tables-legacy", ["-t", "nat", "-N", "DOCKER_OUTPUT"]);
    assert.deepEqual(readNamespaceFacts().dockerOutput, { ipv4: false, ipv6: true });
  });
});

Deno.test("a loopback interface of another name is found", () => {
  using namespace = createNamespace();
  namespace.run(() => {
    const { success } = new Deno.Command("ip", { args: ["link", "set", "lo", "name", "loop7"] })
      .outputSync();
    assert(success);
    assert.equal(readNamespaceFacts().loopback, "loop7");
  });
});
