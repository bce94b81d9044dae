/**
 * Waiting for conditions, never for time: every wait has a deadline and says what did not happen.
 */

const POLL_MS = 15;

/**
 * How long everything may take, on any machine: what never happens fails late, what happens late
 * does not fail.
 */
export const LATE_MS = 120_000;

export interface UntilOptions {
  /** How long to wait, default `LATE_MS`. */
  readonly deadlineMs?: number;
  /** Added to the error when the deadline passes: what was seen last. */
  readonly detail?: () => string;
}

/**
 * Polls until `probe` returns something other than false, null or undefined, and returns that.
 * @param what the condition in words, for the error
 * @throws Error when the deadline passes
 */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  options: UntilOptions = {},
): Promise<Exclude<T, false | null | undefined>> {
  const deadlineMs = options.deadlineMs ?? LATE_MS;
  // A test may set the clock.
  const end = performance.now() + deadlineMs;
  for (;;) {
    const value = await probe();
    if (value !== false && value !== null && value !== undefined) {
      return value as Exclude<T, false | null | undefined>;
    }
    if (performance.now() > end) {
      const detail = options.detail?.();
      throw new Error(`not within ${deadlineMs} ms: ${what}${detail === undefined ? '' : `\n${detail}`}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** Rejects when `promise` has not settled in time. */
export async function within<T>(what: string, deadlineMs: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${deadlineMs} ms: ${what}`)), deadlineMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
