/** Real iptables tools, and folders of tools that misbehave, for tests. */
import assert from "node:assert/strict";
import type { IpFamily } from "../../src/ip/address.ts";
import { IptablesEngine } from "../../src/engine/iptables/iptables_engine.ts";
import { readLegacyTables } from "../../src/linux/legacy_tables.ts";
import { withPrivateMounts } from "../../src/linux/private_mounts.ts";
import { runProgram } from "../../src/linux/process.ts";
import { createNamespace } from "./topology.ts";

/** Where Debian's package puts the tools. */
export const TOOL_FOLDER = "/usr/sbin";

export const BACKENDS = ["nft", "legacy"] as const;

/** One of the two backends. */
export type TestBackend = typeof BACKENDS[number];

/** Runs a tool in the thread's network namespace; it must succeed. */
export function tool(name: string, args: readonly string[] = [], input?: string): string {
  const result = runProgram({
    path: `${TOOL_FOLDER}/${name}`,
    args,
    env: { LANG: "C", PATH: "/usr/sbin:/usr/bin" },
    ...(input === undefined ? {} : { input }),
  }, 10_000);
  assert.equal(result.status, 0, `${name} ${args.join(" ")}: ${result.stderr}`);
  return result.stdout;
}

/** Name of a family's tool in a backend, for example `ip6tables-nft-save`. */
export function toolName(
  family: IpFamily,
  backend: TestBackend,
  kind?: "save" | "restore",
): string {
  return `${family === "ipv4" ? "iptables" : "ip6tables"}-${backend}${kind ? `-${kind}` : ""}`;
}

/** What the real tool saves, without its headings, which hold the time. */
export function saved(family: IpFamily, backend: TestBackend, counters = false): string {
  return tool(toolName(family, backend, "save"), counters ? ["-c"] : [])
    .split("\n").filter((line) => line !== "" && !line.startsWith("#")).join("\n");
}

/** A folder of links to the real tools of one backend under their plain names. */
export class ToolFolder implements Disposable {
  readonly path: string = Deno.makeTempDirSync({ prefix: "kuma-test-tools-" });

  constructor(readonly backend: TestBackend) {
    for (const family of ["ipv4", "ipv6"] as const) {
      for (const kind of ["save", "restore"] as const) {
        const name = toolName(family, backend, kind);
        Deno.symlinkSync(`${TOOL_FOLDER}/${name}`, `${this.path}/${name}`);
      }
    }
  }

  /**
   * Replaces a tool by a shell script that still tells the real tool's version.
   *
   * @param script what it does instead; `$real` is the real tool
   * @param always what it does before that, and before telling the version
   */
  replace(family: IpFamily, kind: "save" | "restore", script: string, always = ""): void {
    const name = toolName(family, this.backend, kind);
    const path = `${this.path}/${name}`;
    Deno.removeSync(path);
    Deno.writeTextFileSync(
      path,
      `#!/bin/sh\nreal=${TOOL_FOLDER}/${name}\n${always}\n` +
        `[ "$1" = --version ] && exec $real --version\n${script}\n`,
      { mode: 0o755 },
    );
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

// Deno's tests take a library that is loaded during a test for a leak.
{
  using namespace = createNamespace();
  namespace.run(() => {
    tool("iptables-legacy", ["-t", "nat", "-S"]);
    readLegacyTables("ipv4");
    withPrivateMounts([], () => undefined);
    new IptablesEngine().remove();
  });
}
