/**
 * The keeper's children as an engine deals with them: the programs that the keeper was told to run, by this engine or by a predecessor, and the processes
 * that those leave behind, which become the keeper's children too.
 *
 * INVARIANT: a program is signalled only until its exit was reported, so never a process that has its pid since.
 */
import { closeSync } from 'node:fs';
import { Code, codeOf, createDeferred, type Deferred, isErrno } from '../base/index.js';
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
  /** -1 when there was no room for a descriptor. */
  readonly pidfd: number;
}

export interface KeeperChildrenOptions {
  readonly requests: KeeperRequests;
  /** Sends what was asked for so far. */
  readonly flush: () => void;
}

const NUL = Buffer.of(0);
/** What the names of programs begin with in the keeper. */
const PROGRAM = 'run:';

export class KeeperChildren implements Spawner {
  readonly #requests: KeeperRequests;
  readonly #flush: () => void;
  /** pid of a program that lives → its exit; removed when it was reaped. */
  readonly #running = new Map<number, Deferred<ExitStatus>>();
  /** pid → a program that a predecessor had spawned and that lives; removed when it was reaped, or taken over. */
  readonly #inherited = new Map<number, { readonly name: string; readonly exited: Promise<ExitStatus> }>();
  #isReplaying = true;

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
    void exited.then(() => {
      if (pidfd >= 0) closeSync(pidfd);
    });
    return {
      pid,
      exited,
      kill: (signal) => this.#signalRunning(pid, () => signalHeld({ pid, pidfd }, signal)),
      // The keeper makes every program it spawns the leader of a group of its own.
      killGroup: (signal) => this.#signalRunning(pid, () => binding().kill(-pid, signal)),
    };
  }

  /**
   * Waits for the programs that a predecessor engine had spawned for a container (their names end with its id): they are the keeper's children
   * and go on without an engine. What takes longer than `timeoutMs` is killed.
   */
  async inheritedRuns(id: string, timeoutMs: number): Promise<void> {
    const runs = [...this.#inherited].filter(([, { name }]) => name.endsWith(` ${id}`));
    const timer = setTimeout(() => {
      for (const [pid] of runs) this.#signalRunning(pid, () => binding().kill(-pid, SIGKILL));
    }, timeoutMs);
    await Promise.all(runs.map(([, { exited }]) => exited));
    clearTimeout(timer);
  }

  /** Of programs that a predecessor engine had spawned and that live and nobody has taken over, those whose names begin so. */
  inheritedNames(prefix: string): string[] {
    const names = [...this.#inherited.values()].map(({ name }) => name.slice(PROGRAM.length));
    return names.filter((name) => name.startsWith(prefix));
  }

  /** Takes over a program of this name that a predecessor engine had spawned and that lives, of several the last. */
  inheritedRun(name: string): SpawnedProcess | undefined {
    const [pid, run] = [...this.#inherited].findLast(([, run]) => run.name === PROGRAM + name) ?? [];
    if (pid === undefined || run === undefined) return undefined;
    this.#inherited.delete(pid);
    // By a pidfd, so that no other process can be meant.
    const held = this.adopt(pid, run.name).catch(() => ({ pid, pidfd: -1 }));
    void Promise.all([held, run.exited]).then(([{ pidfd }]) => {
      if (pidfd >= 0) closeSync(pidfd);
    });
    return {
      pid,
      exited: run.exited,
      kill: (signal) => void held.then((process) => this.#signalRunning(pid, () => signalHeld(process, signal))),
    };
  }

  /**
   * Kills a process that a killed runtime had started and nobody was told of. Anything else, whatever pid the runtime has noted, is let be: what is no child
   * of the keeper, or has a name there.
   */
  async killStray(pid: number): Promise<void> {
    try {
      const { pidfd } = await this.adopt(pid, 'stray');
      if (pidfd < 0) return;
      signalHeld({ pid, pidfd }, SIGKILL);
      closeSync(pidfd);
    } catch (error) {
      if (codeOf(error) !== Code.NotFound) throw error;
    }
  }

  /**
   * Gives a name to a child that the OCI runtime started, and holds it by a pidfd which the caller closes.
   * @throws LaminaError NotFound when it has been reaped already (its exit report was delivered before), never was a child, or has another name
   */
  adopt(pid: number, name: string): Promise<HeldProcess> {
    return this.#requests.send({ type: LM_MSG_ADOPT, arg: pid, fields: [name] }, heldProcess);
  }

  /** The keeper's replay is over. */
  replayed(): void {
    this.#isReplaying = false;
  }

  /** The keeper tells, in its replay, of a child that lives. */
  inherit(pid: number, name: string): void {
    if (!name.startsWith(PROGRAM)) return;
    this.#inherited.set(pid, { name, exited: this.#begun(pid) });
  }

  /** A child was reaped. @returns true for a program, whose report nobody else needs */
  exited(report: ExitReport): boolean {
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

  #signalRunning(pid: number, send: () => void): void {
    if (!this.#running.has(pid)) return;
    try {
      send();
    } catch (error) {
      // It has ended in this moment; its exit report is on the way.
      if (!isErrno(error, 'ESRCH')) throw error;
    }
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

function heldProcess(pid: number, fds: number[]): HeldProcess {
  return { pid, pidfd: fds.shift() ?? -1 };
}

/** Signals a child of the keeper that was not reaped when this was last known; by its pid only if the keeper had no descriptor left for a pidfd. */
function signalHeld({ pid, pidfd }: HeldProcess, signal: number): void {
  if (pidfd >= 0) binding().pidfdSendSignal(pidfd, signal);
  else binding().kill(pid, signal);
}
