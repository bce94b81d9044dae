/**
 * What one keeper makes an engine throw ends the session of that keeper and nothing else: one
 * engine serves every container of the node.
 *
 * All that is done for a keeper begins in `run`: taking its messages, and so each timer, promise
 * and watched descriptor that follows from one. Node carries the boundary along, and what nobody
 * has caught is given to the boundary it came from (`claim`) before the process would end of it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';

const current = new AsyncLocalStorage<Boundary>();

export class Boundary {
  readonly #onFailure: (error: unknown) => void;
  #hasFailed = false;

  /** @param onFailure ends what is inside; called once, with the first error, and must not throw */
  constructor(onFailure: (error: unknown) => void) {
    this.#onFailure = onFailure;
  }

  /** Runs a step inside, and whatever it begins. */
  run<T>(step: () => T): T {
    return current.run(this, step);
  }

  /**
   * To be asked about what nobody has caught, while that is handled.
   * @returns false if it came from no boundary: then it is the process's own
   */
  static claim(error: unknown): boolean {
    const boundary = current.getStore();
    if (boundary === undefined) return false;
    // What else breaks in there while it ends is a consequence.
    if (!boundary.#hasFailed) {
      boundary.#hasFailed = true;
      boundary.#onFailure(error);
    }
    return true;
  }
}
