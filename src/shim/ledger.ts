/**
 * Where a container stands: init's state, the step that is under way, and the record of all of it
 * in the keeper.
 */
import { type Logger, messageOf } from '../base/index.js';
import type { ContainerCgroup } from './container-cgroup.js';
import type { KeeperLink } from './keeper-link.js';
import type { ExecProcess } from './process/exec.js';
import type { InitState } from './process/state.js';
import type { TrackedProcess } from './process/tracked.js';
import { type ContainerRecord, type ContainerSettings, type PendingStep, toContainerRecord } from './record.js';

export interface LedgerOptions {
  readonly link: KeeperLink;
  readonly log: Logger;
  readonly settings: ContainerSettings;
  readonly init: TrackedProcess;
  readonly cgroup: ContainerCgroup;
  readonly execs: () => Iterable<ExecProcess>;
}

export class Ledger {
  readonly #options: LedgerOptions;
  state: InitState;
  step: PendingStep | undefined;
  /**
   * The runtime knew no container of this id when create began: what it knows now is ours to
   * remove.
   */
  isFresh = false;
  #isClosed = false;

  constructor(options: LedgerOptions) {
    this.#options = options;
    this.state = options.settings.checkpoint === '' ? 'created' : 'restorable';
  }

  /** Nothing is recorded or announced any more. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Goes on with what a predecessor engine had recorded. */
  restore({ state, step, isFresh }: ContainerRecord): void {
    this.state = state;
    this.step = step;
    this.isFresh = isFresh;
  }

  /** Moves the state unless something else (an exit) has moved it meanwhile. */
  moveFrom(from: InitState, to: InitState): boolean {
    if (this.state !== from) return false;
    this.state = to;
    return true;
  }

  /** Records how things are. */
  save(): void {
    if (this.#isClosed) return;
    const { link, log, settings, init, cgroup, execs } = this.#options;
    try {
      const { state, step, isFresh } = this;
      const parts = { state, step, isFresh, ...cgroup.record, init, execs: execs() };
      link.put(`c/${settings.id}`, Buffer.from(JSON.stringify(toContainerRecord(settings, parts))));
    } catch (error) {
      // Without a record a successor would know less; dying of it would make one necessary.
      log.error({ error: messageOf(error) }, 'save the record');
    }
  }

  /** Records how things are before anything else is done. */
  saveNow(): void {
    this.save();
    this.#options.link.flush();
  }

  /** From now on nothing is recorded; what was recorded stays until `drop`. */
  close(): void {
    this.#isClosed = true;
  }

  /** Closes, and lets the keeper forget the container. */
  drop(): void {
    this.#isClosed = true;
    this.#options.link.del(`c/${this.#options.settings.id}`);
  }
}
