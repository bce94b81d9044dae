/**
 * One of the two shims under the same daemon, played by test/lib/shim-client.ts: bundles,
 * containers, and everything cleaned up.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as api from '../src/api/index.js';
import { type ClientConnection, createClient } from '../src/ttrpc/index.js';
import { mustRun } from '../test/lib/command.js';
import { copyRootfs } from '../test/lib/image.js';
import { FakeDaemon, type TaskClient } from '../test/lib/shim-client.js';
import { bareSpec } from '../test/lib/spec.js';
import { within } from '../test/lib/wait.js';
import { markedProcesses, shimPids } from './processes.js';
import type { Label } from './samples.js';

/** No single step may take longer. */
export const STEP_MS = 30_000;
const SWEEP_ROUNDS = 50;

/**
 * Measures one step in milliseconds.
 * @throws Error that names the step, when it fails or does not end in time
 */
export async function timed<T>(what: string, step: () => Promise<T>): Promise<{ value: T; ms: number }> {
  const begin = performance.now();
  try {
    const value = await within(what, STEP_MS, step());
    return { value, ms: performance.now() - begin };
  } catch (error) {
    throw new Error(`${what}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

export interface Bundle {
  readonly id: string;
  readonly path: string;
  /** FIFOs for a container's (`out`, `err`) and its execs' (`xout`, `xerr`) streams. */
  readonly fifos: Readonly<Record<'out' | 'err' | 'xout' | 'xerr', string>>;
  /** FIFO ends held open, as a daemon and its client would. */
  readonly fds: number[];
  /** For the verbs. */
  readonly env: Readonly<Record<string, string>>;
}

export interface Shim {
  readonly bundle: Bundle;
  readonly address: string;
  readonly connection: ClientConnection;
  readonly task: TaskClient;
}

export interface BundleOptions {
  readonly args?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /**
   * Whether this tool reads `out` and `err` (it never does: it only holds them open). Default true.
   */
  readonly holdOutput?: boolean;
}

export class Side {
  readonly label: Label;
  readonly daemon: FakeDaemon;
  readonly #rootfs: string;
  readonly #ids: string[] = [];
  readonly #live = new Set<Shim>();

  private constructor(label: Label, daemon: FakeDaemon) {
    this.label = label;
    this.daemon = daemon;
    this.#rootfs = join(daemon.dir, 'image');
    copyRootfs(this.#rootfs);
  }

  static async open(label: Label, program: string): Promise<Side> {
    return new Side(label, await FakeDaemon.start(program));
  }

  get pids(): number[] {
    return shimPids(this.daemon.marker);
  }

  /** Paths of the listening sockets that are there, of all containers so far. */
  get sockets(): string[] {
    return this.#ids.map((id) => this.daemon.socketPath(id)).filter((path) => existsSync(path));
  }

  async bundle(options: BundleOptions = {}): Promise<Bundle> {
    const id = `b${this.#ids.length}-${this.daemon.marker}`;
    this.#ids.push(id);
    const path = join(this.daemon.dir, 'bundles', id);
    mkdirSync(join(path, 'rootfs'), { recursive: true, mode: 0o711 });
    const config = bareSpec({
      args: options.args ?? ['/bin/sleep', '1000'],
      rootfs: 'rootfs',
      cgroupsPath: `/${this.daemon.namespace}/${id}`,
    });
    writeFileSync(join(path, 'config.json'), JSON.stringify(config));
    const fifo = (name: string): string => join(path, `${name}.fifo`);
    const fifos = { out: fifo('out'), err: fifo('err'), xout: fifo('xout'), xerr: fifo('xerr') };
    await mustRun(['mkfifo', '-m', '700', join(path, 'log'), ...Object.values(fifos)]);
    const held = [join(path, 'log'), ...(options.holdOutput === false ? [] : Object.values(fifos))];
    const fds = held.map((name) => openSync(name, constants.O_RDWR | constants.O_NONBLOCK));
    return { id, path, fifos, fds, env: options.env ?? {} };
  }

  /** The start verb; returns the address. */
  async startVerb(bundle: Bundle): Promise<string> {
    const { code, stdout, stderr } = await this.daemon.verb(bundle, ['start'], { env: bundle.env });
    if (code !== 0) throw new Error(`${this.label}: start: exit ${code}: ${stderr}`);
    return stdout.toString('utf8').trim();
  }

  async connect(bundle: Bundle, address: string): Promise<Shim> {
    const connection = await this.daemon.connect(address);
    const shim = { bundle, address, connection, task: createClient(api.taskV2.TaskDefinition, connection) };
    this.#live.add(shim);
    return shim;
  }

  /**
   * Create with the root file system bind-mounted by the shim, and output to FIFOs unless `io` says
   * otherwise.
   */
  async create(shim: Shim, io: Partial<api.taskV2.CreateTaskRequest> = {}): Promise<void> {
    const { bundle } = shim;
    await shim.task.create({
      id: bundle.id,
      bundle: bundle.path,
      rootfs: [{ type: 'bind', source: this.#rootfs, target: '', options: ['rbind', 'rw'] }],
      terminal: false,
      stdin: '',
      stdout: bundle.fifos.out,
      stderr: bundle.fifos.err,
      checkpoint: '',
      parentCheckpoint: '',
      options: undefined,
      ...io,
    });
  }

  /** A container that runs, without measuring anything. */
  async running(options: BundleOptions = {}): Promise<Shim> {
    const bundle = await this.bundle(options);
    const { value: address } = await timed(`${this.label}: start verb`, () => this.startVerb(bundle));
    const { value: shim } = await timed(`${this.label}: connect`, () => this.connect(bundle, address));
    await timed(`${this.label}: create`, () => this.create(shim));
    await timed(`${this.label}: start`, () => shim.task.start({ id: bundle.id, execId: '' }));
    return shim;
  }

  async deleteVerb(bundle: Bundle): Promise<void> {
    const args = ['-bundle', bundle.path, 'delete'];
    const { code, stderr } = await this.daemon.verb(bundle, args, { env: bundle.env });
    if (code !== 0) throw new Error(`${this.label}: delete: exit ${code}: ${stderr}`);
  }

  /** Shutdown and the end of the connection. */
  async shutdown(shim: Shim): Promise<void> {
    await shim.task.shutdown({ id: shim.bundle.id, now: false }).catch(() => undefined); // some shims are gone before they answer
    shim.connection.close();
    this.#live.delete(shim);
  }

  /** After the delete verb. */
  release(bundle: Bundle): void {
    for (const fd of bundle.fds.splice(0)) closeSync(fd);
    rmSync(bundle.path, { recursive: true, force: true });
  }

  /** Ends a container in whatever state, and its shim. */
  async finish(shim: Shim): Promise<void> {
    const { id } = shim.bundle;
    const waiting = shim.task.wait({ id, execId: '' }).catch(() => undefined);
    await shim.task.kill({ id, execId: '', signal: 9, all: true }).catch(() => undefined);
    await within(`exit of ${id}`, STEP_MS, waiting);
    await within(`delete ${id}`, STEP_MS, shim.task.delete({ id, execId: '' })).catch(() => undefined);
    await timed(`${this.label}: shutdown`, () => this.shutdown(shim));
    await timed(`${this.label}: delete verb`, () => this.deleteVerb(shim.bundle));
    this.release(shim.bundle);
  }

  /**
   * Ends what still runs and removes every trace.
   * @throws Error that names processes which did not end by themselves
   */
  async close(): Promise<void> {
    try {
      for (const shim of this.#live) await this.finish(shim).catch(() => undefined);
      this.#unmount();
      await this.daemon.stop();
    } finally {
      this.sweep();
    }
  }

  #unmount(): void {
    const targets = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((target) => target.startsWith(`${this.daemon.dir}/`));
    for (const target of targets.reverse()) execFileSync('umount', ['-l', target]);
  }

  /** Removes everything by force. Synchronous: what is told to end must do it at once. */
  sweep(): void {
    const { marker, namespace, dir } = this.daemon;
    for (let round = 0; round < SWEEP_ROUNDS; round += 1) {
      const left = markedProcesses(marker);
      if (left.length === 0) break;
      for (const info of left) {
        try {
          process.kill(info.pid, 'SIGKILL');
        } catch {
          // ended meanwhile
        }
      }
    }
    this.#unmount();
    try {
      const find = ['/sys/fs/cgroup', '-depth', '-type', 'd', '-path', `*${marker}*`, '-exec', 'rmdir', '{}', ';'];
      execFileSync('find', find, { stdio: 'ignore' });
    } catch {
      // groups of other programs come and go while find walks
    }
    for (const id of this.#ids) rmSync(this.daemon.socketPath(id), { force: true });
    rmSync(join('/run/containerd/runc', namespace), { recursive: true, force: true });
    rmSync(dir, { recursive: true, force: true });
  }
}
