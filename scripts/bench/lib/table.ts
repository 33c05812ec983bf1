/** Tables and medians for measurements. */

/**
 * Prints rows below a heading, columns aligned: the first to the left, the others to the right.
 *
 * @param title Line above the table.
 * @param rows First row is the heading.
 */
export function printTable(title: string, rows: readonly (readonly string[])[]): void {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, i) => widths[i] = Math.max(widths[i] ?? 0, cell.length));
  }
  console.log(`\n${title}`);
  for (const row of rows) {
    const cells = row.map((cell, i) =>
      i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)
    );
    console.log(`  ${cells.join("  ")}`);
  }
}

/**
 * The value below which a share of the values lies.
 *
 * @param values Any order; at least one.
 * @param share 0.5 for the median, 0.99 for the 99th percentile.
 */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const value = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  if (value === undefined) throw new RangeError("Cannot take a quantile of no values");
  return value;
}
