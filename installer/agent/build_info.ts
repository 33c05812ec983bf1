/** What this program is, for the log's first line and for metrics. */
import { VERSION } from "../../src/version.ts";

/** Returns version, target and runtime; few and short values, since they become labels. */
export function buildInfo(): { readonly [name: string]: string } {
  const { target, standalone } = Deno.build;
  const { deno, v8 } = Deno.version;
  return {
    version: VERSION,
    build: standalone ? target : `${target}, from sources`,
    runtime: `Deno ${deno}, V8 ${v8}`,
  };
}
