/** One run of the OCI runtime: descriptors, log, time limit, and what a failure is called. */
import { closeSync, existsSync, fstatSync, openSync, statfsSync } from 'node:fs';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { Code, codeOf, messageOf, randomName, startTimeLimit, waitAtMost } from '../base/index.js';
import { removeIfThere } from './bundle.js';
import { describeFailure, failurePrefix, RuncError, runtimeMessageOf } from './runc-error.js';
import { readRuncLog, runcLogSize } from './runc-log.js';
import { openScratch, readScratchTail, scratchDir } from './scratch.js';
import type { ExitStatus, SpawnedProcess, Spawner } from './spawner.js';

/** Where fd 1 and 2 go: one file for both, a file each, or (none) where `stdio` says. */
export type Output = 'joined' | 'split' | 'none';

export interface Run {
  readonly id: string;
  readonly command: string;
  /** The argument vector, given the log's path. */
  readonly argv: (log: string) => readonly string[];
  readonly output: Output;
  readonly log?: string | undefined;
  /** Where the runtime keeps its state. */
  readonly root?: string | undefined;
  /** Where it is gone, the spawner's own. */
  readonly cwd?: string | undefined;
  /** Runs elsewhere when `cwd` is gone, in place of failing. */
  readonly mayLackCwd?: boolean;
  /** False while what the run waits for is kept from running: no time of the limit passes then. */
  readonly mayRun?: (() => boolean) | undefined;
  readonly timeoutMs?: number | undefined;
  /** With output `none`: the child's 0, 1 and 2. */
  readonly stdio?: readonly (number | undefined)[] | undefined;
  /** The child's descriptors from 3 on. */
  readonly extraFds?: readonly number[] | undefined;
  /** What it can read from its standard input. */
  readonly input?: Uint8Array | string | undefined;
}

const TAIL_BYTES = 4096;
/**
 * What a run may print where it is kept in memory: a list of all containers is some hundred KiB.
 */
const OUTPUT_BYTES = 16 << 20;
const OUTPUT_CHECK_MS = 100;
/**
 * How long a killed process may take to be gone before we stop waiting for it (it may sleep in the
 * kernel).
 */
const REAP_TIMEOUT_MS = 2000;

// sd_notify and socket activation are the daemon's own affairs: runc would wait for the one and
// pass on the other.
const REMOVED_ENV = {
  NOTIFY_SOCKET: undefined,
  LISTEN_FDS: undefined,
  LISTEN_PID: undefined,
  LISTEN_FDNAMES: undefined,
};

/** Logs some run is writing now; removed by the end of that run. */
const logsInUse = new Set<string>();

interface RunLog {
  readonly path: string;
  readonly offset: number;
  release(): void;
}

// Two runs at once must not read each other's errors: the second gets a log of its own.
function takeLog(shared: string | undefined): RunLog {
  if (shared !== undefined && !logsInUse.has(shared)) {
    logsInUse.add(shared);
    return { path: shared, offset: runcLogSize(shared), release: () => logsInUse.delete(shared) };
  }
  const path = `${shared ?? join(scratchDir(), 'lamina-runc-log')}.${randomName()}`;
  // Made here: where others may write, too, nobody can put a link in its place any more.
  closeSync(openSync(path, 'wx', 0o600));
  return { path, offset: 0, release: () => removeIfThere(path) };
}

/** Runs the OCI runtime. */
export class RuncRunner {
  readonly #spawner: Spawner;
  readonly #env: Readonly<Record<string, string | undefined>>;

  constructor(spawner: Spawner, env: Readonly<Record<string, string | undefined>>) {
    this.#spawner = spawner;
    this.#env = { ...env, ...REMOVED_ENV };
  }

  /**
   * Runs to the end.
   * @returns what was printed to standard output, with output `split`
   * @throws RuncError; DeadlineExceeded for one that took too long, ResourceExhausted for one that
   *   printed without end: both have been killed
   */
  async run(run: Run): Promise<string> {
    const log = takeLog(run.log);
    const scratch: number[] = [];
    const open = (content?: Uint8Array | string): number => {
      const fd = openScratch(content);
      scratch.push(fd);
      return fd;
    };
    try {
      const fds: [number, number][] = [];
      const map = (fd: number | undefined, childFd: number): void => {
        if (fd !== undefined) fds.push([fd, childFd]);
      };
      let stdout: number | undefined;
      let stderr: number | undefined;
      if (run.output === 'none') {
        run.stdio?.forEach(map);
      } else {
        stdout = open();
        stderr = run.output === 'split' ? open() : stdout;
        if (run.input !== undefined) map(open(run.input), 0);
        map(stdout, 1);
        map(stderr, 2);
      }
      for (const [index, fd] of (run.extraFds ?? []).entries()) map(fd, 3 + index);

      const argv = run.argv(log.path);
      const child = await this.#spawn(run, argv, fds);
      const printed = [stdout, stderr].filter((fd) => fd !== undefined);
      const status = await waitFor(child, run, () => printed.some((fd) => fstatSync(fd).size > OUTPUT_BYTES));
      if (typeof status !== 'string' && status.code === 0 && status.signal === undefined) {
        return run.output === 'split' && stdout !== undefined ? readScratchTail(stdout, OUTPUT_BYTES) : '';
      }
      throw failureOf(run, argv, status, log, stderr === undefined ? '' : readScratchTail(stderr, TAIL_BYTES));
    } finally {
      for (const fd of scratch) closeSync(fd);
      log.release();
    }
  }

  async #spawn(run: Run, argv: readonly string[], fds: readonly [number, number][]): Promise<SpawnedProcess> {
    const name = [argv[0], run.command, run.id].join(' ').trim();
    const request = { name, argv, env: this.#env, fds, dieWithParent: true };
    const cwd = run.cwd !== undefined && (!run.mayLackCwd || existsSync(run.cwd)) ? run.cwd : undefined;
    try {
      if (cwd === undefined) return await this.#spawner.spawn(request);
      try {
        return await this.#spawner.spawn({ ...request, cwd });
      } catch (error) {
        // Removed in this moment.
        if (!run.mayLackCwd || codeOf(error) !== Code.NotFound || existsSync(cwd)) throw error;
        return await this.#spawner.spawn(request);
      }
    } catch (error) {
      throw this.#spawnError(run, argv, error);
    }
  }

  #spawnError(run: Run, argv: readonly string[], error: unknown): RuncError {
    const binary = argv[0] ?? '';
    const code = codeOf(error);
    const path = this.#env['PATH'] ?? process.env['PATH'] ?? '';
    let why = messageOf(error);
    if (code === Code.NotFound)
      why = binary.includes('/') ? 'no such file or directory' : `executable file not found in $PATH (${path})`;
    else if (code === Code.PermissionDenied) why = 'permission denied';
    // Never NotFound: to clients of kill and delete that would say that the container is gone.
    const outerCode = code === Code.NotFound || code === Code.PermissionDenied ? Code.FailedPrecondition : code;
    return new RuncError(outerCode, `${failurePrefix(run.command)}: exec: "${binary}": ${why}`, {
      ...NOTHING_KNOWN,
      command: run.command,
      args: argv,
      subject: run.id,
      cause: error,
    });
  }
}

const NOTHING_KNOWN = { exitCode: undefined, signal: undefined, stderrTail: '', logEntries: [], runtimeMessage: '' };

/** Why a process was killed. */
type Excess = 'time' | 'output';

/** The exit status, or why the process had to be killed. */
async function waitFor(
  child: SpawnedProcess,
  { timeoutMs = 0, mayRun = () => true }: Pick<Run, 'timeoutMs' | 'mayRun'>,
  hasPrintedTooMuch: () => boolean,
): Promise<ExitStatus | Excess> {
  let watch: NodeJS.Timeout | undefined;
  let stop: (() => void) | undefined;
  const excess = new Promise<Excess>((resolve) => {
    watch = setInterval(() => {
      if (hasPrintedTooMuch()) resolve('output');
    }, OUTPUT_CHECK_MS);
    stop = startTimeLimit(timeoutMs, mayRun, () => resolve('time'));
  });
  const status = await Promise.race([child.exited, excess]);
  clearInterval(watch);
  stop?.();
  if (typeof status !== 'string') return status;
  if (child.killGroup !== undefined) child.killGroup(constants.signals.SIGKILL);
  else child.kill(constants.signals.SIGKILL);
  await waitAtMost(child.exited, REAP_TIMEOUT_MS);
  return status;
}

function failureOf(
  run: Run,
  argv: readonly string[],
  status: ExitStatus | Excess,
  log: RunLog,
  output: string,
): RuncError {
  const { part, trouble } = readRuncLog(log.path, log.offset);
  const signal = typeof status === 'string' ? constants.signals.SIGKILL : status.signal;
  const exitCode = typeof status === 'string' || signal !== undefined ? undefined : status.code;
  const failure = { command: run.command, exitCode, signal, output, logEntries: part.entries, logTrouble: trouble };
  const { code, message } =
    typeof status === 'string'
      ? describeExcess(run, argv, status)
      : withDisk(describeFailure(failure), [dirname(log.path), run.root]);
  return new RuncError(code, message, {
    command: run.command,
    args: argv,
    exitCode,
    signal,
    stderrTail: output,
    logEntries: part.entries,
    runtimeMessage: runtimeMessageOf(failure),
    subject: run.id,
  });
}

/**
 * With less than this the runtime cannot store what it has to; it often fails without saying why.
 */
const LEAST_BYTES = 64 * 1024;
const LEAST_FILES = 16;

/** Says so when a failure nobody has explained may be for want of room on a disk. */
function withDisk(
  failure: { readonly code: Code; readonly message: string },
  places: readonly (string | undefined)[],
): { readonly code: Code; readonly message: string } {
  if (failure.code !== Code.Unknown) return failure;
  const full = places.find((place) => place !== undefined && isFull(place));
  if (full === undefined) return failure;
  return { code: Code.ResourceExhausted, message: `${failure.message}: no space left on device: ${full}` };
}

function isFull(place: string): boolean {
  try {
    const { bavail, bsize, files, ffree } = statfsSync(place);
    // Some file systems do not count files.
    return bavail * bsize < LEAST_BYTES || (files > 0 && ffree < LEAST_FILES);
  } catch {
    // It is gone, or was never made: then that is not the reason.
    return false;
  }
}

function describeExcess(run: Run, argv: readonly string[], excess: Excess): { code: Code; message: string } {
  const what = `${failurePrefix(run.command)}: ${[argv[0], run.command, run.id].join(' ').trim()}`;
  if (excess === 'output') {
    const message = `${what} printed more than ${OUTPUT_BYTES >> 20} MiB and was killed`;
    return { code: Code.ResourceExhausted, message };
  }
  const message = `${what} did not end within ${(run.timeoutMs ?? 0) / 1000} s and was killed`;
  return { code: Code.DeadlineExceeded, message };
}
