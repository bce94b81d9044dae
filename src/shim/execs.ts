/**
 * The execs of one container: added by Exec, run by Start, announced when they exit, removed by
 * Delete.
 *
 * INVARIANT: an exec counts as active from the moment its start begins until its exit was
 * published; init's exit waits for `idle`.
 */
import { Code, createDeferred, LaminaError } from '../base/index.js';
import { bundlePaths, parseProcess, type Runc, removeIfThere } from '../oci/index.js';
import type { ContainerContext } from './context.js';
import { DeletedProcesses } from './deleted.js';
import type { StdioRequest } from './io/stdio.js';
import { ExecProcess } from './process/exec.js';
import type { RunRuntime } from './process/launch.js';
import { requireExec } from './process/state.js';
import { type Exit, nowNs, UNKNOWN_EXIT_CODE } from './process/tracked.js';
import type { DeletedProcess } from './record.js';
import * as events from './task-events.js';

/** What the execs need of their container. */
export interface ExecHost {
  readonly context: ContainerContext;
  readonly containerId: string;
  readonly bundle: string;
  readonly runc: Runc;
  /** @throws LaminaError with the stock text when init's state allows no exec */
  requireExecAllowed(): void;
  initIsReaped(): boolean;
  launch(process: ExecProcess, run: RunRuntime): Promise<void>;
  save(): void;
}

export class Execs {
  readonly #host: ExecHost;
  /** exec id → process; removed by its Delete. */
  readonly #byId = new Map<string, ExecProcess>();
  /**
   * Those that have ended and whose readers have not taken all of their output yet; each is removed
   * when its exit is announced.
   */
  readonly #unread = new Set<ExecProcess>();
  #active = 0;
  #idle = createDeferred<void>();

  constructor(host: ExecHost) {
    this.#host = host;
  }

  [Symbol.iterator](): IterableIterator<ExecProcess> {
    return this.#byId.values();
  }

  find(id: string): ExecProcess | undefined {
    return this.#byId.get(id);
  }

  /** @throws LaminaError NotFound with the stock text */
  get(id: string): ExecProcess {
    const exec = this.#byId.get(id);
    if (exec === undefined) throw new LaminaError(Code.NotFound, `process does not exist ${id}: not found`);
    return exec;
  }

  /** Adds an exec; nothing is run yet. @param spec an OCI process, JSON */
  add(id: string, spec: Uint8Array, stdio: StdioRequest): void {
    const { containerId, context } = this.#host;
    if (this.#byId.has(id)) throw new LaminaError(Code.AlreadyExists, `id ${id}: already exists`);
    this.#host.requireExecAllowed();
    const process = { ...parseProcess(spec), terminal: stdio.terminal };
    // A spec may be megabytes: it is stored once, not with every change of the container's record.
    context.link.put(this.#specEntry(id), Buffer.from(JSON.stringify(process)));
    this.#byId.set(id, new ExecProcess(id, process, stdio));
    context.deleted.forget(DeletedProcesses.key(containerId, id));
    this.#host.save();
    context.publish(events.taskExecAdded(containerId, id));
  }

  /** Runs an exec that was added. */
  async start(id: string): Promise<void> {
    const exec = this.get(id);
    try {
      this.#checkStart(exec);
    } catch (error) {
      if (this.#host.initIsReaped() || error === exec.unreadable) this.#giveUp(exec);
      throw error;
    }
    const { context, containerId, bundle, runc } = this.#host;
    this.#active += 1;
    exec.step = 'start';
    const started = createDeferred<void>();
    exec.starting = started.promise;
    this.#host.save();
    try {
      const pidFile = bundlePaths(bundle).execPid(id);
      await this.#host.launch(exec, (io) => runc.exec(containerId, { process: exec.spec, pidFile, ...io }));
      exec.state = 'running';
      context.publish(events.taskExecStarted(containerId, id, exec.pid));
    } catch (error) {
      this.#giveUp(exec);
      this.#ended();
      throw error;
    } finally {
      exec.step = undefined;
      context.link.del(this.#specEntry(id));
      this.#host.save();
      exec.io?.startRecorded();
      started.resolve();
    }
    if (exec.reaped !== undefined) this.#end(exec, exec.reaped);
  }

  /** Removes an exec that has ended or was never started. */
  async delete(id: string): Promise<DeletedProcess> {
    const exec = this.get(id);
    await exec.starting;
    const { context } = this.#host;
    if (exec.state !== 'deleted') {
      requireExec(exec.state, 'delete');
      await exec.io?.drain(context.config.timeouts.drainMs);
    }
    // Meanwhile asked again, by somebody who has not waited for the answer.
    if (exec.state === 'deleted') return { pid: exec.pid, exit: exec.exit };
    if (this.#byId.get(id) !== exec) throw new LaminaError(Code.NotFound, `process does not exist ${id}: not found`);
    exec.state = 'deleted';
    const deleted = { pid: exec.pid, exit: exec.exit };
    context.deleted.remember(DeletedProcesses.key(this.#host.containerId, id), deleted);
    this.#remove(exec);
    this.#host.save();
    return deleted;
  }

  /**
   * The keeper has reaped an exec; one whose start is under way is announced when that has ended.
   */
  reaped(exec: ExecProcess, exit: Exit): void {
    if (exec.state === 'running') this.#end(exec, exit);
  }

  /** Resolves when no exec runs or is being started. */
  async idle(): Promise<void> {
    if (this.#active > 0) await this.#idle.promise;
  }

  /** Puts back an exec that a predecessor engine knew. */
  restore(exec: ExecProcess): void {
    this.#byId.set(exec.id, exec);
    if (exec.state === 'running' && exec.exit === undefined) this.#active += 1;
  }

  /** A predecessor had run this exec and not told: it is told now. */
  resume(exec: ExecProcess): void {
    const { context, containerId } = this.#host;
    this.#active += 1;
    exec.state = 'running';
    context.publish(events.taskExecStarted(containerId, exec.id, exec.pid));
    if (exec.reaped !== undefined) this.#end(exec, exec.reaped);
  }

  dispose(): void {
    for (const exec of this.#byId.values()) this.#remove(exec);
  }

  #checkStart(exec: ExecProcess): void {
    requireExec(exec.state, 'start');
    if (exec.unreadable !== undefined) throw exec.unreadable;
    if (exec.failed || exec.step !== undefined) {
      throw new LaminaError(Code.FailedPrecondition, `exec ${exec.id} has been started before: failed precondition`);
    }
    if (this.#host.initIsReaped()) {
      const text = `container ${this.#host.containerId} init process is not running: failed precondition`;
      throw new LaminaError(Code.FailedPrecondition, text);
    }
    this.#host.requireExecAllowed();
  }

  #giveUp(exec: ExecProcess): void {
    exec.failed = true;
    exec.giveUp({ code: UNKNOWN_EXIT_CODE, timeNs: nowNs() });
  }

  /** Announces the exit, once its readers have taken what it wrote. */
  #end(exec: ExecProcess, exit: Exit): void {
    if (this.#unread.has(exec)) return;
    const read = exec.io?.outputRead(this.#host.context.config.timeouts.readMs);
    if (read === undefined) {
      this.#announce(exec, exit);
      return;
    }
    this.#unread.add(exec);
    void read.then(() => {
      this.#unread.delete(exec);
      // The whole container may have gone meanwhile.
      if (this.#byId.get(exec.id) === exec) this.#announce(exec, exit);
    });
  }

  #announce(exec: ExecProcess, exit: Exit): void {
    const { context, containerId } = this.#host;
    exec.state = 'stopped';
    exec.settle(exit);
    context.publish(events.taskExit(containerId, exec.id, exec.pid, exit));
    this.#host.save();
    this.#ended();
  }

  #ended(): void {
    this.#active -= 1;
    if (this.#active > 0) return;
    this.#idle.resolve();
    this.#idle = createDeferred();
  }

  #remove(exec: ExecProcess): void {
    this.#byId.delete(exec.id);
    exec.dispose();
    // A later exec of the same id must not be taken for this one.
    removeIfThere(bundlePaths(this.#host.bundle).execPid(exec.id));
    this.#host.context.link.del(this.#specEntry(exec.id));
  }

  #specEntry(id: string): string {
    return execSpecEntry(this.#host.containerId, id);
  }
}

/** The keeper's entry that holds an exec's OCI process until it was started. */
export function execSpecEntry(containerId: string, execId: string): string {
  return `x/${containerId}/${execId}`;
}
