/** All findings about a node, and what they come to in one sentence. Pure. */
import { rankOf } from "./catalogue.ts";
import { agentFindings, apiFindings, podFindings } from "./cluster.ts";
import type { Finding, Grade } from "./finding.ts";
import { installedFindings } from "./installed_here.ts";
import { pathsOf } from "../settings/paths.ts";
import type { NodeSeen } from "./seen.ts";
import {
  changeFindings,
  conflictFindings,
  kernelFindings,
  runtimeFindings,
} from "./surroundings.ts";

/** What the doctor says. */
export interface Diagnosis {
  /** One sentence. */
  readonly verdict: string;
  /** 0: nothing is wrong; 1: something is odd; 2: pods may not be captured, or not start. */
  readonly exitCode: 0 | 1 | 2;
  /** Failures first, each group with the most probable cause first. */
  readonly findings: readonly Finding[];
}

const grades: readonly Grade[] = ["failure", "warning", "unknown", "note", "ok"];

/** Judges what was seen of a node. */
export function diagnose(seen: NodeSeen): Diagnosis {
  const findings = [
    ...runtimeFindings(seen),
    ...installedFindings(seen),
    ...conflictFindings(seen),
    ...changeFindings(seen),
    ...apiFindings(seen),
    ...agentFindings(seen),
    ...podFindings(seen),
    ...kernelFindings(seen),
  ];
  const told = findings.map((finding) => ({ ...finding, text: onHost(finding.text, seen) }));
  return conclude(told, "Healthy: meshed pods that start now are captured");
}

/** A text with the host's paths: who reads it has no shell in the agent's container. */
function onHost(text: string, { settings }: NodeSeen): string {
  const { netDir, mountedNetDir, mountedBinDir } = settings;
  const { hostBinDir, isHostBinDirSet } = pathsOf(settings);
  return text.replaceAll(mountedNetDir, netDir)
    // By hand, without settings, it is where the runtime looks.
    .replaceAll(mountedBinDir, isHostBinDirSet ? hostBinDir : mountedBinDir);
}

/**
 * Sorts findings and puts the most probable cause into the verdict.
 *
 * @param healthy The verdict when nothing is wrong.
 */
export function conclude(all: readonly Finding[], healthy: string): Diagnosis {
  const findings = all.toSorted((a, b) =>
    grades.indexOf(a.grade) - grades.indexOf(b.grade) || rankOf(a.code) - rankOf(b.code)
  );
  const [first] = findings;
  if (first?.grade === "failure") {
    return { verdict: `Something is wrong: ${first.text}`, exitCode: 2, findings };
  }
  if (first?.grade === "warning") {
    return { verdict: `${healthy}, but: ${first.text}`, exitCode: 1, findings };
  }
  const unseen = findings.filter(({ grade }) => grade === "unknown").length;
  const verdict = unseen === 0
    ? healthy
    : `${healthy}, as far as can be seen from here (${unseen} ${
      unseen === 1 ? "look was" : "looks were"
    } not possible)`;
  return { verdict, exitCode: 0, findings };
}
