/**
 * Brings exit reports of the keeper to the processes they are about.
 *
 * Init and execs are started by the OCI runtime, so their pids are known only after it has
 * returned, and they may have ended by then.
 * INVARIANT: while any start is under way (`begin`), reports that nobody expects are kept,
 * unacknowledged, so that `adopt` finds them; when none is, they are strangers (orphans of the
 * containers) and are forgotten.
 */
import { Code, codeOf, LaminaError } from '../base/index.js';
import type { KeeperLink } from './keeper-link.js';
import type { ExitReport } from './keeper-messages.js';

/**
 * Gets the exit of one process, at most once. Must record it before returning: the keeper then
 * forgets it.
 */
export type ExitHandler = (report: ExitReport) => void;

/** A process that has its name in the keeper, and is held if there was room for that. */
export interface AdoptedProcess {
  readonly pid: number;
  readonly pidfd: number | undefined;
}

export class ExitRouter {
  readonly #link: KeeperLink;
  /** name → handler; removed by the exit or `forget`. */
  readonly #handlers = new Map<string, ExitHandler>();
  /**
   * Reports that nobody has claimed yet, in order; a pid may be there twice. Emptied when no start
   * is under way.
   */
  readonly #unclaimed = new Set<ExitReport>();
  #starts = 0;

  constructor(link: KeeperLink) {
    this.#link = link;
  }

  /** Marks that a start is under way, until the result is disposed of. */
  begin(): Disposable {
    this.#starts += 1;
    let open = true;
    return {
      [Symbol.dispose]: () => {
        if (!open) return;
        open = false;
        this.#starts -= 1;
        if (this.#starts === 0) this.#forgetStrangers();
      },
    };
  }

  /**
   * Ties a handler to a child the runtime has just started.
   * @returns the held process, without a pidfd where there is no room for one; or undefined when it
   *   has ended already: the handler has then been called
   * @throws LaminaError DataLoss when the pid is no child of the keeper and never was, or another's
   */
  async adopt(pid: number, name: string, handler: ExitHandler): Promise<AdoptedProcess | undefined> {
    this.#handlers.set(name, handler);
    try {
      const held = await this.#link.children.adopt(pid, name);
      // Reports kept under this pid were of earlier processes.
      for (const report of this.#of(pid, name)) this.#forget(report);
      return held;
    } catch (error) {
      if (codeOf(error) === Code.ResourceExhausted) {
        for (const report of this.#of(pid, name)) this.#forget(report);
        return { pid, pidfd: undefined };
      }
      this.#handlers.delete(name);
      if (codeOf(error) !== Code.NotFound) throw error;
      // Of several the last: the others had ended before this one could get their pid.
      const report = this.#of(pid, name).at(-1);
      if (report === undefined) {
        const why = `the runtime has written down process ${pid}, which is no new child of the keeper`;
        throw new LaminaError(Code.DataLoss, why, { subject: name, cause: error });
      }
      handler(report);
      this.#forget(report);
      return undefined;
    }
  }

  /** Ties a handler to a name that a predecessor gave. */
  expect(name: string, handler: ExitHandler): void {
    this.#handlers.set(name, handler);
  }

  forget(name: string): void {
    this.#handlers.delete(name);
  }

  /** Takes a report from the keeper. */
  deliver(report: ExitReport): void {
    const handler = report.name === '' ? undefined : this.#handlers.get(report.name);
    if (handler !== undefined) {
      this.#handlers.delete(report.name);
      handler(report);
      this.#link.acknowledge(report.seq);
    } else if (this.#starts > 0) {
      // With a name, too: a predecessor may have come to give it, and not to record the pid.
      this.#unclaimed.add(report);
    } else {
      this.#link.acknowledge(report.seq);
    }
  }

  /**
   * Unclaimed reports that may be of a process with this pid and name: not those that name another.
   */
  #of(pid: number, name: string): ExitReport[] {
    return [...this.#unclaimed].filter((report) => report.pid === pid && (report.name === '' || report.name === name));
  }

  #forget(report: ExitReport): void {
    this.#unclaimed.delete(report);
    this.#link.acknowledge(report.seq);
  }

  #forgetStrangers(): void {
    for (const report of this.#unclaimed) this.#forget(report);
  }
}
