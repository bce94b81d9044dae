/**
 * A longer timer fires at once in Node:
 * https://nodejs.org/api/timers.html#settimeoutcallback-delay-args
 */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/**
 * Calls `fire` after `ms` milliseconds, however many; returns what stops it. Does not keep the
 * process alive.
 */
export function startDeadline(ms: number, fire: () => void): () => void {
  const at = performance.now() + ms;
  let timer: NodeJS.Timeout;
  const arm = (): void => {
    const rest = at - performance.now();
    timer = setTimeout(rest > LONGEST_TIMER_MS ? arm : fire, Math.min(Math.max(rest, 0), LONGEST_TIMER_MS));
    timer.unref();
  };
  arm();
  return () => clearTimeout(timer);
}
