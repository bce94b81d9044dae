/**
 * Whose work a call-back is: Node carries an async context (AsyncLocalStorage) along with timers
 * and promises, but not through what multiplexes descriptors or files.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

// When the program is loaded, which is nobody's work.
const atLoad = AsyncLocalStorage.snapshot();

/**
 * Runs a step, and all that it begins, outside of any async context: for what all share and one
 * happens to open first.
 */
export function apart<T>(step: () => T): T {
  return atLoad(step);
}

/**
 * Ties a call-back to the work that it is made in. It never throws at its caller, who calls others
 * too: an error becomes an uncaught exception of that work.
 */
export function ownWork<A extends unknown[]>(callback: (...args: A) => void): (...args: A) => void {
  return AsyncLocalStorage.bind((...args: A): void => {
    try {
      callback(...args);
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  });
}
