/** The address `::6` waits for the loopback interface, which a runtime sets up beside the chain. */
import "./support/load_libc.ts";
import assert from "node:assert/strict";
import { addPassthroughAddress } from "../src/engine/passthrough_address.ts";
import { applyWithNftables, OtherEngineError } from "../src/engine/choice/nftables_alone.ts";
import { listAddresses, loopbackLink } from "../src/linux/addresses.ts";
import { compileRuleset } from "../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../src/redirect/defaults.ts";
import { createNamespace, setLinkUp } from "./support/topology.ts";

Deno.test("the address ::6 comes after the loopback interface is up, else containerd's plugin fails the pod", async () => {
  using namespace = createNamespace(undefined, "down");
  // What the plugin "loopback" does: it sets the interface up, then refuses addresses like ours.
  const script = `sleep 0.3; ip -n ${namespace.name} link set lo up; ` +
    `ip -n ${namespace.name} -6 address show dev lo`;
  const loopback = new Deno.Command("sh", { args: ["-c", script], stdout: "piped" }).spawn();
  const begin = performance.now();
  namespace.run(addPassthroughAddress);
  assert.ok(performance.now() - begin > 200, "it waited");
  const seen = new TextDecoder().decode((await loopback.output()).stdout);
  assert.match(seen, /::1\/128/);
  const there = namespace.run(() => listAddresses("ipv6").map(({ address }) => address));
  assert.deepEqual(there.sort(), ["::1", "::6"]);
});

Deno.test("an interface that nobody sets up costs a second, not the pod", () => {
  using namespace = createNamespace(undefined, "down");
  const begin = performance.now();
  namespace.run(addPassthroughAddress);
  const taken = performance.now() - begin;
  assert.ok(taken >= 1_000 && taken < 10_000, `${taken} ms`);
  assert.ok(namespace.run(() => listAddresses("ipv6").some(({ address }) => address === "::6")));
});

Deno.test("who serves calls does not wait for the interface, and changes nothing", () => {
  using namespace = createNamespace(undefined, "down");
  const apply = () =>
    applyWithNftables("auto", (facts) => compileRuleset(defaultRedirectConfig, facts), false);
  assert.throws(() => namespace.run(apply), OtherEngineError);
  assert.equal(namespace.run(() => loopbackLink().up), false);
  assert.deepEqual(namespace.run(() => listAddresses("ipv6")), []);
  namespace.run(() => setLinkUp("lo"));
  assert.equal(namespace.run(apply).engine, "nftables");
});
