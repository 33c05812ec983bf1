/** Texts of success: the result of ADD and the answer of VERSION. */
import { type NetworkConfig, previousResultOf } from "./network_config.ts";
import { isAtLeast, NEWEST_VERSION, supportedVersions } from "./versions.ts";

/**
 * Returns the result of ADD: the bytes of `prevResult` exactly as they came, since this plugin
 * changes nothing that a result tells. That holds too when `prevResult` names another version than
 * the configuration: a conversion would lose fields, its own `cniVersion` says what it is, and
 * runtimes read it by that. Without `prevResult` it is an empty result of the configuration's version.
 *
 * @throws {CniError} code 7 when `prevResult` is no object.
 */
export function addResult(config: NetworkConfig): Uint8Array {
  return previousResultOf(config) ?? new TextEncoder().encode(emptyResult(config.cniVersion));
}

/** Returns the answer to VERSION as one line of JSON. */
export function versionResult(): string {
  const answer = { cniVersion: NEWEST_VERSION, supportedVersions: supportedVersions() };
  return JSON.stringify(answer) + "\n";
}

function emptyResult(cniVersion: string): string {
  // Results before 1.0.0 always carry "dns", as the reference library writes them.
  return JSON.stringify(isAtLeast(cniVersion, "1.0.0") ? { cniVersion } : { cniVersion, dns: {} });
}
