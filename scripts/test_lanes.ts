/** Runs pieces of work beside each other, and those alone that cannot bear company. */

/** Line of a test file that measures or counts what belongs to the whole machine, and why. */
const ALONE = /^\/\/ Runs alone: \S/m;

/**
 * Tells whether a test file asks to be run while no other is.
 *
 * @param source Text of the file.
 */
export function runsAlone(source: string): boolean {
  return ALONE.test(source);
}

/** Choices of {@linkcode inLanes}. */
export interface LaneOptions<T> {
  /** How many may run at the same time, at least 1. */
  readonly lanes: number;
  readonly isAlone: (item: T) => boolean;
}

/**
 * Does the work for each item: for most of them in their order, in several lanes; then for those that
 * must be alone, one after the other.
 *
 * @param work Its failure ends all: no other item is begun.
 */
export async function inLanes<T>(
  items: readonly T[],
  { lanes, isAlone }: LaneOptions<T>,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const shared = items.filter((item) => !isAlone(item));
  const lane = async () => {
    for (let item = shared.shift(); item !== undefined; item = shared.shift()) {
      try {
        await work(item);
      } catch (error) {
        shared.length = 0;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: lanes }, lane));
  for (const item of items.filter(isAlone)) await work(item);
}
