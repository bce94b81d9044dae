/**
 * What happens when init has ended: the exit is written down for the delete verb, what init has
 * left is ended, and once everything that has to come before it was told, the exit is announced.
 */
import { join } from 'node:path';
import { type Logger, messageOf, waitAtMost } from '../base/index.js';
import { writeFileAtomic } from '../oci/index.js';
import type { ContainerCgroup } from './container-cgroup.js';
import type { ContainerContext } from './context.js';
import type { Execs } from './execs.js';
import type { Ledger } from './ledger.js';
import type { Exit, TrackedProcess } from './process/tracked.js';
import type { ContainerSettings } from './record.js';
import * as events from './task-events.js';

/**
 * How long the news of init's end waits for the end of others: what it has left, execs. They end at
 * once unless something keeps them from it (sleeping in the kernel), and then for as long as that
 * does.
 */
const OTHERS_MS = 500;
/** The exit code of a process that SIGKILL ended. */
const SIGKILL_CODE = 137;

export interface InitExitHost {
  readonly context: ContainerContext;
  readonly log: Logger;
  readonly settings: ContainerSettings;
  readonly init: TrackedProcess;
  readonly execs: Execs;
  readonly cgroup: ContainerCgroup;
  readonly ledger: Ledger;
}

export class InitExit {
  readonly #host: InitExitHost;
  /** Init was to be killed by SIGKILL, if it was not by something else before. */
  wasKillAsked = false;
  #due: Promise<unknown> = Promise.resolve();

  constructor(host: InitExitHost) {
    this.#host = host;
  }

  /**
   * The exit is announced after this, however it ends: a create or start under way, the resolving
   * of a predecessor's steps.
   */
  announceAfter(step: Promise<void>): void {
    this.#due = Promise.allSettled([this.#due, step]);
  }

  /** The keeper has reaped init. */
  reaped(exit: Exit): void {
    this.#writeFile(exit);
    this.announce(exit);
  }

  /** Announces the exit in its time. */
  announce(exit: Exit): void {
    this.#announce(exit).catch((error) => this.#host.log.error({ error: messageOf(error) }, 'announce the exit'));
  }

  async #announce(exit: Exit): Promise<void> {
    const { context, settings, init, execs, cgroup, ledger } = this.#host;
    await this.#due;
    const { readMs } = context.config.timeouts;
    if (settings.sharesPidNamespace) await waitAtMost(cgroup.endLeftovers('kill'), OTHERS_MS);
    else if (ledger.state === 'paused' || ledger.state === 'pausing')
      await waitAtMost(cgroup.endLeftovers('thaw'), OTHERS_MS);
    cgroup.end({ pid: init.pid, wasKilled: exit.code === SIGKILL_CODE, wasKillAsked: this.wasKillAsked });
    // What has ended only now may have written after init was reaped.
    if (settings.sharesPidNamespace) init.io?.reaped(true);
    // An exec's exit waits for its readers itself.
    await Promise.all([waitAtMost(execs.idle(), readMs + OTHERS_MS), init.io?.outputRead(readMs)]);
    if (ledger.isClosed) return;
    ledger.state = 'stopped';
    init.settle(exit);
    context.publish(events.taskExit(settings.id, settings.id, init.pid, exit));
    ledger.save();
  }

  /** For the delete verb, which runs without an engine: the true exit status. */
  #writeFile(exit: Exit): void {
    const { settings, init, log } = this.#host;
    const content = {
      pid: init.pid,
      exitStatus: exit.code,
      exitedAtSeconds: Number(exit.timeNs / 1_000_000_000n),
      exitedAtNanos: Number(exit.timeNs % 1_000_000_000n),
    };
    try {
      writeFileAtomic(join(settings.bundle, 'lamina-exit.json'), JSON.stringify(content));
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'write the exit record: the delete verb will not know this exit');
    }
  }
}
