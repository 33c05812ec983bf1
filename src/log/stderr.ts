/** A sink that writes to stderr. */
import { escaped, formatRecord, type LogRecord, type Sink } from "./log.ts";

/** The form of a record's line: the reference's, with tabs, or a JSON object. */
export type LogFormat = "text" | "json";

/**
 * Makes a sink that writes each record as one line to stderr; a stderr that nobody reads any more
 * loses it, nothing else.
 */
export function stderrSink(format: LogFormat): Sink {
  const lineOf = format === "json" ? jsonOf : formatRecord;
  return (record) => {
    try {
      const bytes = new TextEncoder().encode(lineOf(record) + "\n");
      for (let at = 0; at < bytes.length;) at += Deno.stderr.writeSync(bytes.subarray(at));
    } catch {
      // Logging must never stop anything.
    }
  };
}

/** Fields have an object of their own: none of a pod's author can stand for the time or the level. */
function jsonOf({ time, severity, logger, message, fields }: LogRecord): string {
  const line = { time: new Date(time).toISOString(), level: severity, logger, message, fields };
  // In JSON such characters stand within texts only, where the escape means the same.
  return escaped(JSON.stringify(line));
}
