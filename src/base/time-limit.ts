/** Time limits for what may be kept from running: a stopwatch that stands still meanwhile. */

/** How often it is looked whether time passes. */
const LOOK_MS = 100;

/**
 * Calls back once what is limited has had its time.
 * @param limitMs milliseconds; 0: without limit
 * @param mayRun false while what is limited is kept from running (its container is paused): that
 *   time does not count. Must not throw
 * @returns stops it
 */
export function startTimeLimit(limitMs: number, mayRun: () => boolean, onOver: () => void): () => void {
  if (limitMs <= 0) return () => undefined;
  let passedMs = 0;
  let beforeMs = performance.now();
  const next = (): NodeJS.Timeout => setTimeout(look, Math.min(LOOK_MS, Math.ceil(limitMs - passedMs)));
  const look = (): void => {
    const nowMs = performance.now();
    if (mayRun()) passedMs += nowMs - beforeMs;
    beforeMs = nowMs;
    if (passedMs >= limitMs) onOver();
    else timer = next();
  };
  let timer = next();
  return () => clearTimeout(timer);
}
