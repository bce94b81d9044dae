/** Waiting that has an end. */

/**
 * Waits for a promise, whose work goes on behind it if it takes longer.
 * @returns undefined when the time was over first
 * @throws as the promise
 */
export async function waitAtMost<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const timeUp = new Promise<undefined>((resolve) => {
    timer = setTimeout(resolve, timeoutMs, undefined);
  });
  try {
    return await Promise.race([promise, timeUp]);
  } finally {
    clearTimeout(timer);
  }
}
