/**
 * Measures the nftables engine: applying a ruleset of both families and reading it back, in an
 * entered, empty network namespace. Run as root: `deno run -A scripts/bench/nftables.ts`.
 */
import { NftablesEngine } from "../../src/engine/nftables/nftables_engine.ts";
import { createNamespace } from "../../tests/support/topology.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import type { RedirectConfig } from "../../src/redirect/config.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import type { NamespaceFacts, Ruleset } from "../../src/redirect/ruleset.ts";
import { build } from "../build.ts";
import { applyPhases } from "./lib/plugin_phases.ts";
import { printTable, quantile } from "./lib/table.ts";

const ROUNDS = 60;
const PROCESSES = 7;
const CALLS = 25;

const facts: NamespaceFacts = {
  loopback: "lo",
  ipv6: true,
  dockerOutput: { ipv4: false, ipv6: false },
  conntrackZones: true,
};

/** A default pod of Kuma 2.9 with DNS, vector C1, and further outbound port exclusions. */
function pod(exclusions: number): Ruleset {
  const { inbound, outbound, dns } = defaultRedirectConfig;
  const config: RedirectConfig = {
    ...defaultRedirectConfig,
    rulesVersion: "2.9",
    inbound: { ...inbound, excludePorts: [9901, 9001] },
    outbound: {
      ...outbound,
      excludePorts: [9901, ...Array.from({ length: exclusions }, (_, index) => 20000 + index)],
    },
    dns: { ...dns, enabled: true, captureAll: true },
  };
  return compileRuleset(config, facts);
}

/** Milliseconds of one apply, read-back included, in a namespace of its own. */
function once(ruleset: Ruleset): number {
  using namespace = createNamespace();
  const engine = new NftablesEngine();
  return namespace.run(() => {
    const start = performance.now();
    engine.apply(ruleset);
    return performance.now() - start;
  });
}

function firstInFreshProcess(exclusions: number): number {
  const { stdout } = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", import.meta.filename!, "first", String(exclusions)],
    stderr: "inherit",
  }).outputSync();
  return Number(new TextDecoder().decode(stdout));
}

/** Milliseconds of the phase `apply` of whole plugin calls, which run from bytecode. */
async function inPlugin(exclusions: number): Promise<number[]> {
  const ports = [9901, ...Array.from({ length: exclusions }, (_, index) => 20000 + index)];
  return await applyPhases(CALLS, { "traffic.kuma.io/exclude-outbound-ports": ports.join(",") });
}

/** Measures and prints a table. */
export async function bench(): Promise<void> {
  await build({ only: ["kuma-cni"] });
  const rows = [["exclusions", "first in a process", "median", "p90", "whole phase in the plugin"]];
  for (const exclusions of [0, 100, 300]) {
    const first = Array.from({ length: PROCESSES }, () => firstInFreshProcess(exclusions));
    const ruleset = pod(exclusions);
    for (let warm = 0; warm < 20; warm++) once(ruleset);
    const times = Array.from({ length: ROUNDS }, () => once(ruleset));
    const phases = await inPlugin(exclusions);
    const cells = [
      quantile(first, 0.5),
      quantile(times, 0.5),
      quantile(times, 0.9),
      quantile(phases, 0.5),
    ];
    rows.push([String(exclusions), ...cells.map((time) => `${time.toFixed(2)} ms`)]);
  }
  printTable("nftables: apply and read back, both families, in an empty namespace", rows);
}

if (import.meta.main) {
  const [mode, count] = Deno.args;
  if (mode === "first") console.log(once(pod(Number(count))));
  else await bench();
}
