/**
 * One container: its init, its execs, its cgroup, and what may be done with them.
 *
 * INVARIANTS
 * - Steps that move init's state run one after the other in `#queue`; nothing that answers State,
 *   Pids, Stats or Wait ever waits there.
 * - Events of a container are published in the order create, start, (exec-added, exec-started,
 *   exit)*, exit, delete; init's exit comes after the exits of all execs that were started, and
 *   never before the end of a create or start that is under way.
 * - An exit is announced when the process's readers have taken what it wrote
 *   (`ProcessIo.outputRead`), but not later than `read_ms`: they may close their FIFOs when they
 *   hear of it. Until then the process is `reaped`, and running to those who ask.
 * - Before and after each step the record is in the keeper (`Ledger.save`), so that a successor
 *   engine knows what was begun. An event is queued before the record says that it was: a death in
 *   between doubles an event and never loses one.
 */
import { join } from 'node:path';
import type { Any, Mount, runc } from '../api/index.js';
import { Code, codeOf, createDeferred, LaminaError, type Logger, messageOf, SerialQueue } from '../base/index.js';
import { bundlePaths, Runc, RuncError } from '../oci/index.js';
import { type RunWork, SIGKILL, unmountRecursive } from '../sys/index.js';
import { checkpoint, restoring } from './checkpoint.js';
import { ContainerCgroup } from './container-cgroup.js';
import type { ContainerContext } from './context.js';
import { Creation } from './creation.js';
import { Execs } from './execs.js';
import { InitExit } from './init-exit.js';
import type { OpenIoOptions } from './io/open.js';
import { ioPrefix, type LeftStreams, type ProcessIo } from './io/process-io.js';
import type { StdioRequest } from './io/stdio.js';
import { keeperWork } from './keeper-work.js';
import { Ledger } from './ledger.js';
import { ExecProcess } from './process/exec.js';
import { launch, type RunRuntime } from './process/launch.js';
import { type InitState, requireInit } from './process/state.js';
import { type Exit, TrackedProcess } from './process/tracked.js';
import { type ContainerRecord, type ContainerSettings, settingsOf } from './record.js';
import { Takeover } from './takeover.js';
import * as events from './task-events.js';

/**
 * How long Delete waits for the exit report of an init that `runc delete` should have killed, and
 * then of one that it has killed itself.
 */
const DELETED_EXIT_MS = 1_000;
const KILLED_EXIT_MS = 1_000;

/** How long State waits for a start under way. */
const STATE_WAIT_MS = 1_000;

export class Container {
  readonly settings: ContainerSettings;
  readonly init: TrackedProcess;
  readonly execs: Execs;
  readonly #context: ContainerContext;
  readonly #log: Logger;
  readonly #runc: Runc;
  readonly #queue = new SerialQueue();
  readonly #cgroup: ContainerCgroup;
  /** Does what may take long. */
  readonly #work: RunWork;
  readonly #ledger: Ledger;
  readonly #initExit: InitExit;
  readonly #creation: Creation;
  /** For a container that a predecessor engine knew. */
  #takeover: Takeover | undefined;
  /** After a restore: all living processes are held by pidfd again. */
  #attached: Promise<void> = Promise.resolve();
  /** Settles, after a restore, when the steps a predecessor had begun are resolved. */
  readonly #resolved = createDeferred<void>();

  constructor(context: ContainerContext, settings: ContainerSettings, stdio: StdioRequest) {
    this.#context = context;
    this.settings = settings;
    this.init = new TrackedProcess(stdio);
    this.#log = context.log.child({ container: settings.id });
    this.#runc = new Runc({
      spawner: context.link.children,
      binary: settings.options.binaryName,
      root: this.#runtimeRoot,
      log: bundlePaths(settings.bundle).runtimeLog,
      systemdCgroup: settings.systemdCgroup,
      debug: context.debug,
      cwd: settings.bundle,
      mayRun: () => this.#cgroup.mayRun,
      timeoutMs: context.config.timeouts.runtimeMs,
    });
    const log = this.#log;
    const onOom = (): void => {
      context.publish(events.taskOom(settings.id));
      // Only now may a successor take it for told.
      queueMicrotask(() => this.#ledger.save());
    };
    this.#work = keeperWork(context.link.children, settings.id);
    this.#cgroup = new ContainerCgroup({
      settings,
      runc: this.#runc,
      log,
      onOom,
      save: () => this.#ledger.saveNow(),
      work: this.#work,
      limitsMs: context.config.timeouts.runtimeMs,
    });
    this.execs = new Execs({
      context,
      containerId: settings.id,
      bundle: settings.bundle,
      runc: this.#runc,
      requireExecAllowed: () => requireInit(this.#ledger.state, 'exec'),
      initIsReaped: () => this.init.reaped !== undefined,
      launch: (exec, run) => this.#launch(exec, exec.id, run),
      save: () => this.#ledger.save(),
    });
    const { init, execs } = this;
    const cgroup = this.#cgroup;
    this.#ledger = new Ledger({ link: context.link, log, settings, init, cgroup, execs: () => execs });
    const ledger = this.#ledger;
    this.#initExit = new InitExit({ context, log, settings, init, execs, cgroup, ledger });
    this.#creation = new Creation({
      ...{ context, log, settings, runc: this.#runc, init, initExit: this.#initExit, cgroup, ledger },
      runtimeRoot: this.#runtimeRoot,
      launch: (run) => this.#launch(init, '', run),
    });
  }

  get id(): string {
    return this.settings.id;
  }

  get state(): InitState {
    return this.#ledger.state;
  }

  /**
   * The process a request means: an exec, or init for the empty id.
   * @throws LaminaError NotFound
   */
  process(execId: string): TrackedProcess {
    return execId === '' ? this.init : this.execs.get(execId);
  }

  /**
   * Runs `runc create` and announces the container. After a failure, `discard` removes what is
   * left. A container from a checkpoint is only prepared.
   */
  create(rootfs: readonly Mount[]): Promise<void> {
    return this.#creation.run(rootfs);
  }

  /**
   * Lets init run, or restores it from the checkpoint.
   * @param isRepeat of a request whose answer a predecessor engine did not come to send: what it
   *   has done is not done again. The same holds for the other steps that take this.
   */
  start(isRepeat: boolean): Promise<void> {
    return this.#queue.run(async () => {
      if (isRepeat && this.#ledger.state !== 'created' && this.#ledger.state !== 'restorable') return;
      requireInit(this.#ledger.state, 'start');
      const settled = createDeferred<void>();
      this.#initExit.announceAfter(settled.promise);
      this.init.starting = settled.promise;
      this.#ledger.step = 'start';
      this.#ledger.save();
      this.#cgroup.holdOoms();
      try {
        if (this.#ledger.state === 'restorable') await this.#restore();
        else await this.#runc.start(this.id);
        this.#ledger.state = 'running';
        this.#context.publish(events.taskStart(this.id, this.init.pid));
      } catch (error) {
        this.#endHalfStarted(error);
        throw error;
      } finally {
        this.#cgroup.tellOoms();
        this.#ledger.step = undefined;
        this.#ledger.save();
        this.init.io?.startRecorded();
        settled.resolve();
      }
    });
  }

  isStarting(process: TrackedProcess): boolean {
    return (process instanceof ExecProcess ? process.step : this.#ledger.step) === 'start';
  }

  /**
   * Waits for the start of a process that is under way, so that nobody who has seen the process do
   * something is told that it was not started; but for so long only that the daemon, which gives a
   * State 2 s, gets an answer while a runtime hangs.
   */
  async startSettled(process: TrackedProcess): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const enough = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, STATE_WAIT_MS);
    });
    await Promise.race([process.starting ?? this.#resolved.promise, enough]);
    clearTimeout(timer);
  }

  /**
   * A start was to happen and its runtime was killed: whether init runs now nobody can say, and the
   * client was told that it does not.
   */
  #endHalfStarted(error: unknown): void {
    if (!(error instanceof RuncError) || error.signal === undefined) return;
    if (this.init.pid === 0 || this.init.reaped !== undefined) return;
    this.#log.error({ pid: this.init.pid, error: messageOf(error) }, 'start was interrupted: killing init');
    this.init.signal(SIGKILL).catch((failure: unknown) => {
      // It has ended in this moment.
      if (codeOf(failure) !== Code.NotFound) this.#log.error({ error: messageOf(failure) }, 'kill init');
    });
  }

  /** Runs an exec that was added. */
  async startExec(execId: string, isRepeat: boolean): Promise<void> {
    if (this.#takeover !== undefined) await this.#resolved.promise;
    if (isRepeat && this.execs.get(execId).state !== 'created') return;
    await this.execs.start(execId);
  }

  pause(isRepeat: boolean): Promise<void> {
    return this.#queue.run(async () => {
      if (isRepeat && this.#ledger.state === 'paused') return;
      requireInit(this.#ledger.state, 'pause');
      this.#ledger.state = 'pausing';
      this.#ledger.saveNow();
      try {
        await this.#cgroup.pause();
      } catch (error) {
        if (this.#ledger.moveFrom('pausing', 'running')) this.#ledger.save();
        throw error;
      }
      if (!this.#ledger.moveFrom('pausing', 'paused')) return;
      this.#context.publish(events.taskPaused(this.id));
      this.#ledger.save();
    });
  }

  resume(isRepeat: boolean): Promise<void> {
    return this.#queue.run(async () => {
      if (isRepeat && this.#ledger.state === 'running') return;
      requireInit(this.#ledger.state, 'resume');
      await this.#cgroup.resume();
      if (!this.#ledger.moveFrom('paused', 'running')) return;
      this.#context.publish(events.taskResumed(this.id));
      this.#ledger.save();
    });
  }

  /** @param resources OCI LinuxResources, JSON */
  update(resources: Uint8Array): Promise<void> {
    return this.#queue.run(async () => {
      requireInit(this.#ledger.state, 'update');
      await this.#cgroup.update(resources);
      this.#ledger.save();
    });
  }

  checkpoint(options: runc.CheckpointOptions, path: string): Promise<void> {
    return this.#queue.run(async () => {
      requireInit(this.#ledger.state, 'checkpoint');
      await checkpoint(this.#runc, this.settings, options, path);
    });
  }

  /**
   * Signals init, all processes of the container, or an exec.
   * @throws LaminaError NotFound when there is nobody to signal any more
   */
  async kill(execId: string, signal: number, all: boolean, isRepeat: boolean): Promise<void> {
    await this.#attached;
    // Probably by this very signal, which the predecessor had sent.
    if (isRepeat && this.process(execId).reaped !== undefined) return;
    if (execId !== '') {
      const exec = this.execs.get(execId);
      await exec.starting;
      if (exec.pid === 0) throw new LaminaError(Code.FailedPrecondition, 'process not created: failed precondition');
      await exec.signal(signal, 'exec kill error: ');
      return;
    }
    requireInit(this.#ledger.state, 'kill');
    if (this.init.pid === 0) throw new LaminaError(Code.NotFound, 'process already finished: not found');
    if (signal === SIGKILL) this.#initExit.wasKillAsked = true;
    if (all && this.init.reaped === undefined) await this.#cgroup.signalAll(signal);
    else await this.init.signal(signal);
    await this.#cgroup.letDie(signal);
  }

  /**
   * Ends a process's input once the clients have closed theirs. A client may have read its own
   * input to the end while the exec is still being started, as soon as the FIFO has a reader; its
   * streams are not known before the start has ended.
   * @throws LaminaError NotFound
   */
  async closeStdin(execId: string): Promise<void> {
    if (execId !== '') {
      // A start that is repeated for a predecessor engine begins first: its request came first.
      if (this.#takeover !== undefined) await this.#resolved.promise;
      await this.execs.get(execId).starting;
    }
    this.process(execId).io?.closeStdin();
  }

  /** Host pids of all processes of the container, with the exec each is the main process of. */
  async pids(): Promise<{ pid: number; execId: string | undefined }[]> {
    const pids = this.init.pid === 0 ? [] : await this.#cgroup.pids(this.init.reaped === undefined);
    const execOf = new Map([...this.execs].map((exec) => [exec.pid, exec.id]));
    return pids.map((pid) => ({ pid, execId: execOf.get(pid) }));
  }

  /** @throws LaminaError NotFound when the container never had a cgroup */
  stats(): Any {
    return this.#cgroup.stats();
  }

  /**
   * Removes init and with it the container.
   * @returns its exit; undefined if it never ran
   */
  delete(): Promise<Exit | undefined> {
    return this.#queue.run(async () => {
      // Asked again by somebody who has not waited for the answer.
      if (this.#ledger.state === 'deleted') return this.init.exit;
      requireInit(this.#ledger.state, 'delete');
      this.#ledger.step = 'delete';
      this.#ledger.save();
      const drained = this.init.io?.drain(this.#context.config.timeouts.drainMs);
      const deleted = this.#ledger.state === 'restorable' ? undefined : this.#deleteFromRuntime();
      const unmounted = this.#unmountEarly();
      await deleted;
      await drained;
      await (unmounted ?? this.#unmount());
      this.#ledger.state = 'deleted';
      const { pid, exit } = this.init;
      this.#context.publish(events.taskDelete(this.id, pid, exit ?? { code: 0, timeNs: 0n }));
      this.#context.deleted.remember(this.id, { pid, exit });
      this.dispose();
      return exit;
    });
  }

  /** A container as a predecessor engine left it. `resolve` is the second half. */
  static restore(context: ContainerContext, record: ContainerRecord, left: LeftStreams): Container {
    const container = new Container(context, settingsOf(record), record.init.stdio);
    container.#ledger.restore(record);
    container.#takeover = container.#takeOver(record, left);
    // From now on: exit reports are handed out before `resolve`.
    container.#initExit.announceAfter(container.#resolved.promise);
    if (record.step === 'start') container.#cgroup.holdOoms();
    container.#cgroup.restore(record);
    return container;
  }

  /**
   * Holds the processes again, and finds out how far the predecessor's steps came.
   * @returns settles when that is known; never rejects
   */
  async resolve(): Promise<void> {
    const takeover = this.#takeover;
    if (takeover === undefined) return;
    this.#attached = takeover.attach();
    const work = this.#queue.run(async () => {
      try {
        await takeover.resolveSteps(this.#attached);
      } finally {
        this.#cgroup.tellOoms();
      }
    });
    if (takeover.unannounced !== undefined) this.#initExit.announce(takeover.unannounced);
    try {
      await work;
    } catch (error) {
      this.#log.error({ error: messageOf(error) }, 'resolve what a predecessor had begun');
    }
    this.#resolved.resolve();
  }

  /** Undoes a create that failed. */
  async discard(): Promise<void> {
    this.#ledger.close();
    await this.#creation.undo();
    this.dispose();
  }

  /**
   * Undoes a create that a predecessor had begun, for another one.
   * @returns the streams that one goes on with, and the promise of the end
   */
  abandon(): { readonly streams: ProcessIo | undefined; readonly done: Promise<void> } {
    const streams = this.init.io?.carryOn();
    this.init.io = undefined;
    return { streams, done: this.discard() };
  }

  /** Lets go of everything in this process and in the keeper. */
  dispose(): void {
    this.#ledger.close();
    this.execs.dispose();
    this.init.dispose();
    this.#cgroup.close();
    this.#context.exits.forget(this.#exitName(''));
    this.#ledger.drop();
  }

  get #runtimeRoot(): string {
    return join(this.settings.options.root, this.#context.namespace);
  }

  async #launch(process: TrackedProcess, execId: string, run: RunRuntime): Promise<void> {
    await launch(this.#context, {
      process,
      name: this.#exitName(execId),
      io: this.#ioOptions(execId),
      run,
      onReaped: (report) => this.#reaped(process, report),
    });
  }

  /** From its checkpoint. */
  async #restore(): Promise<void> {
    await this.#launch(this.init, '', restoring(this.#runc, this.settings));
    if (this.init.reaped === undefined) this.#cgroup.find(this.init.pid);
  }

  /** The keeper has reaped a process of ours. Runs at any time, also while a start is under way. */
  #reaped(process: TrackedProcess, report: Exit & { readonly isUnread?: boolean }): void {
    const exit: Exit = { code: report.code, timeNs: report.timeNs };
    process.reaped = exit;
    process.io?.reaped(report.isUnread ?? true);
    if (this.#ledger.isClosed) return;
    this.#ledger.save();
    if (process instanceof ExecProcess) this.execs.reaped(process, exit);
    else this.#initExit.reaped(exit);
  }

  #unmount(): Promise<void> {
    return unmountRecursive(bundlePaths(this.settings.bundle).rootfs, { work: this.#work });
  }

  /**
   * Beside the runtime's delete, which needs the root file system for poststop hooks only.
   * Undefined where it has to wait.
   */
  #unmountEarly(): Promise<void> | undefined {
    if (this.#ledger.state !== 'stopped' || this.settings.hasPoststopHooks !== false) return undefined;
    const unmounted = this.#unmount();
    // Awaited later, or not at all if the runtime's delete fails: the next Delete unmounts again.
    unmounted.catch(() => undefined);
    return unmounted;
  }

  async #deleteFromRuntime(): Promise<void> {
    try {
      this.#initExit.wasKillAsked = true;
      await this.#cgroup.prune();
      await this.#runc.delete(this.id);
    } catch (error) {
      if (!messageOf(error).includes('does not exist')) throw error;
      await this.#cgroup.removeLeft();
    }
    // Deleting a container that was only created kills its init: its exit is announced first.
    if (this.init.exit !== undefined || this.init.pid === 0) return;
    if (await this.#exits(DELETED_EXIT_MS)) return;
    this.#log.error({ pid: this.init.pid }, 'the runtime has deleted a container and left its init: killing it');
    await this.kill('', SIGKILL, true, false).catch((error: unknown) => {
      // It has ended in this moment.
      if (codeOf(error) !== Code.NotFound) throw error;
    });
    if (await this.#exits(KILLED_EXIT_MS)) return;
    throw new LaminaError(Code.DeadlineExceeded, `delete ${this.id}: init ${this.init.pid} does not end`, {
      subject: this.id,
    });
  }

  async #exits(withinMs: number): Promise<boolean> {
    return await this.init.wait(AbortSignal.timeout(withinMs)).then(
      () => true,
      () => false,
    );
  }

  #takeOver(record: ContainerRecord, left: LeftStreams): Takeover {
    const host = {
      context: this.#context,
      log: this.#log,
      id: this.id,
      bundle: this.settings.bundle,
      runc: this.#runc,
      init: this.init,
      execs: this.execs,
      cgroup: this.#cgroup,
      ledger: this.#ledger,
      exitName: (execId: string) => this.#exitName(execId),
      ioOptions: (execId: string) => this.#ioOptions(execId),
      onReaped: (process: TrackedProcess, exit: Exit) => this.#reaped(process, exit),
    };
    return new Takeover(host, record, left);
  }

  #exitName(execId: string): string {
    return `p/${this.id}/${execId}`;
  }

  #ioOptions(execId: string): OpenIoOptions {
    const { link, namespace, config } = this.#context;
    const { options, copyOutput } = this.settings;
    return {
      link,
      prefix: ioPrefix(this.id, execId),
      containerId: this.id,
      namespace,
      copy: copyOutput || execId !== '' || options.ioUid !== 0 || options.ioGid !== 0,
      uid: options.ioUid,
      gid: options.ioGid,
      loggerTimeoutMs: config.timeouts.loggerMs,
    };
  }
}
