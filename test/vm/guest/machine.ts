/**
 * The machine of a VM run: its own containerd service, as users have it, with the shim found
 * through PATH. Names carry a marker, so that a suite that failed does not disturb the next one.
 */
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command, type CommandOptions, type CommandResult, mustRun, runCommand } from '../../lib/command.js';
import { parseEventLine, type TaskEvent } from '../../lib/events.js';
import { IMAGE, imageFolder } from '../../lib/image.js';
import { findProgram } from '../../lib/repo.js';
import { until } from '../../lib/wait.js';

export const STOCK = 'io.containerd.runc.v2';
export const LAMINA = 'io.containerd.lamina.v2';

/**
 * Runtimes to test: LAMINA_TEST_RUNTIMES (commas between), else the stock one, as the witness, and
 * Lamina.
 */
export const RUNTIMES: readonly string[] = (process.env['LAMINA_TEST_RUNTIMES'] ?? `${STOCK},${LAMINA}`).split(',');

/** Why a runtime cannot be tested, or false. containerd looks for the shim in PATH. */
export function missingShim(runtime: string): string | false {
  const program = `containerd-shim-${runtime.split('.').slice(-2).join('-')}`;
  return findProgram(program) === undefined && `${program} is not in PATH: scripts/install build/install`;
}

/**
 * Cgroup v2 folders that belong to containers: all but systemd's units for services and the like.
 */
export function cgroups(root = '/sys/fs/cgroup'): string[] {
  return readdirSync(root, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && !/\.(service|mount|socket|swap|timer)$/.test(entry.name))
    .flatMap((entry) => [join(root, entry.name), ...cgroups(join(root, entry.name))]);
}

/** The cgroup v2 folder of a process. */
export function cgroupOf(pid: number): string {
  const path = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1];
  if (path === undefined) throw new Error(`process ${pid} has no cgroup v2`);
  return join('/sys/fs/cgroup', path);
}

/**
 * For sh in a container: waits until its terminal has this size, which comes by a call of its own,
 * and exits with 9.
 */
export function waitForSize(rows: number, columns: number): string {
  return `until [ "$(stty size)" = "${rows} ${columns}" ]; do sleep 0.1; done; echo size is right; exit 9`;
}

export interface RunOptions extends CommandOptions {
  /** OCI runtime: runc (default) or crun. */
  readonly binary?: 'runc' | 'crun';
  /** Let systemd make the cgroup: `slice:prefix:name`. */
  readonly cgroup?: string;
  /** Flags of `ctr run`. */
  readonly flags?: readonly string[];
  /** A config.json instead of the image. */
  readonly config?: string;
}

/** Options in a file, as users of a shim that ctr has no flags for pass them. Returns its path. */
function writeOptions(binary: string, systemd: boolean): string {
  const path = join(tmpdir(), `options-${binary}-${systemd}.toml`);
  writeFileSync(path, `BinaryName = "${binary}"\nSystemdCgroup = ${systemd}\n`);
  return path;
}

/** A namespace of the system's containerd and a runtime to use in it. */
export class Machine {
  readonly runtime: string;
  readonly namespace: string;
  #count = 0;

  constructor(runtime: string) {
    this.runtime = runtime;
    this.namespace = `vm-${randomBytes(3).toString('hex')}`;
  }

  async importImage(): Promise<void> {
    await this.must(['images', 'import', join(imageFolder(), 'image.tar')]);
  }

  /** A name no other container of the namespace has. */
  newId(prefix: string): string {
    this.#count += 1;
    return `${prefix}-${this.#count}`;
  }

  argv(args: readonly string[]): string[] {
    return ['ctr', '-n', this.namespace, ...args];
  }

  /** Arguments of `ctr run`, with the OCI runtime chosen in the way each shim offers it. */
  runArgs(id: string, command: readonly string[], options: RunOptions = {}): string[] {
    const { binary, cgroup } = options;
    const args = ['run', '--runtime', this.runtime, ...(options.flags ?? [])];
    if (cgroup !== undefined) args.push('--cgroup', cgroup);
    if (this.runtime === STOCK) {
      if (binary !== undefined) args.push('--runc-binary', binary);
      if (cgroup !== undefined) args.push('--runc-systemd-cgroup');
    } else if (binary !== undefined || cgroup !== undefined) {
      args.push('--runtime-config-path', writeOptions(binary ?? 'runc', cgroup !== undefined));
    }
    return options.config === undefined ? [...args, IMAGE, id, ...command] : [...args, '--config', options.config, id];
  }

  async ctr(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return await runCommand(this.argv(args), options);
  }

  async must(args: readonly string[], options: CommandOptions = {}): Promise<string> {
    return await mustRun(this.argv(args), options);
  }

  /** Runs a container in the foreground to its end. */
  async run(id: string, command: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return await this.ctr(
      this.runArgs(id, command, { ...options, flags: ['--rm', ...(options.flags ?? [])] }),
      options,
    );
  }

  /** Starts a container in the background and returns the pid of its init. */
  async start(id: string, command: readonly string[], options: RunOptions = {}): Promise<number> {
    await this.must(this.runArgs(id, command, { ...options, flags: ['-d', ...(options.flags ?? [])] }), options);
    return await this.pid(id);
  }

  /** Pid of a container's init. */
  async pid(id: string): Promise<number> {
    return Number((await this.task(id))[1]);
  }

  /** RUNNING, PAUSED, STOPPED, ..., as `ctr task ls` says it. */
  async status(id: string): Promise<string> {
    return (await this.task(id))[2] ?? '';
  }

  async task(id: string): Promise<string[]> {
    const lines = (await this.must(['task', 'ls'])).split('\n').map((line) => line.trim().split(/\s+/));
    const found = lines.find(([name]) => name === id);
    if (found === undefined) throw new Error(`no task ${id}`);
    return found;
  }

  async waitStatus(id: string, status: string): Promise<void> {
    await until(`${id} is ${status}`, async () => (await this.status(id)) === status);
  }

  /** Metrics of a container by name: `memory.usage`, `pids.current`, ... */
  async metrics(id: string): Promise<Map<string, bigint>> {
    const text = await this.must(['task', 'metrics', id]);
    return new Map(
      [...text.matchAll(/^(\S+\.\S+)\s+(\d+)\s*$/gm)].map(([, name = '', value = '']) => [name, BigInt(value)]),
    );
  }

  /** Deletes a stopped task and its container. */
  async remove(id: string): Promise<void> {
    await this.must(['task', 'rm', id]);
    await this.must(['container', 'rm', id]);
  }

  /** Kills and deletes whatever is left in the namespace, image included. */
  async clear(): Promise<void> {
    for (const id of (await this.must(['task', 'ls', '-q'])).split('\n').filter(Boolean)) {
      await this.ctr(['task', 'rm', '-f', id]);
    }
    for (const id of (await this.must(['container', 'ls', '-q'])).split('\n').filter(Boolean))
      await this.ctr(['container', 'rm', id]);
    await this.must(['images', 'rm', '--sync', IMAGE]);
    await runCommand(['ctr', 'namespaces', 'rm', this.namespace]);
  }
}

/** Records the task events of one namespace in the order in which containerd sends them. */
export class TaskEvents {
  readonly #machine: Machine;
  readonly #command: Command;

  private constructor(machine: Machine) {
    this.#machine = machine;
    this.#command = new Command(['ctr', 'events'], { timeoutMs: 3_600_000 });
  }

  /** Subscribes. Nothing tells when that is done, so a label is set until its event arrives. */
  static async start(machine: Machine): Promise<TaskEvents> {
    const events = new TaskEvents(machine);
    let count = 0;
    await until('ctr events reports', async () => {
      count += 1;
      await runCommand(['ctr', 'namespaces', 'label', machine.namespace, `probe=${count}`]);
      return events.#command.stdout.includes(`${machine.namespace} /namespaces/update`);
    });
    return events;
  }

  /** Events of one container, topics shortened: `create`, `start`, `oom`, `exit`, ... */
  of(id: string): (TaskEvent & { readonly name: string })[] {
    return this.#command.stdout
      .split('\n')
      .map(parseEventLine)
      .filter((event) => event !== undefined)
      .filter((event) => event.namespace === this.#machine.namespace && event.fields['container_id'] === id)
      .filter((event) => event.topic.startsWith('/tasks/'))
      .map((event) => ({ ...event, name: event.topic.slice('/tasks/'.length) }));
  }

  /**
   * Waits for an event (an exit or a deletion: of the init, not of an exec) and returns the names
   * of all events of the container so far.
   */
  async waitFor(id: string, name: string): Promise<string[]> {
    const isInit = ({ fields }: TaskEvent): boolean => fields['id'] === undefined || fields['id'] === id;
    await until(`event ${name} of ${id}`, () => this.of(id).some((event) => event.name === name && isInit(event)), {
      detail: () => this.#command.describe(),
    });
    return this.of(id).map((event) => event.name);
  }

  async stop(): Promise<void> {
    this.#command.kill();
    await this.#command.result();
  }
}
