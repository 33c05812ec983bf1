/** A sink that writes to stderr. */
import { formatRecord, type LogRecord } from "./log.ts";

/** Writes a record as one line; a stderr that nobody reads any more loses it, nothing else. */
export function writeToStderr(record: LogRecord): void {
  try {
    const bytes = new TextEncoder().encode(formatRecord(record) + "\n");
    for (let at = 0; at < bytes.length;) at += Deno.stderr.writeSync(bytes.subarray(at));
  } catch {
    // Logging must never stop anything.
  }
}
