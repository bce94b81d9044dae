/** When to try again: the pauses, and what Retry-After asks for. */
import { abortError, type RegistryError } from './errors.js';
import type { RetryPolicy } from './limits.js';

/** Dates of RFC 9110: `Sun, 06 Nov 1994 08:49:37 GMT`, the only form that is sent today. */
const DATE = /^(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/;

/**
 * Milliseconds that a Retry-After header asks for: seconds, or a date; undefined for anything else.
 * @param nowMs the time now, since the epoch
 */
export function parseRetryAfter(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  if (!DATE.test(text)) return undefined;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

/**
 * The pause before the next try, in milliseconds; undefined when there is none.
 * @param failed how many tries have failed, from 1
 * @param elapsedMs since the first of them
 * @param random 0 to 1: the pause is between half of the step and all of it
 */
export function pauseBefore(
  policy: RetryPolicy,
  error: Pick<RegistryError, 'isTransient' | 'retryAfterMs'>,
  failed: number,
  elapsedMs: number,
  random: number,
): number | undefined {
  if (!error.isTransient || failed >= policy.attempts) return undefined;
  const step = Math.min(policy.maxPauseMs, policy.baseMs * 2 ** Math.min(failed - 1, 30));
  const pause = Math.max(step * (0.5 + random / 2), error.retryAfterMs ?? 0);
  if (pause > policy.maxPauseMs || elapsedMs + pause > policy.totalMs) return undefined;
  return Math.round(pause);
}

/** Waits. @throws RegistryError `aborted` as soon as the signal is */
export async function sleep(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) throw abortError(signal);
  await new Promise<void>((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(abortError(signal));
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
