/** Guesses which name a person meant. */

/** Longest name that is compared: the work grows with the square of the length. */
const LONGEST = 64;

/**
 * Returns the known name that a mistyped one is nearest to: by single letters that are missing, too
 * many, wrong or swapped (optimal string alignment distance). Case, `-`, `_`, `.` and blanks do not
 * count, so that `logLevel` finds `log_level`.
 *
 * @param name What was written.
 * @param known Names to choose from; the first one of equally near ones is taken.
 * @returns `undefined` when none is near: more than a third of the letters would differ.
 */
export function nearestName(name: string, known: Iterable<string>): string | undefined {
  const written = plain(name);
  if (written === "" || written.length > LONGEST) return undefined;
  let best: string | undefined;
  let least = Math.floor(written.length / 3) + 1;
  for (const candidate of known) {
    const distance = editDistance(written, plain(candidate));
    if (distance >= least) continue;
    best = candidate;
    least = distance;
  }
  return best;
}

function plain(name: string): string {
  return name.toLowerCase().replace(/[-_.\s]/g, "");
}

/** Number of single edits between two texts, neighbours that changed places being one. */
function editDistance(from: string, to: string): number {
  let before: number[] = [];
  let above = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let row = 1; row <= from.length; row++) {
    const current = [row];
    for (let column = 1; column <= to.length; column++) {
      const equal = from[row - 1] === to[column - 1];
      let cost = Math.min(
        above[column]! + 1,
        current[column - 1]! + 1,
        above[column - 1]! + (equal ? 0 : 1),
      );
      const swapped = row > 1 && column > 1 && from[row - 1] === to[column - 2] &&
        from[row - 2] === to[column - 1];
      if (swapped) cost = Math.min(cost, before[column - 2]! + 1);
      current.push(cost);
    }
    before = above;
    above = current;
  }
  return above[to.length]!;
}
