/**
 * One container: its init, its execs, its cgroup, and what may be done with them.
 *
 * INVARIANTS
 * - Steps that move init's state run one after the other in `#queue`; nothing that answers State, Pids, Stats, Wait or Kill ever waits there.
 * - Events of a container are published in the order create, start, (exec-added, exec-started, exit)*, exit, delete; init's exit comes after the exits of all
 *   execs that were started, and never before the end of a start that is under way.
 * - Before and after each step the record is in the keeper (`#save`), so that a successor engine knows what was begun.
 */
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Any, runc } from '../api/index.js';
import { Code, codeOf, createDeferred, LaminaError, type Logger, messageOf, SerialQueue } from '../base/index.js';
import type { ContainerCgroup, OomWatch } from '../cgroups/index.js';
import { bundlePaths, parseProcess, Runc, readPidFile, writeFileAtomic } from '../oci/index.js';
import { unmountRecursive } from '../sys/index.js';
import type { ContainerContext } from './context.js';
import type { OpenIoOptions } from './io/open.js';
import { ioPrefix, type LeftStreams, ProcessIo } from './io/process-io.js';
import type { StdioRequest } from './io/stdio.js';
import type { ExitReport } from './keeper-link.js';
import { packMetrics } from './metrics.js';
import { ExecProcess } from './process/exec.js';
import { launch, type RunRuntime } from './process/launch.js';
import { type InitState, requireExec, requireInit } from './process/state.js';
import { type Exit, TrackedProcess } from './process/tracked.js';
import {
  type ContainerRecord,
  type ContainerSettings,
  fromExitRecord,
  type PendingStep,
  type ProcessRecord,
  toContainerRecord,
} from './record.js';
import { waitForRuntime } from './runtime-wait.js';
import * as events from './task-events.js';

/** The exit of something that never ran or whose status nobody can know any more. */
const UNKNOWN_EXIT_CODE = 255;
/** The exit code of a process that SIGKILL ended. */
const SIGKILL_CODE = 137;
/** How long Delete waits for the exit report of an init that `runc delete` has just killed. */
const KILLED_EXIT_MS = 5_000;
const FREEZE_MS = 10_000;

export class Container {
  readonly settings: ContainerSettings;
  readonly init: TrackedProcess;
  /** exec id → process; removed by its Delete. */
  readonly execs = new Map<string, ExecProcess>();
  readonly #context: ContainerContext;
  readonly #log: Logger;
  readonly #runc: Runc;
  readonly #queue = new SerialQueue();
  #state: InitState;
  #step: PendingStep | undefined;
  #cgroup: ContainerCgroup | undefined;
  #oom: OomWatch | undefined;
  /** Taken when init exited, for clients that ask later. */
  #lastStats: Any | undefined;
  /** Execs that are being started or run: init's exit waits for them. */
  #activeExecs = 0;
  #execsIdle = createDeferred<void>();
  /** What a predecessor engine had done of steps whose answer it did not send: '' is init's start, else an exec's. */
  readonly #doneByPredecessor = new Set<string>();
  /** Settles when the create or start under way has ended: init's exit waits for it. */
  #startSettled: Promise<void> = Promise.resolve();

  constructor(context: ContainerContext, settings: ContainerSettings, stdio: StdioRequest) {
    this.#context = context;
    this.settings = settings;
    this.init = new TrackedProcess(stdio);
    this.#state = settings.checkpoint === '' ? 'created' : 'restorable';
    this.#log = context.log.child({ container: settings.id });
    this.#runc = new Runc({
      spawner: context.link,
      binary: settings.options.binaryName,
      root: join(settings.options.root, context.namespace),
      log: bundlePaths(settings.bundle).runtimeLog,
      systemdCgroup: settings.systemdCgroup,
      debug: context.debug,
      timeoutMs: context.config.timeouts.runtimeMs,
    });
  }

  get id(): string {
    return this.settings.id;
  }

  get state(): InitState {
    return this.#state;
  }

  /** @throws LaminaError NotFound with the stock text */
  exec(execId: string): ExecProcess {
    const exec = this.execs.get(execId);
    if (exec === undefined) throw new LaminaError(Code.NotFound, `process does not exist ${execId}: not found`);
    return exec;
  }

  /** The process a request means: an exec, or init for the empty id. */
  process(execId: string): TrackedProcess {
    return execId === '' ? this.init : this.exec(execId);
  }

  /**
   * Runs `runc create`. On failure nothing of the container is left but what the caller made.
   * A container from a checkpoint is only prepared.
   */
  async create(): Promise<void> {
    if (this.#state === 'restorable') {
      this.#save();
      return;
    }
    this.#step = 'create';
    this.#save();
    const { bundle, options } = this.settings;
    const { noPivotRoot: noPivot, noNewKeyring } = options;
    await this.#launch(this.init, '', (io) => this.#runc.create(this.id, { bundle, noPivot, noNewKeyring, ...io }));
    await this.#watchCgroup();
    this.#step = undefined;
    this.#save();
  }

  /** Lets init run, or restores it from the checkpoint. */
  start(): Promise<void> {
    return this.#queue.run(async () => {
      if (this.#doneByPredecessor.delete('')) return;
      requireInit(this.#state, 'start');
      const settled = createDeferred<void>();
      this.#startSettled = settled.promise;
      this.#step = 'start';
      this.#save();
      try {
        if (this.#state === 'restorable') await this.#restore();
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

  /** Adds an exec; nothing is run yet. */
  addExec(execId: string, spec: Uint8Array, stdio: StdioRequest): void {
    if (this.execs.has(execId)) throw new LaminaError(Code.AlreadyExists, `id ${execId}: already exists`);
    requireInit(this.#state, 'exec');
    const process = { ...parseProcess(spec), terminal: stdio.terminal };
    this.execs.set(execId, new ExecProcess(execId, process, stdio));
    this.#save();
    this.#context.publish(events.taskExecAdded(this.id, execId));
  }

  /** Runs an exec that was added. */
  async startExec(execId: string): Promise<void> {
    const exec = this.exec(execId);
    if (this.#doneByPredecessor.delete(execId)) return;
    requireExec(exec.state, 'start');
    if (exec.failed || exec.step !== undefined) {
      throw new LaminaError(Code.FailedPrecondition, `exec ${execId} has been started before: failed precondition`);
    }
    if (this.init.reaped !== undefined) {
      const text = `container ${this.id} init process is not running: failed precondition`;
      throw new LaminaError(Code.FailedPrecondition, text);
    }
    requireInit(this.#state, 'exec');
    this.#activeExecs += 1;
    exec.step = 'start';
    this.#save();
    try {
      const pidFile = bundlePaths(this.settings.bundle).execPid(execId);
      await this.#launch(exec, execId, (io) => this.#runc.exec(this.id, { process: exec.spec, pidFile, ...io }));
      exec.state = 'running';
      this.#context.publish(events.taskExecStarted(this.id, execId, exec.pid));
    } catch (error) {
      exec.failed = true;
      exec.giveUp({ code: UNKNOWN_EXIT_CODE, timeNs: nowNs() });
      this.#execEnded();
      throw error;
    } finally {
      exec.step = undefined;
      this.#save();
    }
    if (exec.reaped !== undefined) this.#announceExec(exec, exec.reaped);
  }

  pause(): Promise<void> {
    return this.#queue.run(async () => {
      requireInit(this.#state, 'pause');
      this.#state = 'pausing';
      try {
        if (this.#cgroup === undefined) await this.#runc.pause(this.id);
        else await prefixed('OCI runtime pause failed', this.#cgroup.freeze(FREEZE_MS));
      } catch (error) {
        this.#moveFrom('pausing', 'running');
        throw error;
      }
      this.#moveFrom('pausing', 'paused');
      this.#save();
      this.#context.publish(events.taskPaused(this.id));
    });
  }

  resume(): Promise<void> {
    return this.#queue.run(async () => {
      requireInit(this.#state, 'resume');
      await this.#thaw();
      this.#moveFrom('paused', 'running');
      this.#save();
      this.#context.publish(events.taskResumed(this.id));
    });
  }

  /** @param resources OCI LinuxResources, JSON */
  update(resources: Uint8Array): Promise<void> {
    return this.#queue.run(async () => {
      requireInit(this.#state, 'update');
      await this.#runc.update(this.id, resources);
    });
  }

  checkpoint(options: runc.CheckpointOptions, path: string): Promise<void> {
    return this.#queue.run(async () => {
      requireInit(this.#state, 'checkpoint');
      const { bundle, options: settings } = this.settings;
      const defaultWork = join(settings.criuWorkPath || bundlePaths(bundle).work, 'criu-work');
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
    if (execId !== '') {
      const exec = this.exec(execId);
      if (exec.pid === 0) throw new LaminaError(Code.FailedPrecondition, 'process not created: failed precondition');
      exec.signal(signal);
      return;
    }
    requireInit(this.#state, 'kill');
    if (this.init.pid === 0) throw new LaminaError(Code.NotFound, 'process already finished: not found');
    if (all && this.#cgroup !== undefined && this.init.reaped === undefined) await this.#cgroup.signalAll(signal);
    else this.init.signal(signal);
    // On cgroup v1 a frozen process does not even notice SIGKILL.
    if (signal === 9 && this.#cgroup !== undefined && this.#cgroup.mode !== 'unified') await this.#cgroup.thaw();
  }

  /** Host pids of all processes of the container, with the exec each is the main process of. */
  pids(): { pid: number; execId: string | undefined }[] {
    const execOf = new Map([...this.execs.values()].map((exec) => [exec.pid, exec.id]));
    const pids = this.#cgroup?.pids() ?? (this.init.pid !== 0 && this.init.reaped === undefined ? [this.init.pid] : []);
    return pids.map((pid) => ({ pid, execId: execOf.get(pid) }));
  }

  /** @throws LaminaError NotFound when the container never had a cgroup */
  stats(): Any {
    if (this.#lastStats !== undefined) return this.#lastStats;
    if (this.#cgroup === undefined) throw new LaminaError(Code.NotFound, 'cgroup does not exist: not found');
    return packMetrics(this.#cgroup.stats());
  }

  /**
   * Removes init and with it the container.
   * @returns its exit
   */
  delete(): Promise<Exit> {
    return this.#queue.run(async () => {
      requireInit(this.#state, 'delete');
      this.#step = 'delete';
      this.#save();
      await this.init.io?.drain(this.#context.config.timeouts.drainMs);
      if (this.#state !== 'restorable') await this.#deleteFromRuntime();
      await unmountRecursive(bundlePaths(this.settings.bundle).rootfs);
      this.#state = 'deleted';
      const exit = this.init.exit ?? { code: 0, timeNs: 0n };
      this.dispose();
      this.#context.publish(events.taskDelete(this.id, this.init.pid, exit));
      return exit;
    });
  }

  /** Removes an exec that has ended or was never started. */
  async deleteExec(execId: string): Promise<{ pid: number; exit: Exit | undefined }> {
    const exec = this.exec(execId);
    requireExec(exec.state, 'delete');
    await exec.io?.drain(this.#context.config.timeouts.drainMs);
    exec.state = 'deleted';
    exec.dispose();
    this.execs.delete(execId);
    this.#save();
    return { pid: exec.pid, exit: exec.exit };
  }

  /** A container as a predecessor engine left it. */
  static restore(context: ContainerContext, record: ContainerRecord, left: LeftStreams): Container {
    const { state, step, init, execs, ...settings } = record;
    const container = new Container(context, settings, init.stdio);
    container.#state = state;
    container.#step = step;
    container.#restoreProcess(container.init, '', init, left);
    for (const [execId, { state: execState, failed, step: execStep, spec, ...process }] of Object.entries(execs)) {
      const exec = new ExecProcess(execId, spec ?? { cwd: '/' }, process.stdio);
      exec.state = execState;
      exec.failed = failed;
      exec.step = execStep;
      container.execs.set(execId, exec);
      container.#restoreProcess(exec, execId, process, left);
      if (execState === 'running' && exec.exit === undefined) container.#activeExecs += 1;
    }
    return container;
  }

  /** Second half of a restore: finds out how far the predecessor's steps came, and what has ended meanwhile. */
  async resolvePendingStep(): Promise<void> {
    const pending = [...this.execs.values()].filter((exec) => exec.step === 'start');
    if (this.#step === 'start' || pending.length > 0) {
      await waitForRuntime(this.#context.keeperPid, this.settings.options.binaryName, this.id);
    }
    if (this.init.pid !== 0 && this.init.reaped === undefined) {
      await this.#holdAgain(this.init, '');
      await this.#watchCgroup();
    }
    if (this.#step === 'start') await this.#resolveStart();
    this.#step = undefined;
    for (const exec of this.execs.values()) {
      if (exec.step === 'start') await this.#resolveExecStart(exec);
      else if (exec.state === 'running' && exec.reaped === undefined) await this.#holdAgain(exec, exec.id);
      else if (exec.state === 'running' && exec.reaped !== undefined && exec.exit === undefined) {
        this.#announceExec(exec, exec.reaped);
      }
    }
    this.#save();
    if (this.init.reaped !== undefined && this.init.exit === undefined) void this.#announceInit(this.init.reaped);
  }

  /** Undoes a create that failed after `runc create` may have begun. */
  async discard(): Promise<void> {
    try {
      if (this.#state !== 'restorable' && this.#step !== undefined) await this.#runc.delete(this.id, { force: true });
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'remove the half-made container');
    }
    this.dispose();
  }

  /** Lets go of everything in this process and in the keeper. */
  dispose(): void {
    for (const exec of this.execs.values()) exec.dispose();
    this.execs.clear();
    this.init.dispose();
    this.#oom?.[Symbol.dispose]();
    this.#oom = undefined;
    this.#cgroup?.close();
    this.#cgroup = undefined;
    this.#context.exits.forget(this.#exitName(''));
    this.#context.link.del(`c/${this.id}`);
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

  async #restore(): Promise<void> {
    const { bundle, options, checkpoint } = this.settings;
    await this.#launch(this.init, '', (io) =>
      this.#runc.restore(this.id, {
        bundle,
        imagePath: checkpoint,
        workPath: options.criuWorkPath || join(bundlePaths(bundle).work, 'criu-work'),
        noPivot: options.noPivotRoot,
        ...io,
      }),
    );
    await this.#watchCgroup();
  }

  /** Finds init's cgroup, makes it usable for statistics, and watches it for OOM kills. */
  async #watchCgroup(): Promise<void> {
    if (this.init.reaped !== undefined) return;
    try {
      const cgroup = this.#context.loadCgroup(this.init.pid);
      this.#cgroup = cgroup;
      cgroup.enableControllersAlongPath();
      this.#oom = cgroup.watchOom(() => this.#context.publish(events.taskOom(this.id)));
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'no statistics and no OOM events');
    }
  }

  /** The keeper has reaped a process of ours. Runs at any time, also while a start is under way. */
  #reaped(process: TrackedProcess, report: ExitReport): void {
    const exit: Exit = { code: report.code, timeNs: report.timeNs };
    process.reaped = exit;
    this.#save();
    if (process === this.init) {
      this.#writeExitFile(exit);
      void this.#announceInit(exit);
    } else if (process instanceof ExecProcess && process.state === 'running') {
      this.#announceExec(process, exit);
    }
  }

  async #announceInit(exit: Exit): Promise<void> {
    await this.#startSettled;
    try {
      if (this.settings.sharesPidNamespace) await this.#cgroup?.kill();
      else if (this.#state === 'paused' || this.#state === 'pausing') await this.#cgroup?.thaw();
    } catch (error) {
      this.#log.warn({ error: messageOf(error) }, 'end what init left');
    }
    this.#snapshotStats();
    this.#oom?.drain(exit.code === SIGKILL_CODE);
    if (this.#activeExecs > 0) await this.#execsIdle.promise;
    this.#state = 'stopped';
    this.init.settle(exit);
    this.#save();
    this.#context.publish(events.taskExit(this.id, this.id, this.init.pid, exit));
  }

  #announceExec(exec: ExecProcess, exit: Exit): void {
    exec.state = 'stopped';
    exec.settle(exit);
    this.#save();
    this.#context.publish(events.taskExit(this.id, exec.id, exec.pid, exit));
    this.#execEnded();
  }

  #execEnded(): void {
    this.#activeExecs -= 1;
    if (this.#activeExecs > 0) return;
    this.#execsIdle.resolve();
    this.#execsIdle = createDeferred();
  }

  #snapshotStats(): void {
    try {
      if (this.#cgroup !== undefined) this.#lastStats = packMetrics(this.#cgroup.stats());
    } catch (error) {
      // A systemd scope is gone as soon as it is empty.
      this.#log.debug({ error: messageOf(error) }, 'no last statistics');
    }
  }

  async #deleteFromRuntime(): Promise<void> {
    try {
      await this.#runc.delete(this.id);
    } catch (error) {
      if (!messageOf(error).includes('does not exist')) throw error;
    }
    // Deleting a container that was only created kills its init: its exit is announced first.
    if (this.init.exit !== undefined || this.init.pid === 0) return;
    await this.init.wait(AbortSignal.timeout(KILLED_EXIT_MS)).catch(() => {
      this.#log.warn({ pid: this.init.pid }, 'no exit report of a deleted init');
    });
  }

  async #thaw(): Promise<void> {
    if (this.#cgroup === undefined) await this.#runc.resume(this.id);
    else await prefixed('OCI runtime resume failed', this.#cgroup.thaw());
  }

  /** Moves the state unless something else (an exit) has moved it meanwhile. */
  #moveFrom(from: InitState, to: InitState): void {
    if (this.#state === from) this.#state = to;
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

  #restoreProcess(process: TrackedProcess, execId: string, record: ProcessRecord, left: LeftStreams): void {
    process.io = ProcessIo.restore(this.#context.link, ioPrefix(this.id, execId), left);
    process.pid = record.pid;
    process.reaped = fromExitRecord(record.reaped);
    const exit = fromExitRecord(record.exit);
    if (exit !== undefined) process.settle(exit);
  }

  /** Holds a process that the predecessor knew. If it has ended meanwhile, its exit report comes next. */
  async #holdAgain(process: TrackedProcess, execId: string): Promise<void> {
    const name = this.#exitName(execId);
    this.#context.exits.expect(name, (report) => this.#reaped(process, report));
    try {
      const { pidfd } = await this.#context.link.adopt(process.pid, name);
      process.hold(process.pid, pidfd);
    } catch (error) {
      if (codeOf(error) !== Code.NotFound) throw error;
    }
  }

  async #resolveStart(): Promise<void> {
    if (this.#state === 'restorable') return;
    const { status } = await this.#runc.state(this.id);
    if (status === 'created') return;
    this.#state = 'running';
    this.#doneByPredecessor.add('');
    this.#context.publish(events.taskStart(this.id, this.init.pid));
  }

  async #resolveExecStart(exec: ExecProcess): Promise<void> {
    exec.step = undefined;
    try {
      exec.pid = readPidFile(bundlePaths(this.settings.bundle).execPid(exec.id));
    } catch {
      // It was not run: the Start request, which the keeper replays, does it.
      return;
    }
    await this.#holdAgain(exec, exec.id);
    this.#activeExecs += 1;
    exec.state = 'running';
    this.#doneByPredecessor.add(exec.id);
    this.#context.publish(events.taskExecStarted(this.id, exec.id, exec.pid));
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
    const record = toContainerRecord(this.settings, this.#state, this.#step, this.init, this.execs.values());
    this.#context.link.put(`c/${this.id}`, Buffer.from(JSON.stringify(record)));
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

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

async function prefixed(prefix: string, work: Promise<void>): Promise<void> {
  try {
    await work;
  } catch (error) {
    throw new LaminaError(codeOf(error), `${prefix}: ${messageOf(error)}`, { cause: error });
  }
}
