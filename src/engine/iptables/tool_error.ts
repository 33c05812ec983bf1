import { EngineError } from "../engine.ts";

/** A tool did not do what was asked, or cannot be used. */
export class ToolError extends EngineError {
  /** @param temporary whether a repetition may succeed */
  constructor(message: string, readonly temporary = false, cause?: unknown) {
    super(message, "iptables", { cause });
  }
}
