/** What went wrong with a host's file, in words that stay the same while the trouble does. */
import { messageOf } from "../../src/text/message_of.ts";

/**
 * Returns an error's message with each temporary file called by the name of its target: with the
 * random name in it the same trouble would read as new trouble at each attempt.
 */
export function errorText(error: unknown): string {
  return messageOf(error).replace(/\.([^/"']+)\.kuma-cni-[0-9a-f-]{36}/g, "$1");
}
