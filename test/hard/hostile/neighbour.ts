/** A container that minds its own business, and how long its calls take. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import * as api from '../../../src/api/index.js';
import type { FakeDaemon, ShimHandle } from '../../lib/shim-client.js';
import { killAndDelete, runExec, shutdown } from '../../lib/task-steps.js';
import { ECHO, note, type Times } from './figures.js';

/** The calls that are judged; the others say how the machine was, and what lives cost. */
export const JUDGED = ['State', 'Stats', 'Pids', 'Update', 'Pause', 'Resume'] as const;

/** Between two rounds of the calls: as a node's agent asks, not as a bench does. */
const REST_MS = 20;
/** So many rounds for each life, which costs as much as twenty of them. */
const ROUNDS_PER_LIFE = 40;

const rest = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A process that sends back what it is sent: what a call takes when no shim is concerned. */
class Echo {
  readonly #child = spawn('cat', { stdio: ['pipe', 'pipe', 'ignore'] });

  async call(): Promise<void> {
    const answer = once(this.#child.stdout, 'data');
    this.#child.stdin.write('x');
    await answer;
  }

  stop(): void {
    this.#child.kill();
  }
}

export class Neighbour {
  readonly #daemon: FakeDaemon;
  readonly #shim: ShimHandle;
  readonly #echo = new Echo();
  #count = 0;

  private constructor(daemon: FakeDaemon, shim: ShimHandle) {
    this.#daemon = daemon;
    this.#shim = shim;
  }

  static async start(daemon: FakeDaemon): Promise<Neighbour> {
    const shim = await daemon.launch({ args: ['/bin/sleep', '1000000'], resources: { memory: { limit: 64 << 20 } } });
    await daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    return new Neighbour(daemon, shim);
  }

  async stop(): Promise<void> {
    this.#echo.stop();
    await killAndDelete(this.#shim);
    await shutdown(this.#shim);
  }

  /** One call of each kind. */
  async #round(times: Times): Promise<void> {
    const { task, id } = this.#shim;
    const limit = (64 << 20) + (this.#count % 2) * (1 << 20);
    const resources = api.packJson(api.OCI_TYPE_URL.linuxResources, {
      memory: { limit },
    });
    const calls: readonly [string, () => Promise<unknown>][] = [
      [ECHO, () => this.#echo.call()],
      ['State', () => task.state({ id, execId: '' })],
      ['Stats', () => task.stats({ id })],
      ['Pids', () => task.pids({ id })],
      ['Update', () => task.update({ id, resources, annotations: {} })],
      ['Pause', () => task.pause({ id })],
      ['Resume', () => task.resume({ id })],
    ];
    for (const [name, call] of calls) {
      const start = performance.now();
      await call();
      note(times, name, performance.now() - start);
    }
  }

  async #lives(times: Times): Promise<void> {
    const start = performance.now();
    await runExec(this.#shim, `x${this.#count}`, ['true']);
    note(times, 'exec, whole life', performance.now() - start);
    const born = performance.now();
    const shim = await this.#daemon.launch({ args: ['/bin/sleep', '1000000'] });
    const launched = performance.now();
    await this.#daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    note(times, 'Create and Start', performance.now() - launched);
    await killAndDelete(shim);
    note(times, 'container, whole life', performance.now() - born);
    await shutdown(shim);
  }

  /** Makes calls for so long. */
  async measure(times: Times, seconds: number): Promise<void> {
    const end = performance.now() + seconds * 1000;
    for (; performance.now() < end; this.#count += 1) {
      await this.#round(times);
      if (this.#count % ROUNDS_PER_LIFE === 0) await this.#lives(times);
      await rest(REST_MS);
    }
  }
}
