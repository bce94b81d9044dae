import { appendFileSync, writeSync } from 'node:fs';
import type { ExitStatus, SpawnedProcess, Spawner, SpawnRequest } from '../../../src/oci/index.js';

/** What a pretended run does. */
export interface FakeRun {
  readonly code?: number;
  readonly signal?: number;
  readonly stdout?: string;
  readonly stderr?: string;
  /** Appended to the file given with --log. */
  readonly log?: string;
  /** Never ends until it is killed. */
  readonly hangs?: boolean;
  /** What spawn itself throws. */
  readonly spawnError?: Error;
  readonly onRun?: (request: SpawnRequest) => void;
}

/** Records requests instead of running them; runs follow the script, then succeed. */
export class FakeSpawner implements Spawner {
  readonly requests: SpawnRequest[] = [];
  readonly kills: number[] = [];
  readonly #script: FakeRun[];
  /** Ends a hanging run well; removed by release(). */
  readonly #hanging: (() => void)[] = [];

  constructor(...script: FakeRun[]) {
    this.#script = script;
  }

  /** The arguments of the last run, without the program. */
  get lastArgs(): readonly string[] {
    return this.requests.at(-1)?.argv.slice(1) ?? [];
  }

  /** Lets all hanging runs succeed. */
  release(): void {
    for (const end of this.#hanging.splice(0)) end();
  }

  async spawn(request: SpawnRequest): Promise<SpawnedProcess> {
    this.requests.push(request);
    const run = this.#script.shift() ?? {};
    if (run.spawnError !== undefined) throw run.spawnError;
    run.onRun?.(request);
    const write = (childFd: number, text: string | undefined) => {
      const fd = request.fds?.find(([, number]) => number === childFd)?.[0];
      if (fd !== undefined && text !== undefined) writeSync(fd, text);
    };
    write(1, run.stdout);
    write(2, run.stderr);
    const log = request.argv[request.argv.indexOf('--log') + 1];
    if (run.log !== undefined && log !== undefined) appendFileSync(log, run.log);
    const { promise, resolve } = promiseOfExit();
    const end = (signal: number | undefined) =>
      resolve({ code: signal === undefined ? (run.code ?? 0) : 128 + signal, signal, timeNs: 0n });
    if (run.hangs) this.#hanging.push(() => end(undefined));
    else end(run.signal);
    const kill = (signal: number) => {
      this.kills.push(signal);
      end(signal);
    };
    return { pid: 4711, exited: promise, kill, killGroup: kill };
  }
}

function promiseOfExit() {
  let resolve!: (status: ExitStatus) => void;
  const promise = new Promise<ExitStatus>((onResolve) => {
    resolve = onResolve;
  });
  return { promise, resolve };
}
