/**
 * Making a container with the runtime, and undoing that: after a failure, or of what a predecessor
 * engine had begun.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Mount } from '../api/index.js';
import { createDeferred, type Logger, messageOf } from '../base/index.js';
import { type Runc, RuncError } from '../oci/index.js';
import type { ContainerCgroup } from './container-cgroup.js';
import type { ContainerContext } from './context.js';
import type { InitExit } from './init-exit.js';
import type { Ledger } from './ledger.js';
import type { RunRuntime } from './process/launch.js';
import type { TrackedProcess } from './process/tracked.js';
import type { ContainerSettings } from './record.js';
import * as events from './task-events.js';

/**
 * What the undoing gets at least: there is no second try. `delete --force` itself polls for up to
 * 10 s.
 */
const UNDO_MS = 15_000;

export interface CreationHost {
  readonly context: ContainerContext;
  readonly log: Logger;
  readonly settings: ContainerSettings;
  readonly runc: Runc;
  readonly init: TrackedProcess;
  readonly initExit: InitExit;
  readonly cgroup: ContainerCgroup;
  readonly ledger: Ledger;
  /** Where the runtime keeps what it knows of the containers of this namespace. */
  readonly runtimeRoot: string;
  launch(run: RunRuntime): Promise<void>;
}

export class Creation {
  readonly #host: CreationHost;
  /** The runtime was killed, by whomever. */
  #wasInterrupted = false;

  constructor(host: CreationHost) {
    this.#host = host;
  }

  /** Runs `runc create` and announces the container. One from a checkpoint is only prepared. */
  async run(rootfs: readonly Mount[]): Promise<void> {
    const { context, settings, init, initExit, ledger } = this.#host;
    const announced = createDeferred<void>();
    initExit.announceAfter(announced.promise);
    try {
      if (ledger.state !== 'restorable') await this.#create();
      const { id, bundle, checkpoint } = settings;
      context.publish(events.taskCreate(id, { bundle, rootfs, stdio: init.stdio, checkpoint, pid: init.pid }));
      ledger.step = undefined;
      ledger.save();
      init.io?.startRecorded();
    } catch (error) {
      this.#wasInterrupted = error instanceof RuncError && error.signal !== undefined;
      // Whatever becomes of its init, this container was never announced.
      if (ledger.state !== 'restorable') ledger.close();
      throw error;
    } finally {
      announced.resolve();
    }
  }

  /** Removes what the runtime has made of it; never rejects. */
  async undo(): Promise<void> {
    const { context, log, settings, runc, cgroup, ledger } = this.#host;
    if (!ledger.isFresh || ledger.step !== 'create') return;
    try {
      await context.link.children.inheritedRuns(settings.id, context.config.timeouts.runtimeMs, () => cgroup.mayRun);
      // A runtime that fails undoes what it did; one that was killed leaves its directory, and what
      // it had not noted there.
      const isLeft = this.#wasInterrupted || this.#isKnown();
      await runc.delete(settings.id, { force: true, timeoutMs: Math.max(context.config.timeouts.runtimeMs, UNDO_MS) });
      if (isLeft) await cgroup.removeLeft();
    } catch (error) {
      log.warn({ error: messageOf(error) }, 'remove the half-made container');
    }
  }

  async #create(): Promise<void> {
    const { settings, runc, init, cgroup, ledger, launch } = this.#host;
    ledger.isFresh = !this.#isKnown();
    ledger.step = 'create';
    ledger.save();
    const { id, bundle } = settings;
    const { noPivotRoot: noPivot, noNewKeyring } = settings.options;
    await launch((io) => runc.create(id, { bundle, noPivot, noNewKeyring, ...io }));
    if (init.reaped === undefined) cgroup.find(init.pid);
  }

  /** The runtime has a container of this id. */
  #isKnown(): boolean {
    return existsSync(join(this.#host.runtimeRoot, this.#host.settings.id));
  }
}
