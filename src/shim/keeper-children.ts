/**
 * The keeper's children as an engine deals with them: the programs that the keeper was told to run,
 * by this engine or by a predecessor, and the processes that those leave behind, which become the
 * keeper's children too.
 *
 * INVARIANT: no process is ever signalled by its number, which may be another's by then; always by
 * a pidfd. The keeper sends one with a child's pid, unless it has no descriptor left; then one is
 * opened here (`#hold`), and without room for that either, the signal waits or fails.
 */
import { closeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import {
  Code,
  codeOf,
  createDeferred,
  type Deferred,
  isErrno,
  LaminaError,
  messageOf,
  startTimeLimit,
} from '../base/index.js';
import type { ExitStatus, SpawnedProcess, Spawner, SpawnRequest } from '../oci/index.js';
import {
  binding,
  LM_F_CLEAR_ENV,
  LM_F_DIE_WITH_KEEPER,
  LM_MSG_ADOPT,
  LM_MSG_SPAWN,
  type OutgoingMessage,
  SIGKILL,
} from '../sys/index.js';
import type { ExitReport } from './keeper-messages.js';
import type { KeeperRequests } from './keeper-requests.js';

/** A process of the keeper that this engine holds by pidfd. */
export interface HeldProcess {
  readonly pid: number;
  readonly pidfd: number;
}

/** A program that the keeper runs. */
interface Program {
  readonly pid: number;
  /** In the keeper. */
  readonly name: string;
  /** Ours; undefined while there was no room for one. */
  pidfd: number | undefined;
}

export interface KeeperChildrenOptions {
  readonly requests: KeeperRequests;
  /** Sends what was asked for so far. */
  readonly flush: () => void;
}

const NUL = Buffer.of(0);
/** What the names of programs begin with in the keeper. */
const PROGRAM = 'run:';
/** How often a program is tried to be signalled while there is no descriptor to do it with. */
const NO_ROOM_MS = 100;
const STRAY_TRIES = 20;

export class KeeperChildren implements Spawner {
  readonly #requests: KeeperRequests;
  readonly #flush: () => void;
  /** pid of a program that lives → its exit; removed when it was reaped. */
  readonly #running = new Map<number, Deferred<ExitStatus>>();
  /**
   * pid → a program that a predecessor had spawned and that lives; removed when it was reaped, or
   * taken over.
   */
  readonly #inherited = new Map<number, { readonly name: string; readonly exited: Promise<ExitStatus> }>();
  #isReplaying = true;
  /**
   * pid → name of any other child that had one when the keeper was linked up, and was not reaped
   * since.
   */
  readonly #processes = new Map<number, string>();

  constructor({ requests, flush }: KeeperChildrenOptions) {
    this.#requests = requests;
    this.#flush = flush;
  }

  /** Runs a program as the keeper's child. */
  async spawn(request: SpawnRequest): Promise<SpawnedProcess> {
    const spawned = this.#requests.send(spawnMessage(request), (pid, fds) => ({
      pid,
      pidfd: fds.shift() ?? -1,
      exited: this.#begun(pid),
    }));
    // It takes longer than anything else that is to be done in this turn.
    this.#flush();
    const { pid, pidfd, exited } = await spawned;
    const program: Program = { pid, name: PROGRAM + request.name, pidfd: pidfd < 0 ? undefined : pidfd };
    return this.#handle(program, exited);
  }

  /**
   * Waits for the programs that a predecessor engine had spawned for a container (their names end
   * with its id): they are the keeper's children and go on without an engine. What takes longer
   * than `timeoutMs`, not counting the time in which it may not run, is killed.
   */
  async inheritedRuns(id: string, timeoutMs: number, mayRun: () => boolean): Promise<void> {
    const runs = [...this.#inherited].filter(([, { name }]) => name.endsWith(` ${id}`));
    const stop = startTimeLimit(timeoutMs, mayRun, () => {
      for (const [pid, { name, exited }] of runs) {
        this.#handle({ pid, name, pidfd: undefined }, exited).killGroup?.(SIGKILL);
      }
    });
    await Promise.all(runs.map(([, { exited }]) => exited));
    stop();
  }

  /**
   * Of programs that a predecessor engine had spawned and that live and nobody has taken over,
   * those whose names begin so.
   */
  inheritedNames(prefix: string): string[] {
    const names = [...this.#inherited.values()].map(({ name }) => name.slice(PROGRAM.length));
    return names.filter((name) => name.startsWith(prefix));
  }

  /**
   * Takes over a program of this name that a predecessor engine had spawned and that lives, of
   * several the last.
   */
  inheritedRun(name: string): SpawnedProcess | undefined {
    const [pid, run] = [...this.#inherited].findLast(([, run]) => run.name === PROGRAM + name) ?? [];
    if (pid === undefined || run === undefined) return undefined;
    this.#inherited.delete(pid);
    return this.#handle({ pid, name: run.name, pidfd: undefined }, run.exited);
  }

  /**
   * Of processes other than programs that had a name in the keeper before this engine came, and
   * live, those whose names begin so.
   */
  *inheritedProcesses(prefix: string): IterableIterator<[name: string, pid: number]> {
    for (const [pid, name] of this.#processes) if (name.startsWith(prefix)) yield [name, pid];
  }

  /**
   * Kills a process that a killed runtime had started and nobody was told of. Anything else,
   * whatever pid the runtime has noted, is let be: what is no child of the keeper, or has a name
   * there.
   */
  async killStray(pid: number): Promise<void> {
    for (let tries = 1; ; tries += 1) {
      try {
        const held = await this.adopt(pid, 'stray');
        this.signal(held, SIGKILL);
        closeSync(held.pidfd);
        return;
      } catch (error) {
        if (codeOf(error) === Code.NotFound) return;
        if (codeOf(error) !== Code.ResourceExhausted || tries === STRAY_TRIES) throw error;
        await delay(NO_ROOM_MS);
      }
    }
  }

  /**
   * Gives a name to a child that the OCI runtime started, or that has this name already, and holds
   * it by a pidfd which the caller closes.
   * @throws LaminaError NotFound when it has been reaped already (its exit report was delivered
   *   before), never was a child, or has another name; ResourceExhausted when neither the keeper
   *   nor this engine has room for a descriptor: the child has its name all the same
   */
  async adopt(pid: number, name: string): Promise<HeldProcess> {
    const pidfd = await this.#ask(pid, name);
    return { pid, pidfd: pidfd ?? (await this.#hold(pid, name)) };
  }

  /** Signals a process that is held; does nothing once it was reaped. */
  signal({ pidfd }: HeldProcess, signal: number): void {
    ifThere(() => binding().pidfdSendSignal(pidfd, signal));
  }

  /** The keeper's replay is over. */
  replayed(): void {
    this.#isReplaying = false;
  }

  /** The keeper tells, in its replay, of a child that lives. */
  inherit(pid: number, name: string): void {
    if (name.startsWith(PROGRAM)) this.#inherited.set(pid, { name, exited: this.#begun(pid) });
    else if (name !== '') this.#processes.set(pid, name);
  }

  /** A child was reaped. @returns true for a program, whose report nobody else needs */
  exited(report: ExitReport): boolean {
    if (!this.#isReplaying) this.#processes.delete(report.pid);
    if (!report.name.startsWith(PROGRAM)) return false;
    // What is replayed was reaped before: a child that lives under that pid is another.
    if (this.#isReplaying) return true;
    this.#running.get(report.pid)?.resolve(report);
    this.#running.delete(report.pid);
    this.#inherited.delete(report.pid);
    return true;
  }

  /** The keeper is gone, and its children with it. */
  end(): void {
    for (const [pid, exited] of this.#running) {
      exited.resolve({ code: 255, signal: undefined, timeNs: BigInt(Date.now()) * 1_000_000n });
      this.#running.delete(pid);
    }
  }

  #begun(pid: number): Promise<ExitStatus> {
    const exited = createDeferred<ExitStatus>();
    this.#running.set(pid, exited);
    return exited.promise;
  }

  #handle(program: Program, exited: Promise<ExitStatus>): SpawnedProcess {
    void exited.then(() => {
      if (program.pidfd !== undefined) closeSync(program.pidfd);
      program.pidfd = undefined;
    });
    const { pid } = program;
    return {
      pid,
      exited,
      kill: (signal) => this.#signal(program, (pidfd) => binding().pidfdSendSignal(pidfd, signal)),
      // The keeper makes every program it spawns the leader of a group of its own.
      killGroup: (signal) => this.#signal(program, (pidfd) => binding().pidfdSignalGroup(pidfd, pid, signal)),
    };
  }

  #signal(program: Program, send: (pidfd: number) => void): void {
    if (!this.#running.has(program.pid)) return;
    const { pidfd } = program;
    if (pidfd !== undefined) ifThere(() => send(pidfd));
    else void this.#signalOnceHeld(program, send);
  }

  /** Whoever kills a program counts on it, and its end may be what gives descriptors back. */
  async #signalOnceHeld(program: Program, send: (pidfd: number) => void): Promise<void> {
    const exited = this.#running.get(program.pid);
    while (exited !== undefined && this.#running.get(program.pid) === exited) {
      try {
        const pidfd = program.pidfd ?? (await this.#hold(program.pid, program.name));
        if (this.#running.get(program.pid) !== exited) {
          closeSync(pidfd);
          return;
        }
        program.pidfd = pidfd;
        ifThere(() => send(pidfd));
        return;
      } catch (error) {
        if (codeOf(error) !== Code.ResourceExhausted) return;
        await delay(NO_ROOM_MS);
      }
    }
  }

  /**
   * A pidfd that is opened here. The keeper, whose child it is, says after that that it has not
   * reaped it: so it had not before, and the number was nobody else's.
   * @throws LaminaError as adopt
   */
  async #hold(pid: number, name: string): Promise<number> {
    const opened = openPidfd(pid);
    try {
      const sent = await this.#ask(pid, name);
      if (sent !== undefined) closeSync(sent);
      return opened;
    } catch (error) {
      closeSync(opened);
      throw error;
    }
  }

  /**
   * @returns the pidfd that the keeper has sent, if it had one left, and this process room for it
   */
  #ask(pid: number, name: string): Promise<number | undefined> {
    return this.#requests.send({ type: LM_MSG_ADOPT, arg: pid, fields: [name] }, (_, fds) => fds.shift());
  }
}

function openPidfd(pid: number): number {
  try {
    return binding().pidfdOpen(pid);
  } catch (error) {
    const why = `hold process ${pid}: ${messageOf(error)}`;
    throw new LaminaError(codeOf(error), why, { subject: String(pid), cause: error });
  }
}

function ifThere(send: () => void): void {
  try {
    send();
  } catch (error) {
    // It has ended in this moment; its exit report is on the way.
    if (!isErrno(error, 'ESRCH')) throw error;
  }
}

function spawnMessage(request: SpawnRequest): OutgoingMessage {
  const fds = request.fds ?? [];
  const map = Buffer.alloc(4 * fds.length);
  fds.forEach(([, childFd], index) => {
    map.writeInt32LE(childFd, 4 * index);
  });
  const env = Object.entries(request.env ?? {}).map(([key, value]) => (value === undefined ? key : `${key}=${value}`));
  let flags = 0;
  if (request.clearEnv === true) flags |= LM_F_CLEAR_ENV;
  if (request.dieWithParent === true) flags |= LM_F_DIE_WITH_KEEPER;
  return {
    type: LM_MSG_SPAWN,
    flags,
    fields: [PROGRAM + request.name, request.cwd ?? '/', nulTerminated(request.argv), nulTerminated(env), map],
    fds: fds.map(([fd]) => fd),
  };
}

/** Field lists of the protocol are NUL-terminated strings. */
function nulTerminated(strings: readonly string[]): Buffer {
  return Buffer.concat(strings.flatMap((text) => [Buffer.from(text), NUL]));
}
