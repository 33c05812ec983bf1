/** Versions of the CNI specification that the plugin speaks. */

/**
 * Supported versions, oldest first: all that the CNI specification has had since 0.1.0.
 *
 * @returns A fresh array that the caller may keep.
 */
export function supportedVersions(): string[] {
  return ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];
}

/** Tells whether the plugin speaks a version; the exact text counts. */
export function isSupportedVersion(version: string): boolean {
  return supportedVersions().includes(version);
}

/** The newest supported version, which VERSION names. */
export const NEWEST_VERSION = "1.1.0";

/** What a configuration without `cniVersion` means (CNI specification 0.2.0, "cniVersion"). */
export const DEFAULT_VERSION = "0.1.0";

/**
 * Tells whether a supported version is the same as or newer than another one.
 *
 * @param version A supported version.
 * @param minimum A supported version.
 */
export function isAtLeast(version: string, minimum: string): boolean {
  const versions = supportedVersions();
  return versions.indexOf(version) >= versions.indexOf(minimum);
}
