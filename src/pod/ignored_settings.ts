/** Settings of the config annotation that are not a pod's to make, or have no meaning here. */
import { isRecord } from "../json/record.ts";
import type { Section } from "./section.ts";

/** Settings of the host's side, which are not the pod's to choose, with their harmless values. */
const hostSettings: readonly (readonly [key: string, harmless: readonly unknown[]])[] = [
  ["wait", [5]],
  ["waitInterval", [0]],
  ["storeFirewalld", [false]],
  ["dryRun", [false]],
];

/** Settings of no meaning here: how the reference finds users, prints its rules, retries. */
const silentSettings: readonly string[] = ["cniMode", "verbose"];

/** Takes these settings, and warns of those that ask for something. */
export function readIgnored(root: Section): void {
  const ignored = (name: string, why: string) =>
    root.diagnostics.warnings.push(`${name} has no effect: ${why}`);
  const notThePods = "how rules get onto the host is not a pod's choice";
  for (const [key, harmless] of hostSettings) {
    const value = root.take(key);
    root.diagnostics.origins.delete(key);
    if (value !== undefined && !harmless.includes(value)) ignored(root.name(key), notThePods);
  }
  for (const key of silentSettings) {
    root.take(key);
    root.diagnostics.origins.delete(key);
  }
  const retry = root.take("retry");
  root.diagnostics.origins.delete("retry");
  if (!isDefaultRetry(retry)) ignored(root.name("retry"), notThePods);
  const executables = root.take("iptablesExecutables");
  root.diagnostics.origins.delete("iptablesExecutables");
  if (hasText(executables)) {
    ignored(root.name("iptablesExecutables"), "a pod chooses no program of the host");
  }
  root.diagnostics.ebpf = root.take("ebpf");
  root.diagnostics.origins.delete("ebpf");
}

function isDefaultRetry(value: unknown): boolean {
  if (value === undefined) return true;
  if (!isRecord(value)) return false;
  return Object.entries(value).every(([key, entry]) =>
    (key.toLowerCase() === "maxretries" && entry === 4) ||
    (key.toLowerCase() === "sleepbetweenretries" && (entry === "2s" || entry === 2e9))
  );
}

function hasText(value: unknown): boolean {
  if (value === undefined || value === "") return false;
  return !isRecord(value) ||
    Object.values(value).some((entry) => entry !== "" && entry !== null);
}
