/** The bound of a list holds for what is added to it, too. */
import assert from "node:assert/strict";
import { ConfigError } from "../src/pod/config_error.ts";
import { redirectConfigOf } from "../src/pod/redirect_config.ts";

const ports = (count: number) => Array.from({ length: count }, (_, i) => 20_000 + i);

function excluded(list: readonly number[], probePort: string): number {
  const { config } = redirectConfigOf({
    "traffic.kuma.io/exclude-inbound-ports": list.join(","),
    "kuma.io/application-probe-proxy-port": probePort,
  }, { allowPodSettings: new Set(), resolvers: [] });
  return config.inbound.excludePorts.length;
}

Deno.test("500 excluded ports are taken, with the port of the probe proxy among them", () => {
  assert.equal(excluded(ports(499), "9001"), 500);
  assert.equal(excluded(ports(500), "20499"), 500);
  assert.equal(excluded(ports(500), "0"), 500);
});

Deno.test("the port of the probe proxy counts for the bound of 500 excluded ports", () => {
  assert.throws(
    () => excluded(ports(500), "9001"),
    (error) => error instanceof ConfigError && /has 501 entries, more than 500/.test(error.message),
  );
});
