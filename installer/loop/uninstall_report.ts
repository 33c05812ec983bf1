/** What uninstalling has done, for people. */

/** What uninstalling has done. */
export interface UninstallReport {
  /** What was removed or restored, each with its path. */
  readonly removed: readonly string[];
  /** What was looked for in vain, each with the folder that was looked in. */
  readonly notFound: readonly string[];
  /** A stub that answers DEL was left in the program's place, and why. */
  readonly stub?: string;
  /** What could not be known. */
  readonly unknown?: string;
}

/** Returns the report's head line. */
export function headOf(report: UninstallReport): string {
  if (report.stub !== undefined) return "Uninstalled, but for a stub that answers DEL";
  return report.removed.length === 0 ? "Nothing was installed" : "Uninstalled";
}

/** Returns the report as lines for people. */
export function linesOf(report: UninstallReport): string[] {
  return [
    headOf(report),
    ...report.removed.map((what) => `  removed: ${what}`),
    ...report.notFound.map((what) => `  not found: ${what}`),
    ...(report.stub === undefined ? [] : [`  left: ${report.stub}`]),
    ...(report.unknown === undefined ? [] : [`  not known: ${report.unknown}`]),
  ];
}
