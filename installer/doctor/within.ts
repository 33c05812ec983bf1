/** A bound for whatever may hang: the doctor must answer while all is broken. */

/** Time was over. */
export class LateError extends Error {
  override readonly name = "LateError";
}

/**
 * Waits for something no longer than so many milliseconds.
 *
 * @throws {LateError} when that time is over.
 */
export async function within<T>(milliseconds: number, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new LateError(`no answer in ${milliseconds} ms`)),
      milliseconds,
    );
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
