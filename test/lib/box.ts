/**
 * One runtime under test below one daemon: runs containers with it, cleans up after them, and makes
 * their output comparable.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, type CommandOptions, type CommandResult, runAtTerminal } from './command.js';
import type { Containerd } from './containerd.js';
import type { EventLog, TaskEvent } from './events.js';
import { IMAGE } from './image.js';
import { LAMINA_BIN } from './repo.js';
import { until } from './wait.js';

export interface Runtime {
  /** As in `ctr run --runtime`. */
  readonly name: string;
  /** For test titles and namespaces. */
  readonly label: 'stock' | 'lamina';
  /** Why it cannot be tested here, or false. */
  readonly skip: string | false;
}

export const STOCK: Runtime = { name: 'io.containerd.runc.v2', label: 'stock', skip: false };

const LAMINA_SHIM = join(LAMINA_BIN, 'containerd-shim-lamina-v2');

export const LAMINA: Runtime = {
  name: 'io.containerd.lamina.v2',
  label: 'lamina',
  skip: existsSync(LAMINA_SHIM) ? false : `${LAMINA_SHIM} is missing: run scripts/install build/install`,
};

/**
 * Both runtimes, or those of LAMINA_TEST_RUNTIMES (`stock`, `lamina`, `stock,lamina`; or by their
 * names for containerd).
 */
export function testRuntimes(): readonly Runtime[] {
  const wanted = (process.env['LAMINA_TEST_RUNTIMES'] ?? 'stock,lamina').split(',');
  return [STOCK, LAMINA].filter(({ label, name }) => wanted.includes(label) || wanted.includes(name));
}

export interface RunOptions extends CommandOptions {
  /** Flags of `ctr run` or `ctr tasks exec`, before the image or the id. */
  readonly flags?: readonly string[];
  /**
   * In place of the test image; with `--rootfs` among the flags, a folder; null with `--config`,
   * which takes none.
   */
  readonly image?: string | null;
}

export class Box {
  readonly runtime: Runtime;
  readonly daemon: Containerd;
  readonly namespace: string;
  readonly events: EventLog;
  readonly snapshotter: string;
  #count = 0;
  readonly #ids: string[] = [];

  constructor(
    runtime: Runtime,
    daemon: Containerd,
    options: { readonly namespace: string; readonly events: EventLog; readonly snapshotter: string },
  ) {
    this.runtime = runtime;
    this.daemon = daemon;
    this.namespace = options.namespace;
    this.events = options.events;
    this.snapshotter = options.snapshotter;
  }

  get isStock(): boolean {
    return this.runtime.label === 'stock';
  }

  /**
   * A new container id that carries the marker. The same sequence of calls gives the same names for
   * each runtime.
   */
  id(name = 'c'): string {
    this.#count += 1;
    const id = `${name}${this.#count}-${this.daemon.marker}`;
    this.#ids.push(id);
    this.daemon.track(this.namespace, id);
    return id;
  }

  async ctr(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return await this.daemon.ctr(this.namespace, args, options);
  }

  /** `ctr` that must succeed; returns its stdout. */
  async must(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    const result = await this.ctr(args, options);
    if (result.code !== 0)
      throw new Error(`ctr ${args.join(' ')}: exit ${result.code}\n${result.stdout}${result.stderr}`);
    return result.stdout;
  }

  spawn(args: readonly string[], options: CommandOptions = {}): Command {
    return this.daemon.spawnCtr(this.namespace, args, options);
  }

  /**
   * FIFOs are made below the daemon's folder, where the leak check looks; ctr refuses the flag
   * together with --log-uri.
   */
  #fifoFlags(flags: readonly string[]): string[] {
    return flags.includes('--log-uri') ? [] : ['--fifo-dir', join(this.daemon.dir, 'fifo')];
  }

  /** The arguments of `ctr run`. */
  runArgs(id: string, argv: readonly string[], options: RunOptions = {}): string[] {
    const image = options.image === undefined ? [IMAGE] : options.image === null ? [] : [options.image];
    const flags = [...this.#fifoFlags(options.flags ?? []), ...(options.flags ?? [])];
    const fixed = ['--runtime', this.runtime.name, '--snapshotter', this.snapshotter];
    return ['run', ...fixed, ...flags, ...image, id, ...argv];
  }

  /** `ctr run --rm`, to its end. */
  async run(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return await this.ctr(
      this.runArgs(this.id(), argv, { ...options, flags: ['--rm', ...(options.flags ?? [])] }),
      options,
    );
  }

  /** `ctr run -d`; returns the id. */
  async start(argv: readonly string[], options: RunOptions = {}): Promise<string> {
    const id = this.id();
    const flags = ['-d', ...(options.flags ?? [])];
    // Without null-io, a detached container's output would stay unread; most tests only want it to
    // live.
    if (!flags.includes('--log-uri')) flags.push('--null-io');
    await this.must(this.runArgs(id, argv, { ...options, flags }), options);
    return id;
  }

  /** `ctr run` in the foreground, to talk to. */
  spawnRun(argv: readonly string[], options: RunOptions = {}): { id: string; command: Command } {
    const id = this.id();
    const flags = ['--rm', ...(options.flags ?? [])];
    return { id, command: this.spawn(this.runArgs(id, argv, { ...options, flags }), { stdin: 'open', ...options }) };
  }

  /** `ctr run -t` at a terminal. */
  runAtTerminal(
    argv: readonly string[],
    options: RunOptions & { readonly rows?: number; readonly columns?: number } = {},
  ): { id: string; command: Command } {
    const id = this.id();
    const args = this.runArgs(id, argv, { ...options, flags: ['--rm', '-t', ...(options.flags ?? [])] });
    return { id, command: runAtTerminal(this.daemon.ctrArgv(this.namespace, args), options) };
  }

  execArgs(id: string, argv: readonly string[], options: RunOptions = {}): string[] {
    this.#count += 1;
    const flags = options.flags ?? [];
    const execId = flags.includes('--exec-id') ? [] : ['--exec-id', `x${this.#count}-${this.daemon.marker}`];
    return ['tasks', 'exec', ...this.#fifoFlags(flags), ...execId, ...flags, id, ...argv];
  }

  /** `ctr tasks exec`, to its end. */
  async exec(id: string, argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return await this.ctr(this.execArgs(id, argv, options), options);
  }

  /** STATUS of `ctr tasks ls` for this id, or undefined if it is not listed. */
  async status(id: string): Promise<string | undefined> {
    const rows = (await this.must(['tasks', 'ls'])).split('\n').map((line) => line.trim().split(/\s+/));
    return rows.find((row) => row[0] === id)?.[2];
  }

  async waitForStatus(id: string, status: string): Promise<void> {
    let seen: string | undefined;
    await until(
      `${id} is ${status}`,
      async () => {
        seen = await this.status(id);
        return seen === status;
      },
      { detail: () => `it is ${seen}` },
    );
  }

  /**
   * Sends SIGTERM until the container has stopped: the init of a pid namespace ignores what it does
   * not handle, and a shell that has only just started may not have come to its trap yet.
   */
  async terminate(id: string): Promise<void> {
    await until(`${id} ends`, async () => {
      await this.ctr(['tasks', 'kill', id]);
      return (await this.status(id)) === 'STOPPED';
    });
  }

  /** The pid of a container's init, on the host. */
  async pidOf(id: string): Promise<number> {
    const rows = (await this.must(['tasks', 'ls'])).split('\n').map((line) => line.trim().split(/\s+/));
    return Number(rows.find((row) => row[0] === id)?.[1] ?? 0);
  }

  /** The exit status in the exit event of a container's init, or of one of its execs. */
  async exitStatusOf(id: string, execId = id): Promise<number> {
    const isIt = (event: TaskEvent): boolean => event.fields['id'] === execId;
    const events = await this.events.waitFor({ namespace: this.namespace, id }, '/tasks/exit', isIt);
    // The JSON of a message leaves zero out.
    return Number(events.find((event) => event.topic === '/tasks/exit' && isIt(event))?.fields['exit_status'] ?? 0);
  }

  /** Kills and removes a container, whatever state it is in. */
  async remove(id: string): Promise<void> {
    await this.ctr(['tasks', 'rm', '-f', id]);
    await this.ctr(['containers', 'rm', id]);
  }

  /** Removes every container this box has made and that is still there; returns their names. */
  async removeAll(): Promise<string[]> {
    const left = (await this.must(['containers', 'ls', '-q'])).split('\n').filter((id) => id !== '');
    for (const id of left) await this.remove(id);
    return left;
  }

  /**
   * The container's events up to its delete, in a form that can be compared (see
   * `normaliseEvents`).
   */
  async eventsOf(id: string): Promise<unknown[]> {
    const events = await this.events.waitFor({ namespace: this.namespace, id }, '/tasks/delete');
    return this.normaliseEvents(events);
  }

  /**
   * Replaces what differs from run to run: the marker, the namespace, the folder, snapshot numbers,
   * the runtime's name.
   */
  normalise(text: string): string {
    return text
      .replaceAll(this.namespace, 'NAMESPACE')
      .replaceAll(this.daemon.dir, 'DIR')
      .replaceAll(this.daemon.marker, 'MARKER')
      .replaceAll(this.runtime.name, 'RUNTIME')
      .replaceAll(/snapshots\/\d+/g, 'snapshots/N')
      .replaceAll(/fifo\/\d+/g, 'fifo/N')
      .replaceAll(/time=\\"[^"]*\\"/g, 'time=NOW');
  }

  /** Topics and fields; pids become P1, P2, ... in order of appearance, times become TIME. */
  normaliseEvents(events: readonly TaskEvent[]): unknown[] {
    const pids = new Map<unknown, string>();
    const value = (key: string, field: unknown): unknown => {
      if (key === 'pid') {
        if (!pids.has(field)) pids.set(field, `P${pids.size + 1}`);
        return pids.get(field);
      }
      if (key === 'exited_at') return 'TIME';
      return JSON.parse(this.normalise(JSON.stringify(field)));
    };
    return events.map((event) => ({
      topic: event.topic,
      ...Object.fromEntries(Object.entries(event.fields).map(([key, field]) => [key, value(key, field)])),
    }));
  }
}
