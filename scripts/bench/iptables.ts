/**
 * Measures the iptables engine: applying a ruleset of both families, reading it back included, in an
 * entered network namespace, with the real tools of both backends. Run as root.
 */
import { IptablesEngine } from "../../src/engine/iptables/iptables_engine.ts";
import type { Backend } from "../../src/engine/iptables/tools.ts";
import { createNamespace } from "../../tests/support/topology.ts";
import { compileRuleset } from "../../src/redirect/compile.ts";
import { defaultRedirectConfig } from "../../src/redirect/defaults.ts";
import type { Ruleset } from "../../src/redirect/ruleset.ts";
import { printTable, quantile } from "./lib/table.ts";

const ROUNDS = 20;
const PROCESSES = 5;

/** A default pod of Kuma 2.9 with DNS, vector C1, and further outbound port exclusions. */
function pod(exclusions: number): Ruleset {
  const { inbound, outbound, dns } = defaultRedirectConfig;
  return compileRuleset({
    ...defaultRedirectConfig,
    rulesVersion: "2.9",
    inbound: { ...inbound, excludePorts: [9901, 9001] },
    outbound: {
      ...outbound,
      excludePorts: [9901, ...Array.from({ length: exclusions }, (_, index) => 20000 + index)],
    },
    dns: { ...dns, enabled: true, captureAll: true },
  }, {
    loopback: "lo",
    ipv6: true,
    dockerOutput: { ipv4: false, ipv6: false },
    conntrackZones: true,
  });
}

/** Milliseconds of each step in a namespace of its own. */
function measure(
  backend: Backend,
  ruleset: Ruleset,
): Record<"apply" | "again" | "replace" | "verify", number> {
  using namespace = createNamespace();
  return namespace.run(() => {
    const engine = new IptablesEngine({ backend });
    const timed = (work: () => unknown): number => {
      const start = performance.now();
      work();
      return performance.now() - start;
    };
    return {
      apply: timed(() => engine.apply(ruleset)),
      again: timed(() => engine.apply(ruleset)),
      replace: timed(() => engine.apply({ ...ruleset, comments: false })),
      verify: timed(() => engine.verify(ruleset)),
    };
  });
}

function firstInProcess(backend: Backend, exclusions: number): number {
  const { stdout } = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", import.meta.filename ?? "", backend, String(exclusions)],
    stderr: "inherit",
  }).outputSync();
  return Number(new TextDecoder().decode(stdout));
}

/** Prints the figures. */
export function bench(): void {
  const text = (values: readonly number[]) => quantile(values, 0.5).toFixed(1);
  const rows = [[
    "tools, exclusions",
    "first apply of a process",
    "apply",
    "apply again",
    "verify",
  ]];
  for (const backend of ["nft", "legacy"] as const) {
    for (const exclusions of [0, 100]) {
      const first = Array.from({ length: PROCESSES }, () => firstInProcess(backend, exclusions));
      const ruleset = pod(exclusions);
      measure(backend, ruleset);
      const rounds = Array.from({ length: ROUNDS }, () => measure(backend, ruleset));
      rows.push([
        `${backend}, ${exclusions}`,
        text(first),
        text(rounds.map(({ apply }) => apply)),
        text(rounds.map(({ again }) => again)),
        text(rounds.map(({ replace }) => replace)),
        text(rounds.map(({ verify }) => verify)),
      ]);
    }
  }
  printTable("iptables engine, both families, read back: medians in milliseconds", rows);
}

if (import.meta.main) {
  const [backend, exclusions] = Deno.args;
  if (backend === "nft" || backend === "legacy") {
    console.log(measure(backend, pod(Number(exclusions))).apply);
  } else {
    bench();
  }
}
