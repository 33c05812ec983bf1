/** What pictures of rules have in common: the places of a packet's way, and texts of boxes. */
import { outcomeText, packetText } from "./explain.ts";
import type { RedirectConfig } from "./config.ts";
import type { Evaluation, Packet, TraceStep } from "./evaluate.ts";

/** A packet's way through a pod's rules. */
export interface Way {
  readonly packet: Packet;
  readonly evaluation: Evaluation;
  readonly config: RedirectConfig;
}

/** A stretch of the way: rules of one chain that the packet meets one after the other. */
export interface Place {
  /** Table and chain, for example `nat OUTPUT`. */
  readonly name: string;
  readonly steps: readonly TraceStep[];
}

/** Returns the stretches of the way, in its order. */
export function placesOf({ steps }: Evaluation): Place[] {
  const places: { name: string; steps: TraceStep[] }[] = [];
  for (const step of steps) {
    const name = `${step.table} ${step.chain}`;
    const last = places.at(-1);
    if (last?.name === name) last.steps.push(step);
    else places.push({ name, steps: [step] });
  }
  return places;
}

/** Where the way begins and ends, in words. */
export function endsOf({ packet, evaluation, config }: Way): { from: string; to: string } {
  return { from: packetText(packet), to: outcomeText(evaluation, config) };
}
