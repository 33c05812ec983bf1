/**
 * What a pod says about the engine `ebpf`: the words of Kuma up to 2.14, whose control plane writes
 * them on every pod when `experimental.ebpf.enabled` is set. They choose how the same traffic is
 * redirected, and nothing else: paths on the host are not a pod's to choose.
 */
import { isRecord, own } from "../json/record.ts";
import { quote } from "../text/quote.ts";
import { parseBoolean } from "./scalars.ts";
import type { Diagnostics } from "./section.ts";

/** The setting as key path of the config annotation, and in `allow_pod_settings`. */
export const EBPF_SETTING = "ebpf.enabled";

/** The annotation. */
export const EBPF_ANNOTATION = "kuma.io/transparent-proxying-ebpf";

/**
 * `enabled` and `disabled` are to be followed; `not allowed` is an `enabled` that the administrator
 * has not left to pods.
 */
export type EbpfWish = "enabled" | "disabled" | "not allowed";

/** Annotations about the host and what the reference's control plane writes unless told otherwise. */
const pathAnnotations: readonly (readonly [name: string, usual: readonly string[]])[] = [
  [`${EBPF_ANNOTATION}-bpf-fs-path`, ["/sys/fs/bpf", "/run/kuma/bpf"]],
  [`${EBPF_ANNOTATION}-cgroup-path`, ["/sys/fs/cgroup"]],
  [`${EBPF_ANNOTATION}-tc-attach-iface`, [""]],
  [`${EBPF_ANNOTATION}-programs-source-path`, ["/tmp/kuma-ebpf"]],
  [`${EBPF_ANNOTATION}-instance-ip-env-var-name`, ["INSTANCE_IP", ""]],
];

/**
 * Reads a pod's annotations.
 *
 * @param section The section `ebpf` of the config annotation. Control planes write `enabled: false`
 * there for everybody, so that only the annotation can say no.
 * @param diagnostics Receives a warning of all that has no effect.
 * @returns What the pod asks for; nothing when it does not say.
 */
export function readEbpfWish(
  annotations: Readonly<Record<string, string>>,
  section: unknown,
  allowPodSettings: ReadonlySet<string>,
  diagnostics: Pick<Diagnostics, "warnings">,
): EbpfWish | undefined {
  for (const [name, usual] of pathAnnotations) {
    const value = Object.hasOwn(annotations, name) ? annotations[name]! : undefined;
    if (value === undefined || usual.includes(value)) continue;
    diagnostics.warnings.push(
      `Annotation "${name}" has no effect: a pod chooses no file and no interface of the host`,
    );
  }
  const text = Object.hasOwn(annotations, EBPF_ANNOTATION) ? annotations[EBPF_ANNOTATION]! : "";
  const said = text.trim() === "" ? undefined : parseBoolean(text.trim());
  if (said === undefined && text.trim() !== "") {
    diagnostics.warnings.push(
      `Annotation "${EBPF_ANNOTATION}" has no effect: it is ${quote(text, 64)} where "enabled", ` +
        `"true", "disabled" or "false" is expected`,
    );
  }
  if (said === false) return "disabled";
  const asked = said === true || (isRecord(section) && own(section, "enabled") === true);
  if (!asked) return undefined;
  return allowPodSettings.has(EBPF_SETTING) ? "enabled" : "not allowed";
}
