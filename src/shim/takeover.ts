/**
 * What a new engine does with one container its predecessor knew: holds the living processes again,
 * and finds out how far the steps came that were under way. How a whole session is put back
 * together is in recovery.ts.
 */
import { LaminaError, type Logger, messageOf } from '../base/index.js';
import { bundlePaths, type Runc, readPidFile } from '../oci/index.js';
import type { ContainerCgroup } from './container-cgroup.js';
import type { ContainerContext } from './context.js';
import type { Execs } from './execs.js';
import { connectTerminal, type OpenIoOptions } from './io/open.js';
import { ioPrefix, type LeftStreams, ProcessIo } from './io/process-io.js';
import type { Ledger } from './ledger.js';
import { ExecProcess } from './process/exec.js';
import { type Exit, nowNs, type TrackedProcess, UNKNOWN_EXIT_CODE } from './process/tracked.js';
import { type ContainerRecord, type ExecRecord, fromExitRecord, type ProcessRecord } from './record.js';
import * as events from './task-events.js';

/** What a takeover needs of its container. */
export interface TakeoverHost {
  readonly context: ContainerContext;
  readonly log: Logger;
  readonly id: string;
  readonly bundle: string;
  readonly runc: Runc;
  readonly init: TrackedProcess;
  readonly execs: Execs;
  readonly cgroup: ContainerCgroup;
  readonly ledger: Ledger;
  /** What the keeper calls a process in its exit report. */
  exitName(execId: string): string;
  ioOptions(execId: string): OpenIoOptions;
  onReaped(process: TrackedProcess, exit: Exit): void;
}

export class Takeover {
  readonly #host: TakeoverHost;
  /** Init's start was under way. */
  readonly #isStarting: boolean;
  /** All processes were being signaled: if they are frozen, it is for that. */
  readonly #isSignaling: boolean;
  /** Init was reaped under the predecessor, which did not come to announce it. */
  readonly unannounced: Exit | undefined;

  /** Puts the processes of a record back. Nothing is waited for or asked yet. */
  constructor(host: TakeoverHost, record: ContainerRecord, left: LeftStreams) {
    this.#host = host;
    this.#isStarting = record.step === 'start' && record.state !== 'restorable';
    this.#isSignaling = record.isSignaling === true && record.state !== 'paused' && record.state !== 'pausing';
    this.#restoreProcess(host.init, '', record.init, left);
    for (const [execId, exec] of Object.entries(record.execs)) this.#restoreExec(execId, exec, left);
    this.unannounced = host.init.exit === undefined ? host.init.reaped : undefined;
  }

  /** Holds all living processes by pidfd, or learns that they have ended. */
  async attach(): Promise<void> {
    const { init, execs, cgroup } = this.#host;
    // Before a Kill that is repeated, which takes what is frozen for paused.
    if (this.#isSignaling) await cgroup.endSignaling();
    const living = [init, ...execs].filter(({ pid, reaped }) => pid !== 0 && reaped === undefined);
    await Promise.all(living.map((process) => this.#hold(process)));
  }

  /** Resolves what was under way, once `attached`, and records it. */
  async resolveSteps(attached: Promise<void>): Promise<void> {
    const { context, id, runc, init, execs, cgroup, ledger } = this.#host;
    using _starting = context.exits.begin();
    const starting = [...execs].filter((exec) => exec.step === 'start');
    if (this.#isStarting || starting.length > 0) {
      await context.link.children.inheritedRuns(id, context.config.timeouts.runtimeMs, () => cgroup.mayRun);
    }
    await attached;
    const isStarted = this.#isStarting && (await runc.state(id)).status !== 'created';
    if (init.pid !== 0) await init.io?.startRelays(true);
    for (const exec of starting) await this.#resolveExecStart(exec);
    for (const exec of execs) if (exec.exit === undefined && exec.reaped !== undefined) execs.reaped(exec, exec.reaped);
    if (isStarted) {
      ledger.state = 'running';
      context.publish(events.taskStart(id, init.pid));
    }
    if (ledger.state === 'pausing' && init.reaped === undefined) await this.#finishPause();
    ledger.step = undefined;
    ledger.save();
    if (ledger.state !== 'restorable') init.io?.startRecorded();
    for (const exec of execs) if (exec.state !== 'created') exec.io?.startRecorded();
  }

  /** The client may be gone, and nobody may ask for it again. */
  async #finishPause(): Promise<void> {
    const { context, id, log, cgroup, ledger } = this.#host;
    try {
      await cgroup.pause();
      if (ledger.moveFrom('pausing', 'paused')) context.publish(events.taskPaused(id));
    } catch (error) {
      ledger.moveFrom('pausing', 'running');
      log.warn({ error: messageOf(error) }, 'a pause that a predecessor had begun');
    }
  }

  #restoreExec(execId: string, record: ExecRecord, left: LeftStreams): void {
    const spec = left.specs.get(execId) ?? { cwd: '/' };
    const exec = new ExecProcess(execId, spec instanceof LaminaError ? { cwd: '/' } : spec, record.stdio);
    if (spec instanceof LaminaError) exec.unreadable = spec;
    exec.state = record.state;
    exec.failed = record.failed;
    exec.step = record.step;
    this.#restoreProcess(exec, execId, record, left);
    this.#host.execs.restore(exec);
  }

  #restoreProcess(process: TrackedProcess, execId: string, record: ProcessRecord, left: LeftStreams): void {
    const { context, id, exitName, onReaped } = this.#host;
    process.io = ProcessIo.restore(context.link, ioPrefix(id, execId), left);
    process.pid = record.pid;
    process.reaped = fromExitRecord(record.reaped);
    const exit = fromExitRecord(record.exit);
    if (exit !== undefined) process.settle(exit);
    else if (process.reaped !== undefined) process.io.reaped(true);
    else if (process.pid !== 0 && process.reaped === undefined) {
      context.exits.expect(exitName(execId), (report) => onReaped(process, report));
    }
  }

  async #hold(process: TrackedProcess): Promise<void> {
    const { context, log, exitName, onReaped } = this.#host;
    const name = exitName(process instanceof ExecProcess ? process.id : '');
    try {
      const held = await context.exits.adopt(process.pid, name, (report) => onReaped(process, report));
      if (held !== undefined) {
        process.hold(held.pid, held.pidfd, () => context.link.children.adopt(held.pid, name));
      }
    } catch (error) {
      if (process.reaped !== undefined) return;
      log.error({ pid: process.pid, error: messageOf(error) }, 'the exit of a process is not known');
      onReaped(process, { code: UNKNOWN_EXIT_CODE, timeNs: nowNs() });
    }
  }

  async #resolveExecStart(exec: ExecProcess): Promise<void> {
    const { log, bundle, execs, ledger } = this.#host;
    try {
      exec.pid = readPidFile(bundlePaths(bundle).execPid(exec.id));
    } catch (error) {
      // It was not run: the Start request, which the keeper replays, does it.
      log.debug({ exec: exec.id, error: messageOf(error) }, 'the exec was not run yet');
      exec.step = undefined;
      return;
    }
    await this.#hold(exec);
    await this.#reconnectTerminal(exec);
    await exec.io?.startRelays(true);
    // Not before: whatever else is recorded meanwhile, were this engine to die it must not look as
    // if the exec had never been run.
    exec.step = undefined;
    execs.resume(exec);
    ledger.save();
  }

  /**
   * The runtime has sent the terminal to a socket that the keeper held, unless the predecessor had
   * received it.
   */
  async #reconnectTerminal({ id, io, stdio }: ExecProcess): Promise<void> {
    if (!stdio.terminal || io === undefined) return;
    using socket = io.takeConsoleSocket();
    try {
      const received = io.console === undefined ? socket?.receive() : undefined;
      // The runtime has ended: what it sent has been sent.
      socket?.takeNow();
      const master = io.console ?? (await received)?.fd;
      if (master !== undefined) await connectTerminal(io, master, stdio, this.#host.ioOptions(id));
    } catch (error) {
      this.#host.log.error({ exec: id, error: messageOf(error) }, 'the terminal of a process is lost');
    }
  }
}
