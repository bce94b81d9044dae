/**
 * What is done by code that is not ours ends in time: with a value, or with an error that says what
 * was late.
 */
import { Code, LaminaError } from '../base/index.js';
import type { Listing } from '../gc/index.js';

/** More than any node has; a listing without an end stops here. */
const LONGEST_LISTING = 5_000_000;

function late(what: string, limitMs: number): LaminaError {
  return new LaminaError(Code.DeadlineExceeded, `${what}: not within ${limitMs} ms`, { subject: what });
}

/**
 * Runs work with a deadline. What is late goes on unseen; its signal is aborted.
 * @param onSettled called when the work itself has ended, however late
 * @throws LaminaError DeadlineExceeded
 */
export async function within<T>(
  what: string,
  limitMs: number,
  work: (signal: AbortSignal) => T | Promise<T>,
  onSettled: () => void = () => undefined,
): Promise<T> {
  const abort = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      const error = late(what, limitMs);
      abort.abort(error);
      reject(error);
    }, limitMs);
  });
  const running = (async () => await work(abort.signal))();
  running.then(onSettled, onSettled);
  try {
    return await Promise.race([running, over]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * All of a listing, in time. Between two items of an iterable the clock is looked at: it may have
 * no end.
 */
export async function listed<T>(what: string, limitMs: number, listing: () => Listing<T>): Promise<T[]> {
  return await within(what, limitMs, async (signal) => {
    const given = await listing();
    const items: T[] = [];
    const add = (item: T): void => {
      if (items.push(item) > LONGEST_LISTING) {
        throw new LaminaError(Code.OutOfRange, `${what}: more than ${LONGEST_LISTING} answers`, { subject: what });
      }
    };
    const end = performance.now() + limitMs;
    if (Symbol.asyncIterator in given) {
      for await (const item of given) {
        // The caller has gone by then: this ends the listing.
        if (signal.aborted || performance.now() > end) throw late(what, limitMs);
        add(item);
      }
    } else {
      for (const item of given) {
        if (performance.now() > end) throw late(what, limitMs);
        add(item);
      }
    }
    return items;
  });
}
