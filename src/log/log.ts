/** Structured logging: levels, records, sinks. A sink never throws into its caller. */

/** Levels as the network configuration spells them. */
export type LogLevel = "off" | "info" | "debug";

/** Severity of one record; `warn` and `error` are written at level `info`. */
export type Severity = "debug" | "info" | "warn" | "error";

/** One record: time in milliseconds since the epoch, a message and plain JSON fields. */
export interface LogRecord {
  readonly time: number;
  readonly severity: Severity;
  /** Program, `kuma-cni` or `install-cni`. */
  readonly logger: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** Takes records; must not throw and must not block for long. */
export type Sink = (record: LogRecord) => void;

/** Writes records of at least its level to a sink. */
export class Logger {
  constructor(
    readonly name: string,
    private readonly level: LogLevel,
    private readonly sink: Sink,
    private readonly fields: Readonly<Record<string, unknown>> = {},
  ) {}

  /** Returns a logger that adds fields to every record. */
  with(fields: Readonly<Record<string, unknown>>): Logger {
    return new Logger(this.name, this.level, this.sink, { ...this.fields, ...fields });
  }

  debug(message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (this.level === "debug") this.write("debug", message, fields);
  }

  info(message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (this.level !== "off") this.write("info", message, fields);
  }

  warn(message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (this.level !== "off") this.write("warn", message, fields);
  }

  error(message: string, fields: Readonly<Record<string, unknown>> = {}): void {
    if (this.level !== "off") this.write("error", message, fields);
  }

  private write(
    severity: Severity,
    message: string,
    fields: Readonly<Record<string, unknown>>,
  ): void {
    this.sink({
      time: Date.now(),
      severity,
      logger: this.name,
      message,
      fields: { ...this.fields, ...fields },
    });
  }
}

/**
 * Formats a record as one line in the form of the reference implementation:
 * `time<TAB>LEVEL<TAB>logger<TAB>message<TAB>{json fields}`, without a line end. What could make it
 * look like other lines is escaped, since parts of it can come from a pod's author.
 */
export function formatRecord(record: LogRecord): string {
  const parts = [
    new Date(record.time).toISOString(),
    record.severity.toUpperCase(),
    escaped(record.logger),
    escaped(record.message),
  ];
  // JSON escapes only some of them, and stays JSON when the others are escaped as well.
  if (Object.keys(record.fields).length > 0) parts.push(escaped(JSON.stringify(record.fields)));
  return parts.join("\t");
}

/** Escapes, as `\\uXXXX`, what could make a part of a line look like other lines. */
export function escaped(text: string): string {
  return text.replace(
    unprintable,
    (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"),
  );
}

/** What breaks lines, commands a terminal, or turns the direction of writing. */
const unprintable =
  // deno-lint-ignore no-control-regex -- exactly the characters that could forge a log line
  /[\u0000-\u001f\u007f-\u009f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g;
