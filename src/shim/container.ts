/**
 * One container: its init, its execs, its cgroup, and what may be done with them.
 *
 * INVARIANTS
 * - Steps that move init's state run one after the other in `#queue`; nothing that answers State, Pids, Stats or Wait ever waits there.
 * - Events of a container are published in the order create, start, (exec-added, exec-started, exit)*, exit, delete; init's exit comes after the exits of all
 *   execs that were started, and never before the end of a create or start that is under way.
 * - Before and after each step the record is in the keeper (`#save`), so that a successor engine knows what was begun. An event is queued before the
 *   record says that it was: a death in between doubles an event and never loses one.
 */
import { copyFileSync, existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Any, Mount, runc } from '../api/index.js';
import { Code, codeOf, createDeferred, LaminaError, type Logger, messageOf, SerialQueue } from '../base/index.js';
import { bundlePaths, Runc, RuncError, writeFileAtomic } from '../oci/index.js';
import { SIGKILL, unmountRecursive } from '../sys/index.js';
import type { ContainerContext } from './context.js';
import { Execs } from './execs.js';
import type { OpenIoOptions } from './io/open.js';
import { ioPrefix, type LeftStreams } from './io/process-io.js';
import type { StdioRequest } from './io/stdio.js';
import { removeLeftCgroup } from './left-cgroup.js';
import { Limits } from './limits.js';
import { ExecProcess } from './process/exec.js';
import { launch, type RunRuntime } from './process/launch.js';
import { type InitState, requireInit } from './process/state.js';
import { type Exit, TrackedProcess } from './process/tracked.js';
import { type ContainerRecord, type ContainerSettings, type PendingStep, toContainerRecord } from './record.js';
import { Takeover, type TakeoverHost } from './takeover.js';
import * as events from './task-events.js';
import { WatchedCgroup } from './watched-cgroup.js';

/** The exit code of a process that SIGKILL ended. */
const SIGKILL_CODE = 137;
/** How long Delete waits for the exit report of an init that `runc delete` has just killed. */
const KILLED_EXIT_MS = 5_000;

export class Container {
  readonly settings: ContainerSettings;
  readonly init: TrackedProcess;
  readonly execs: Execs;
  readonly #context: ContainerContext;
  readonly #log: Logger;
  readonly #runc: Runc;
  #limits: Limits;
  readonly #queue = new SerialQueue();
  #state: InitState;
  #step: PendingStep | undefined;
  #cgroup: WatchedCgroup | undefined;
  /** The runtime knew no container of this id when create began: what it knows now is ours to remove. */
  #isFresh = false;
  /** The runtime was killed during create, by whomever. */
  #wasInterrupted = false;
  #isDisposed = false;
  /** Init was to be killed by SIGKILL, if it was not by something else before. */
  #wasKillAsked = false;
  /** For a container that a predecessor engine knew. */
  #takeover: Takeover | undefined;
  /** Settles when the create or start under way has ended and was announced: init's exit waits for it. */
  #startSettled: Promise<void> = Promise.resolve();
  /** After a restore: all living processes are held by pidfd again. */
  #attached: Promise<void> = Promise.resolve();
  /** After a restore: the steps a predecessor had begun are resolved. */
  #resolved: Promise<void> = Promise.resolve();

  constructor(context: ContainerContext, settings: ContainerSettings, stdio: StdioRequest) {
    this.#context = context;
    this.settings = settings;
    this.init = new TrackedProcess(stdio);
    this.#state = settings.checkpoint === '' ? 'created' : 'restorable';
    this.#log = context.log.child({ container: settings.id });
    this.#runc = new Runc({
      spawner: context.link,
      binary: settings.options.binaryName,
      root: this.#runtimeRoot,
      log: bundlePaths(settings.bundle).runtimeLog,
      systemdCgroup: settings.systemdCgroup,
      debug: context.debug,
      timeoutMs: context.config.timeouts.runtimeMs,
    });
    this.#limits = new Limits(settings.bundle, undefined);
    this.execs = new Execs({
      context,
      containerId: settings.id,
      bundle: settings.bundle,
      runc: this.#runc,
      requireExecAllowed: () => requireInit(this.#state, 'exec'),
      initIsReaped: () => this.init.reaped !== undefined,
      launch: (exec, run) => this.#launch(exec, exec.id, run),
      save: () => this.#save(),
    });
  }

  get id(): string {
    return this.settings.id;
  }

  get state(): InitState {
    return this.#state;
  }

  /** The process a request means: an exec, or init for the empty id. @throws LaminaError NotFound */
  process(execId: string): TrackedProcess {
    return execId === '' ? this.init : this.execs.get(execId);
  }

  /**
   * Runs `runc create` and announces the container. After a failure, `discard` removes what is left.
   * A container from a checkpoint is only prepared.
   */
  async create(rootfs: readonly Mount[]): Promise<void> {
    const announced = createDeferred<void>();
    this.#startSettled = announced.promise;
    try {
      if (this.#state !== 'restorable') {
        this.#isFresh = !existsSync(join(this.#runtimeRoot, this.id));
        this.#step = 'create';
        this.#save();
        const { bundle, options } = this.settings;
        const { noPivotRoot: noPivot, noNewKeyring } = options;
        await this.#launch(this.init, '', (io) => this.#runc.create(this.id, { bundle, noPivot, noNewKeyring, ...io }));
        this.#watchCgroup();
      }
      const { bundle, checkpoint } = this.settings;
      const details = { bundle, rootfs, stdio: this.init.stdio, checkpoint, pid: this.init.pid };
      this.#context.publish(events.taskCreate(this.id, details));
      this.#step = undefined;
      this.#save();
    } catch (error) {
      this.#wasInterrupted = error instanceof RuncError && error.signal !== undefined;
      // Whatever becomes of its init, this container was never announced.
      if (this.#state !== 'restorable') this.#isDisposed = true;
      throw error;
    } finally {
      announced.resolve();
    }
  }

  /**
   * Lets init run, or restores it from the checkpoint.
   * @param isRepeat of a request whose answer a predecessor engine did not come to send: what it has done is not done again. The same holds
   *   for the other steps that take this.
   */
  start(isRepeat: boolean): Promise<void> {
    return this.#queue.run(async () => {
      if (isRepeat && this.#state !== 'created' && this.#state !== 'restorable') return;
      requireInit(this.#state, 'start');
      const settled = createDeferred<void>();
      this.#startSettled = settled.promise;
      this.#step = 'start';
      this.#save();
      try {
        if (this.#state === 'restorable') await this.#restoreFromCheckpoint();
        else await this.#runc.start(this.id);
        this.#state = 'running';
        this.#context.publish(events.taskStart(this.id, this.init.pid));
      } finally {
        this.#step = undefined;
        this.#save();
        settled.resolve();
      }
    });
  }

  /** Runs an exec that was added. */
  async startExec(execId: string, isRepeat: boolean): Promise<void> {
    await this.#resolved;
    if (isRepeat && this.execs.get(execId).state !== 'created') return;
    await this.execs.start(execId);
  }

  pause(isRepeat: boolean): Promise<void> {
    return this.#queue.run(async () => {
      if (isRepeat && this.#state === 'paused') return;
      requireInit(this.#state, 'pause');
      this.#state = 'pausing';
      try {
        if (this.#cgroup === undefined) await this.#runc.pause(this.id);
        else await prefixed('OCI runtime pause failed', this.#cgroup.freeze());
      } catch (error) {
        this.#moveFrom('pausing', 'running');
        throw error;
      }
      if (!this.#moveFrom('pausing', 'paused')) return;
      this.#context.publish(events.taskPaused(this.id));
      this.#save();
    });
  }

  resume(isRepeat: boolean): Promise<void> {
    return this.#queue.run(async () => {
      if (isRepeat && this.#state === 'running') return;
      requireInit(this.#state, 'resume');
      if (this.#cgroup === undefined) await this.#runc.resume(this.id);
      else await prefixed('OCI runtime resume failed', this.#cgroup.thaw());
      if (!this.#moveFrom('paused', 'running')) return;
      this.#context.publish(events.taskResumed(this.id));
      this.#save();
    });
  }

  /** @param resources OCI LinuxResources, JSON */
  update(resources: Uint8Array): Promise<void> {
    return this.#queue.run(async () => {
      requireInit(this.#state, 'update');
      if (this.#cgroup?.isSettable !== true) await this.#runc.update(this.id, resources);
      else await prefixed('OCI runtime update failed', this.#limits.update(this.#cgroup, resources));
      this.#save();
    });
  }

  checkpoint(options: runc.CheckpointOptions, path: string): Promise<void> {
    return this.#queue.run(async () => {
      requireInit(this.#state, 'checkpoint');
      const { bundle, options: settings } = this.settings;
      const defaultWork = this.#criuWork;
      try {
        await this.#runc.checkpoint(this.id, {
          imagePath: options.imagePath || path || settings.criuImagePath,
          workPath: options.workPath || defaultWork,
          parentPath: options.parentPath,
          tcpEstablished: options.openTcp,
          extUnixSockets: options.externalUnixSockets,
          shellJob: options.terminal,
          fileLocks: options.fileLocks,
          manageCgroupsMode: options.cgroupsMode,
          emptyNamespaces: options.emptyNamespaces,
          leaveRunning: !options.exit,
        });
      } catch (error) {
        throw keepCriuLog(error, options.workPath || defaultWork, bundle);
      } finally {
        if (options.workPath === '') rmSync(defaultWork, { recursive: true, force: true });
      }
    });
  }

  /**
   * Signals init, all processes of the container, or an exec.
   * @throws LaminaError NotFound when there is nobody to signal any more
   */
  async kill(execId: string, signal: number, all: boolean): Promise<void> {
    await this.#attached;
    if (execId !== '') {
      const exec = this.execs.get(execId);
      await exec.starting;
      if (exec.pid === 0) throw new LaminaError(Code.FailedPrecondition, 'process not created: failed precondition');
      exec.signal(signal, 'exec kill error: ');
      return;
    }
    requireInit(this.#state, 'kill');
    if (this.init.pid === 0) throw new LaminaError(Code.NotFound, 'process already finished: not found');
    if (signal === SIGKILL) this.#wasKillAsked = true;
    if (all && this.#cgroup !== undefined && this.init.reaped === undefined) await this.#cgroup.signalAll(signal);
    else this.init.signal(signal);
    await this.#cgroup?.letDie(signal);
  }

  /** Host pids of all processes of the container, with the exec each is the main process of. */
  pids(): { pid: number; execId: string | undefined }[] {
    const execOf = new Map([...this.execs].map((exec) => [exec.pid, exec.id]));
    const pids = this.#cgroup?.pids() ?? (this.init.pid !== 0 && this.init.reaped === undefined ? [this.init.pid] : []);
    return pids.map((pid) => ({ pid, execId: execOf.get(pid) }));
  }

  /** @throws LaminaError NotFound when the container never had a cgroup */
  stats(): Any {
    if (this.#cgroup === undefined) throw new LaminaError(Code.NotFound, 'cgroup does not exist: not found');
    return this.#cgroup.stats();
  }

  /**
   * Removes init and with it the container.
   * @returns its exit; undefined if it never ran
   */
  delete(): Promise<Exit | undefined> {
    return this.#queue.run(async () => {
      requireInit(this.#state, 'delete');
      this.#step = 'delete';
      this.#save();
      await this.init.io?.drain(this.#context.config.timeouts.drainMs);
      if (this.#state !== 'restorable') await this.#deleteFromRuntime();
      await unmountRecursive(bundlePaths(this.settings.bundle).rootfs);
      this.#state = 'deleted';
      const { pid, exit } = this.init;
      this.#context.publish(events.taskDelete(this.id, pid, exit ?? { code: 0, timeNs: 0n }));
      this.#context.remember(this.id, { pid, exit });
      this.dispose();
      return exit;
    });
  }

  /** A container as a predecessor engine left it. `resolve` is the second half. */
  static restore(context: ContainerContext, record: ContainerRecord, left: LeftStreams): Container {
    const { state, step, init, execs, isFresh, cgroup, oomKills, limits, ...settings } = record;
    const container = new Container(context, settings, init.stdio);
    container.#state = state;
    container.#step = step;
    container.#isFresh = isFresh;
    container.#limits = new Limits(settings.bundle, limits);
    container.#takeover = new Takeover(container.#takeoverHost, record, left);
    if (cgroup !== undefined) {
      container.#openCgroup(cgroup, oomKills === undefined ? undefined : BigInt(oomKills));
    }
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
    this.#resolved = this.#queue.run(() => this.#resolveSteps(takeover));
    this.#resolved.catch((error) =>
      this.#log.error({ error: messageOf(error) }, 'resolve what a predecessor had begun'),
    );
    if (takeover.unannounced !== undefined) this.#announceInitLater(takeover.unannounced);
    await this.#resolved.catch(() => undefined);
  }

  /** Undoes a create that failed or that a predecessor had begun. */
  async discard(): Promise<void> {
    this.#isDisposed = true;
    try {
      if (this.#isFresh && this.#step === 'create') await this.#undoCreate();
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'remove the half-made container');
    }
    this.dispose();
  }

  /** Lets go of everything in this process and in the keeper. */
  dispose(): void {
    this.#isDisposed = true;
    this.execs.dispose();
    this.init.dispose();
    this.#cgroup?.close();
    this.#context.exits.forget(this.#exitName(''));
    this.#context.link.del(`c/${this.id}`);
  }

  get #runtimeRoot(): string {
    return join(this.settings.options.root, this.#context.namespace);
  }

  get #criuWork(): string {
    return join(this.settings.options.criuWorkPath || bundlePaths(this.settings.bundle).work, 'criu-work');
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

  async #restoreFromCheckpoint(): Promise<void> {
    const { bundle, options, checkpoint } = this.settings;
    await this.#launch(this.init, '', (io) =>
      this.#runc.restore(this.id, {
        bundle,
        imagePath: checkpoint,
        workPath: this.#criuWork,
        noPivot: options.noPivotRoot,
        ...io,
      }),
    );
    this.#watchCgroup();
  }

  /** Finds init's cgroup while init is certainly where create put it. */
  #watchCgroup(): void {
    if (this.init.reaped !== undefined) return;
    try {
      this.#openCgroup(WatchedCgroup.membershipOf(this.init.pid));
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'no cgroup: no statistics, no OOM events');
    }
  }

  /** @param oomKills those a predecessor has reported */
  #openCgroup(membership: string, oomKills?: bigint): void {
    const onOom = (): void => {
      this.#context.publish(events.taskOom(this.id));
      // Only now may a successor take it for told.
      queueMicrotask(() => this.#save());
    };
    try {
      const isSystemd = this.settings.systemdCgroup;
      this.#cgroup = new WatchedCgroup({ membership, isSystemd, onOom, oomKills, log: this.#log });
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'no cgroup: no statistics, no OOM events');
    }
  }

  /** The keeper has reaped a process of ours. Runs at any time, also while a start is under way. */
  #reaped(process: TrackedProcess, report: { readonly code: number; readonly timeNs: bigint }): void {
    const exit: Exit = { code: report.code, timeNs: report.timeNs };
    process.reaped = exit;
    if (this.#isDisposed) return;
    this.#save();
    if (process instanceof ExecProcess) {
      this.execs.reaped(process, exit);
      return;
    }
    this.#writeExitFile(exit);
    this.#announceInitLater(exit);
  }

  #announceInitLater(exit: Exit): void {
    this.#announceInit(exit).catch((error) => this.#log.error({ error: messageOf(error) }, 'announce the exit'));
  }

  async #announceInit(exit: Exit): Promise<void> {
    await this.#startSettled;
    await this.#resolved.catch(() => undefined);
    try {
      if (this.settings.sharesPidNamespace) await this.#cgroup?.kill();
      else if (this.#state === 'paused' || this.#state === 'pausing') await this.#cgroup?.thaw();
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'end what init left');
    }
    this.#cgroup?.end({
      pid: this.init.pid,
      wasKilled: exit.code === SIGKILL_CODE,
      wasKillAsked: this.#wasKillAsked,
    });
    await this.execs.idle();
    if (this.#isDisposed) return;
    this.#state = 'stopped';
    this.init.settle(exit);
    this.#context.publish(events.taskExit(this.id, this.id, this.init.pid, exit));
    this.#save();
  }

  async #undoCreate(): Promise<void> {
    await this.#context.link.inheritedRuns(this.id, this.#context.config.timeouts.runtimeMs);
    // A runtime that fails undoes what it did; one that was killed leaves its directory, and what it had not noted there.
    const isLeft = this.#wasInterrupted || existsSync(join(this.#runtimeRoot, this.id));
    await this.#runc.delete(this.id, { force: true });
    if (isLeft) await this.#removeLeftCgroup();
  }

  /** Of a container that the runtime does not know, or not any more. */
  async #removeLeftCgroup(): Promise<void> {
    try {
      await removeLeftCgroup(this.settings.bundle, this.settings.systemdCgroup);
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'remove the cgroup that the runtime has left');
    }
  }

  async #deleteFromRuntime(): Promise<void> {
    try {
      this.#wasKillAsked = true;
      await this.#runc.delete(this.id);
    } catch (error) {
      if (!messageOf(error).includes('does not exist')) throw error;
      await this.#removeLeftCgroup();
    }
    // Deleting a container that was only created kills its init: its exit is announced first.
    if (this.init.exit !== undefined || this.init.pid === 0) return;
    await this.init.wait(AbortSignal.timeout(KILLED_EXIT_MS)).catch(() => {
      this.#log.warn({ pid: this.init.pid }, 'no exit report of a deleted init');
    });
  }

  /** Moves the state unless something else (an exit) has moved it meanwhile. */
  #moveFrom(from: InitState, to: InitState): boolean {
    if (this.#state !== from) return false;
    this.#state = to;
    return true;
  }

  get #takeoverHost(): TakeoverHost {
    return {
      context: this.#context,
      log: this.#log,
      id: this.id,
      bundle: this.settings.bundle,
      runc: this.#runc,
      init: this.init,
      execs: this.execs,
      exitName: (execId) => this.#exitName(execId),
      onReaped: (process, exit) => this.#reaped(process, exit),
    };
  }

  async #resolveSteps(takeover: Takeover): Promise<void> {
    if (await takeover.resolveSteps(this.#attached)) {
      this.#state = 'running';
      this.#context.publish(events.taskStart(this.id, this.init.pid));
    }
    // A pause that the predecessor did not come to record.
    if (this.#state === 'running' && this.init.reaped === undefined && this.#cgroup?.frozen() === true) {
      this.#state = 'paused';
    }
    this.#step = undefined;
    this.#save();
  }

  /** For the delete verb, which runs without an engine: the true exit status. */
  #writeExitFile(exit: Exit): void {
    const content = {
      pid: this.init.pid,
      exitStatus: exit.code,
      exitedAtSeconds: Number(exit.timeNs / 1_000_000_000n),
      exitedAtNanos: Number(exit.timeNs % 1_000_000_000n),
    };
    try {
      writeFileAtomic(join(this.settings.bundle, 'lamina-exit.json'), JSON.stringify(content));
    } catch (error) {
      this.#log.debug({ error: messageOf(error) }, 'write the exit record');
    }
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
      copy: copyOutput || execId !== '',
      uid: options.ioUid,
      gid: options.ioGid,
      loggerTimeoutMs: config.timeouts.loggerMs,
    };
  }

  #save(): void {
    if (this.#isDisposed) return;
    try {
      const record = toContainerRecord(this.settings, {
        state: this.#state,
        step: this.#step,
        isFresh: this.#isFresh,
        cgroup: this.#cgroup?.membership,
        oomKills: this.#cgroup?.oomKills,
        limits: this.#limits.changed,
        init: this.init,
        execs: this.execs,
      });
      this.#context.link.put(`c/${this.id}`, Buffer.from(JSON.stringify(record)));
    } catch (error) {
      // Without a record a successor would know less; dying of it would make one necessary.
      this.#log.error({ error: messageOf(error) }, 'save the record');
    }
  }
}

/** A failed checkpoint's log would go with its work directory: it is kept in the bundle, and the error tells where. */
function keepCriuLog(error: unknown, workPath: string, bundle: string): unknown {
  const kept = join(bundle, 'criu-dump.log');
  try {
    copyFileSync(join(workPath, 'dump.log'), kept);
  } catch {
    // criu never came to write one.
    return error;
  }
  const [firstLine = ''] = messageOf(error).split('\n');
  return new LaminaError(codeOf(error), `${firstLine} path= ${kept}`, { cause: error });
}

async function prefixed(prefix: string, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    throw new LaminaError(codeOf(error), `${prefix}: ${messageOf(error)}`, { cause: error });
  }
}
