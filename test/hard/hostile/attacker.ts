/**
 * A hostile tenant, as a process of its own, so that its work is not in the times that are measured: containers that do
 * what they may (programs/hostile.c), execs that flood their terminals, readers that stop, lives that are over at once.
 * It begins when it is started and ends, with everything it has made, at SIGTERM.
 *
 *   attacker.js SHIM ENVIRONMENT     the shim's program; JSON of variables its shims run with
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { FifoReader, makeFifo } from '../../lib/fifo-reader.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, shutdown } from '../../lib/task-steps.js';
import { LATE_MS, within } from '../../lib/wait.js';

/** What a node gives a tenant: half a processor, 64 MiB, 100 processes. */
const RESOURCES = {
  cpu: { period: 100_000, quota: 50_000 },
  memory: { limit: 64 << 20, swap: 64 << 20 },
  pids: { limit: 100 },
};
/** How long one of its containers plays before it ends by itself. */
const LIFE_SECONDS = 15;
const EXEC_MS = 1500;
const READ_MS = 20;
const READ_BYTES = 65_536;
/** A reader reads for so many of its turns, and then for as many not. */
const READER_TURNS = 100;
/** What is not said of the containers' own business: they are killed and end at any time. */
const counts: Record<string, number> = {};

let isOver = false;
const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

function count(what: string): void {
  counts[what] = (counts[what] ?? 0) + 1;
}

/** Reads a FIFO slowly, and at times not at all, until told to stop. */
class StoppingReader {
  readonly #reader: FifoReader;
  readonly #timer: NodeJS.Timeout;
  #turn = 0;

  constructor(path: string) {
    this.#reader = new FifoReader(path);
    this.#timer = setInterval(() => this.#read(), READ_MS);
  }

  #read(): void {
    this.#turn += 1;
    if (Math.floor(this.#turn / READER_TURNS) % 2 === 0) this.#reader.readNow(READ_BYTES);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#reader.close();
  }
}

class Attacker {
  readonly #daemon: FakeDaemon;
  #fifos = 0;
  #execs = 0;

  constructor(daemon: FakeDaemon) {
    this.#daemon = daemon;
  }

  async #fifo(): Promise<string> {
    this.#fifos += 1;
    return await makeFifo(join(this.#daemon.dir, `hostile-${this.#fifos}`));
  }

  /** A container from its beginning to its end, whatever happens in between. */
  async #container(args: readonly string[], during: (shim: ShimHandle) => Promise<unknown>): Promise<void> {
    const shim = await this.#daemon.launch({ args, resources: RESOURCES });
    const [stdout, stderr] = [await this.#fifo(), await this.#fifo()];
    const readers = [new StoppingReader(stdout), new StoppingReader(stderr)];
    try {
      await this.#daemon.create(shim, { stdout, stderr });
      await shim.task.start({ id: shim.id, execId: '' });
      await during(shim);
    } finally {
      const ending = within(`${shim.id} ends`, LATE_MS, this.#end(shim));
      await ending.catch(() => count('containers that could not be ended'));
      for (const reader of readers) reader.close();
    }
  }

  async #end(shim: ShimHandle): Promise<void> {
    const init = { id: shim.id, execId: '' };
    // It may have ended, or never have been created.
    await shim.task.kill({ ...init, signal: 9, all: true }).catch(() => undefined);
    const isThere = await shim.task.state(init).then(
      () => true,
      () => false,
    );
    if (isThere) {
      await shim.task.wait(init);
      await shim.task.delete(init);
    }
    await shutdown(shim);
  }

  /** Plays again and again. */
  async play(): Promise<void> {
    while (!isOver) {
      await this.#container(['/bin/hostile', 'all', String(LIFE_SECONDS)], async (shim) => {
        const ended = shim.task.wait({ id: shim.id, execId: '' }).then(() => true);
        const asks = (async () => {
          while (!isOver && !(await Promise.race([ended, rest(100)]))) {
            // As the node's own agents do, whoever the tenant is.
            await Promise.all([shim.task.stats({ id: shim.id }), shim.task.pids({ id: shim.id })]);
          }
        })().catch(() => count('calls that failed'));
        await asks;
      }).catch(() => count('containers that failed'));
      count('containers');
    }
  }

  /** Ends as soon as it has begun. */
  async flicker(): Promise<void> {
    while (!isOver) {
      await this.#container(['/bin/hostile'], async (shim) => {
        await shim.task.wait({ id: shim.id, execId: '' });
      }).catch(() => count('short containers that failed'));
      count('short containers');
      await rest(500);
    }
  }

  /**
   * Execs with a terminal that is flooded, and input that was there before; where there is room for
   * them.
   */
  async flood(): Promise<void> {
    while (!isOver) {
      await this.#container(['/bin/hostile', 'names'], async (shim) => {
        const until = Date.now() + LIFE_SECONDS * 1000;
        while (!isOver && Date.now() < until) {
          this.#execs += 1;
          await this.#exec(shim, `flood${this.#execs}`, this.#execs % 2 === 0).catch(() => count('execs that failed'));
          count('execs');
          await rest(100);
        }
      }).catch(() => count('flooded containers that failed'));
      count('flooded containers');
    }
  }

  async #exec(shim: ShimHandle, execId: string, terminal: boolean): Promise<void> {
    const [stdin, stdout] = [await this.#fifo(), await this.#fifo()];
    const stderr = terminal ? '' : await this.#fifo();
    const readers = [stdout, stderr].filter((path) => path !== '').map((path) => new StoppingReader(path));
    // Also for reading, so that it opens at once.
    const input = openSync(stdin, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      writeSync(input, Buffer.alloc(15_000, 'L\x01B\0\0\0\0\0', 'latin1'));
      const acts = ['streams', 'messages', 'files', 'names'];
      const act = acts[this.#fifos % acts.length] ?? 'streams';
      await addExec(shim, execId, ['/bin/hostile', act], { terminal, stdin, stdout, stderr });
      await shim.task.start({ id: shim.id, execId });
      const ended = shim.task.wait({ id: shim.id, execId });
      await Promise.race([ended, rest(EXEC_MS)]);
      await shim.task.kill({ id: shim.id, execId, signal: 9, all: false }).catch(() => undefined);
      await within(`${execId} ends`, LATE_MS, ended);
    } finally {
      await shim.task.delete({ id: shim.id, execId }).catch(() => undefined);
      closeSync(input);
      for (const reader of readers) reader.close();
    }
  }
}

const [, , shim = '', variables = '{}'] = process.argv;
// The neighbour's times are to show what the shims do, not how two test programs share two
// processors.
setPriority(10);
const daemon = await FakeDaemon.start(shim);
Object.assign(daemon.env, JSON.parse(variables));
process.once('SIGTERM', () => {
  isOver = true;
});
const attacker = new Attacker(daemon);
const parts = [attacker.play(), attacker.flicker(), attacker.flood(), attacker.flood()];
console.log('begun');
await Promise.all(parts);
await daemon.stop();
console.log(JSON.stringify(counts));
