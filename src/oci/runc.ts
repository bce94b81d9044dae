/**
 * Drives an OCI runtime (runc, crun, or a program with their command line): one method per command.
 *
 * INVARIANTS: no run waits for a pipe (what runs print goes to nameless files); a run over its time
 * is killed and reported with Code.DeadlineExceeded; an interrupted create leaves no container
 * behind; failures are RuncError in containerd's wording.
 */
import { closeSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { Code, LaminaError, messageOf } from '../base/index.js';
import { readPidFile, removeIfThere } from './bundle.js';
import {
  type CheckpointArgs,
  type CreateArgs,
  checkpointArgs,
  createArgs,
  type ExecArgs,
  execArgs,
  globalArgs,
  type RestoreArgs,
  restoreArgs,
} from './runc-args.js';
import { failurePrefix, RuncError, saysNoContainer } from './runc-error.js';
import { type Output, type Run, RuncRunner } from './runc-run.js';
import { RUNTIME_ABILITIES, type RuntimeAbilities, type RuntimeKind, runtimeKindOf } from './runtime-kind.js';
import { openScratch } from './scratch.js';
import type { Spawner } from './spawner.js';
import type { ContainerState, Features, LinuxResources, Process } from './spec.js';

export interface RuncOptions {
  readonly spawner: Spawner;
  /** Path, or a name looked up in PATH; default `runc`. */
  readonly binary?: string;
  /** Where the runtime keeps its state (`--root`); default the runtime's own. */
  readonly root?: string;
  /** The file runs log to, `<bundle>/log.json`; without it each run uses a temporary one. */
  readonly log?: string;
  readonly systemdCgroup?: boolean;
  readonly debug?: boolean;
  /**
   * Where runs of the runtime are, as long as it is there: wrappers and hooks look for the files of
   * the bundle there. Default: create and restore in their bundle, the others where the spawner
   * says.
   */
  readonly cwd?: string;
  /**
   * Whether a container's processes may run now. While they may not, no time of a run's limit
   * passes: the runtime waits for them.
   */
  readonly mayRun?: () => boolean;
  /** Limit for each run in milliseconds; 0 or absent: none. Each call may give its own. */
  readonly timeoutMs?: number;
  /** Default: guessed by the binary's name. */
  readonly kind?: RuntimeKind;
  /** Edits of the runtime's environment. NOTIFY_SOCKET and LISTEN_* are always removed. */
  readonly env?: Readonly<Record<string, string | undefined>>;
}

/** What every call takes. */
export interface CallOptions {
  /** Limit for this run in milliseconds, instead of the constructor's. */
  readonly timeoutMs?: number | undefined;
}

/**
 * The container process's stdin, stdout and stderr: the caller's descriptors, undefined for
 * /dev/null.
 */
export type Stdio = readonly [number | undefined, number | undefined, number | undefined];

/** Where a new process gets its descriptors from. */
export interface IoOptions extends CallOptions {
  /** For processes without a terminal. */
  readonly stdio?: Stdio | undefined;
  /** For processes with one: the socket that receives the master (see ConsoleSocket). */
  readonly consoleSocket?: string | undefined;
}

export interface CreateOptions extends IoOptions, Omit<CreateArgs, 'pidFile' | 'preserveFds' | 'consoleSocket'> {
  /** Default `<bundle>/init.pid`. */
  readonly pidFile?: string | undefined;
  /** Descriptors for the process beyond 2, numbered from 3. */
  readonly extraFds?: readonly number[] | undefined;
}

export interface ExecOptions extends IoOptions, Omit<ExecArgs, 'processFile' | 'preserveFds' | 'consoleSocket'> {
  /**
   * The process to run, or the JSON of one. It arrives complete: nothing is taken from config.json.
   */
  readonly process: Process | Uint8Array;
  readonly extraFds?: readonly number[] | undefined;
}

export interface RestoreOptions extends IoOptions, Omit<RestoreArgs, 'pidFile' | 'consoleSocket' | 'noSubreaper'> {
  /** Default `<bundle>/init.pid`. */
  readonly pidFile?: string | undefined;
}

export interface CheckpointOptions extends CallOptions, CheckpointArgs {}

export interface RuntimeVersion {
  /** `runc`, `crun`, ... as the runtime calls itself. */
  readonly name: string;
  /** `1.1.5+ds1` */
  readonly version: string;
  readonly commit: string | undefined;
  /** Of the runtime specification. */
  readonly spec: string | undefined;
}

/**
 * How long the clean-up after an interrupted create may take: `delete --force` itself polls for up
 * to 10 s.
 */
const DISCARD_TIMEOUT_MS = 15_000;

/**
 * One OCI runtime with one state directory; cheap to create, so make one per container to give each
 * its own log.
 */
export class Runc {
  readonly kind: RuntimeKind;
  readonly #abilities: RuntimeAbilities;
  readonly #options: RuncOptions;
  readonly #binary: string;
  readonly #runner: RuncRunner;

  constructor(options: RuncOptions) {
    this.#options = options;
    this.#binary = options.binary || 'runc';
    this.kind = options.kind ?? runtimeKindOf(this.#binary);
    this.#abilities = RUNTIME_ABILITIES[this.kind];
    this.#runner = new RuncRunner(options.spawner, options.env ?? {});
  }

  /**
   * Creates a container; its process waits to be started.
   * @returns the pid of its init
   */
  async create(id: string, options: CreateOptions): Promise<number> {
    checkId(id);
    const { stdio, extraFds, timeoutMs, pidFile = join(options.bundle, 'init.pid'), ...rest } = options;
    const args = createArgs(id, { ...rest, pidFile, preserveFds: extraFds?.length });
    // Only what this call made may be removed when it is interrupted, never a container that was
    // there before.
    const isFresh = !existsSync(this.#stateDir(id));
    // One of an earlier process by the same name must not be taken for this one's.
    removeIfThere(pidFile);
    try {
      await this.#run(id, args, { timeoutMs, cwd: options.bundle, extraFds, ...processIo(options) });
    } catch (error) {
      if (isFresh && error instanceof RuncError && wasInterrupted(error)) await this.#discard(id, error);
      throw error;
    }
    return pidOf(id, 'create', pidFile);
  }

  /** Lets a created container's process run. */
  async start(id: string, options: CallOptions = {}): Promise<void> {
    await this.#run(checkId(id), ['start', id], options);
  }

  /**
   * Runs a further process in a container, detached.
   * @returns its pid
   */
  async exec(id: string, options: ExecOptions): Promise<number> {
    checkId(id);
    const { process, stdio, extraFds, timeoutMs, ...rest } = options;
    const json = process instanceof Uint8Array ? process : JSON.stringify(process);
    removeIfThere(options.pidFile);
    // A nameless file: nothing of the process's environment is left behind, whoever dies. The
    // runtime gives it to nobody.
    const processFd = openScratch(json);
    const childFd = 3 + (extraFds?.length ?? 0);
    try {
      const processFile = `/proc/self/fd/${childFd}`;
      const args = execArgs(id, { ...rest, processFile, preserveFds: extraFds?.length });
      const fds = [...(extraFds ?? []), processFd];
      await this.#run(id, args, { timeoutMs, extraFds: fds, ...processIo(options) });
    } catch (error) {
      if (error instanceof RuncError && wasInterrupted(error)) await this.#killStarted(options.pidFile);
      throw error;
    } finally {
      closeSync(processFd);
    }
    return pidOf(id, 'exec', options.pidFile);
  }

  /**
   * Signals the container's init, or with `all` every process of it.
   * @throws RuncError NotFound when init has ended (`process already finished`) or the container is
   *   unknown (`no such container`)
   */
  async kill(
    id: string,
    signal: number,
    options: CallOptions & { readonly all?: boolean | undefined } = {},
  ): Promise<void> {
    const all = options.all ? ['--all'] : [];
    await this.#run(checkId(id), ['kill', ...all, id, String(signal)], options);
  }

  /**
   * Removes a stopped container, or with `force` any.
   * @returns false when there was no such container
   */
  async delete(id: string, options: CallOptions & { readonly force?: boolean | undefined } = {}): Promise<boolean> {
    const { force, ...rest } = options;
    try {
      await this.#run(checkId(id), ['delete', ...(force ? ['--force'] : []), id], rest);
      return true;
    } catch (error) {
      // A container that left by itself (checkpoint with exit) or was deleted by another hand is
      // deleted all the same.
      if (error instanceof RuncError && saysNoContainer(error.runtimeMessage)) return false;
      throw error;
    }
  }

  async pause(id: string, options: CallOptions = {}): Promise<void> {
    await this.#run(checkId(id), ['pause', id], options);
  }

  async resume(id: string, options: CallOptions = {}): Promise<void> {
    await this.#run(checkId(id), ['resume', id], options);
  }

  /** The pids of the container's processes, as seen by the caller. */
  async ps(id: string, options: CallOptions = {}): Promise<number[]> {
    const pids = await this.#query<number[] | null>(checkId(id), ['ps', '--format', 'json', id], options);
    return pids ?? [];
  }

  /** Changes limits; what is absent stays. */
  async update(id: string, resources: LinuxResources | Uint8Array, options: CallOptions = {}): Promise<void> {
    const input = resources instanceof Uint8Array ? resources : JSON.stringify(resources);
    const args = ['update', `--resources=${this.#abilities.stdinPath}`, id];
    await this.#run(checkId(id), args, { ...options, input });
  }

  /** @throws RuncError NotFound for an unknown container */
  async state(id: string, options: CallOptions = {}): Promise<ContainerState> {
    return this.#query<ContainerState>(checkId(id), ['state', id], options);
  }

  /** All containers of this root. */
  async list(options: CallOptions = {}): Promise<ContainerState[]> {
    // runc since 1.3 calls a root that nobody has used yet an error.
    if (this.#options.root !== undefined && !existsSync(this.#options.root)) return [];
    const states = await this.#query<ContainerState[] | null>('', ['list', '--format', 'json'], options);
    return states ?? [];
  }

  /**
   * One reading of `events --stats`, in the runtime's own shape.
   * @throws LaminaError Unimplemented for crun, which has no such command
   */
  async events(id: string, options: CallOptions = {}): Promise<Record<string, unknown>> {
    if (!this.#abilities.hasEvents) {
      throw new LaminaError(Code.Unimplemented, `${this.kind} has no command "events"`, { subject: id });
    }
    return this.#query<Record<string, unknown>>(checkId(id), ['events', '--stats', id], options);
  }

  /** Saves a container with criu. */
  async checkpoint(id: string, options: CheckpointOptions): Promise<void> {
    await this.#run(checkId(id), checkpointArgs(id, options), { timeoutMs: options.timeoutMs });
  }

  /**
   * Starts a container from a checkpoint, detached.
   * @returns the pid of its init
   */
  async restore(id: string, options: RestoreOptions): Promise<number> {
    const { stdio, timeoutMs, pidFile = join(options.bundle, 'init.pid'), ...rest } = options;
    const noSubreaper = this.#abilities.hasNoSubreaper;
    removeIfThere(pidFile);
    const args = restoreArgs(checkId(id), { ...rest, pidFile, noSubreaper });
    await this.#run(id, args, { timeoutMs, cwd: options.bundle, ...processIo(options) });
    return pidOf(id, 'restore', pidFile);
  }

  /**
   * What the runtime supports; runtimes older than runc 1.1 and crun 1.8.6 do not know the command.
   */
  async features(options: CallOptions = {}): Promise<Features> {
    return this.#query<Features>('', ['features'], options);
  }

  async version(options: CallOptions = {}): Promise<RuntimeVersion> {
    return parseVersion(await this.#run('', ['--version'], { ...options, output: 'split' }));
  }

  /** Where the runtime records this container. */
  #stateDir(id: string): string {
    return join(this.#options.root || this.#abilities.defaultRoot, id);
  }

  async #run(id: string, args: readonly string[], options: Partial<Run> = {}): Promise<string> {
    const { root, log, systemdCgroup, debug, cwd, mayRun } = this.#options;
    const command = args[0] ?? '';
    return this.#runner.run({
      ...options,
      cwd: options.cwd ?? cwd,
      mayLackCwd: options.cwd === undefined,
      mayRun,
      id,
      command,
      log,
      root,
      timeoutMs: options.timeoutMs ?? this.#options.timeoutMs,
      output: options.output ?? 'joined',
      argv: (logPath) => [...globalArgs({ binary: this.#binary, root, log: logPath, systemdCgroup, debug }), ...args],
    });
  }

  async #query<T>(id: string, args: readonly string[], options: CallOptions): Promise<T> {
    const text = await this.#run(id, args, { ...options, output: 'split' });
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      const shown = text.length > 200 ? `${text.slice(0, 200)}...` : text;
      const message = `${this.#binary} ${args[0]} printed no JSON (${messageOf(error)}): ${JSON.stringify(shown)}`;
      throw new LaminaError(Code.Internal, message, { subject: id, cause: error });
    }
  }

  /**
   * Ends the process of an exec that was interrupted after it had started it; nobody would know of
   * it.
   */
  async #killStarted(pidFile: string): Promise<void> {
    if (!existsSync(pidFile)) return;
    try {
      const pid = readPidFile(pidFile);
      if (this.#options.spawner.killStray === undefined) process.kill(pid, 'SIGKILL');
      else await this.#options.spawner.killStray(pid);
    } catch {
      // It has ended by itself, or the pid is only half written: the error of the exec is the one
      // to report.
    }
  }

  /**
   * Removes what an interrupted create left; throws the create's error with the result added when
   * that fails.
   */
  async #discard(id: string, failed: RuncError): Promise<void> {
    let trouble = '';
    // The directory is made first and removed last: without it there is nothing to delete.
    if (!existsSync(this.#stateDir(id))) return;
    try {
      await this.delete(id, { force: true, timeoutMs: DISCARD_TIMEOUT_MS });
    } catch (error) {
      trouble = messageOf(error);
    }
    if (trouble === '' && existsSync(this.#stateDir(id))) trouble = `${this.#stateDir(id)} is still there`;
    if (trouble === '') return;
    const message = `${failed.message}; removing the half-made container failed too: ${trouble}`;
    throw new RuncError(failed.code, message, { ...failed, subject: id, cause: failed });
  }
}

/**
 * A new process's streams: its own descriptors, else with a console the runtime's output is ours to
 * read.
 */
function processIo(options: IoOptions): { stdio?: Stdio | undefined; output: Output } {
  if (options.consoleSocket !== undefined) return { output: 'joined' };
  return { stdio: options.stdio, output: 'none' };
}

/**
 * The pid the runtime has written down.
 * @throws LaminaError DataLoss when it has not, though it reported success
 */
function pidOf(id: string, command: string, pidFile: string): number {
  try {
    return readPidFile(pidFile);
  } catch (error) {
    // Never NotFound: to clients that would say that the container is gone.
    const message = `${failurePrefix(command)}: it reported success, but ${messageOf(error)}`;
    throw new LaminaError(Code.DataLoss, message, { subject: id, cause: error });
  }
}

function wasInterrupted(error: RuncError): boolean {
  return error.signal !== undefined || error.code === Code.DeadlineExceeded;
}

// The id is an argument and a directory name to the runtime.
function checkId(id: string): string {
  if (/^[\w+.][\w+.-]*$/.test(id) && id !== '.' && id !== '..') return id;
  throw new LaminaError(Code.InvalidArgument, `invalid container id ${JSON.stringify(id)}`, { subject: id });
}

function parseVersion(text: string): RuntimeVersion {
  const [name = '', version = ''] = (/^(\S+) version (\S+)/m.exec(text) ?? []).slice(1);
  const field = (key: string) => new RegExp(`^${key}: (\\S+)`, 'm').exec(text)?.[1];
  return { name, version, commit: field('commit'), spec: field('spec') };
}
