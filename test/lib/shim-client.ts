/**
 * A daemon's part, played by hand: starts a shim with its \`start\` verb as containerd 1.6 does,
 * talks to it over ttrpc, records the events it forwards, and runs the \`delete\` verb. For tests
 * that need exact control of calls, order and errors.
 */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, constants, existsSync, mkdirSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import * as api from '../../src/api/index.js';
import { Code, LaminaError } from '../../src/base/index.js';
import {
  type ClientConnection,
  connect,
  createClient,
  Router,
  Server,
  type ServiceClient,
} from '../../src/ttrpc/index.js';
import { mustRun, runCommand } from './command.js';
import { copyRootfs } from './image.js';
import { listProcesses, type ProcessInfo, readProcFile, sendSignal } from './proc.js';
import { findProgram, LAMINA_BIN } from './repo.js';
import { type BareSpecOptions, bareSpec } from './spec.js';
import { until } from './wait.js';

export type TaskClient = ServiceClient<typeof api.taskV2.TaskDefinition>;

/** An event as it was forwarded; fields decoded. */
export interface ForwardedEvent {
  readonly namespace: string;
  readonly topic: string;
  /** When it happened: the same for one that is sent again. */
  readonly time: string;
  readonly event: Readonly<Record<string, unknown>>;
}

const EVENT_TYPES = [
  api.events.TaskCreate,
  api.events.TaskStart,
  api.events.TaskDelete,
  api.events.TaskExit,
  api.events.TaskOOM,
  api.events.TaskExecAdded,
  api.events.TaskExecStarted,
  api.events.TaskPaused,
  api.events.TaskResumed,
  api.events.TaskCheckpointed,
];

function decodeEvent(any: api.Any | undefined): Readonly<Record<string, unknown>> {
  const type = EVENT_TYPES.find((candidate) => any !== undefined && api.typeName(any) === candidate.$type);
  if (type === undefined || any === undefined) throw new Error(`event of unknown type ${any?.typeUrl}`);
  return { ...type.decode(any.value) };
}

/**
 * What a bundle is made of; the cgroup of its container is below one of this daemon's own unless it
 * says otherwise.
 */
export interface BundleOptions extends Omit<BareSpecOptions, 'rootfs' | 'cgroupsPath'> {
  readonly cgroupsPath?: (id: string) => string;
}

/** What one started shim answers to. */
export interface ShimHandle {
  readonly id: string;
  readonly bundle: string;
  /** What the start verb printed. */
  readonly address: string;
  readonly connection: ClientConnection;
  readonly task: TaskClient;
}

export class FakeDaemon {
  readonly marker = `lt-${randomBytes(4).toString('hex')}`;
  readonly dir = join('/tmp', this.marker);
  readonly namespace = `${this.marker}-fake`;
  readonly address = join(this.dir, 'containerd.sock');
  readonly events: ForwardedEvent[] = [];
  readonly env: NodeJS.ProcessEnv;
  /** Which events this daemon answers with an error. */
  refuses: (event: ForwardedEvent) => boolean = () => false;
  /** How many it has answered so. */
  refused = 0;
  readonly #program: string;
  readonly #router: Router;
  #server: Server;
  readonly #connections: ClientConnection[] = [];
  readonly #logs: number[] = [];
  #count = 0;

  /** @param program the shim, a name in the shim's bin folder or PATH, or a path */
  private constructor(program: string) {
    const ours = join(LAMINA_BIN, program);
    this.#program = existsSync(ours) ? ours : (findProgram(program) ?? program);
    mkdirSync(join(this.dir, 'tmp'), { recursive: true });
    writeFileSync(join(this.dir, 'lamina.toml'), '[timeouts]\nengine_idle_ms = 1000\nkeeper_idle_ms = 5000\n');
    this.env = {
      ...process.env,
      TMPDIR: join(this.dir, 'tmp'),
      LAMINA_STATE_DIR: join(this.dir, 'lamina'),
      LAMINA_CONFIG: join(this.dir, 'lamina.toml'),
      TTRPC_ADDRESS: `${this.address}.ttrpc`,
      PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
    };
    for (const name of ['NODE_TEST_CONTEXT', 'NODE_CHANNEL_FD', 'XDG_RUNTIME_DIR']) delete this.env[name];
    this.#router = new Router().add(api.forward.EventsDefinition, {
      forward: (request) => {
        const envelope = request.envelope;
        const { namespace = '', topic = '', timestamp } = envelope ?? {};
        const time = `${timestamp?.seconds}.${timestamp?.nanos}`;
        const forwarded = { namespace, topic, time, event: decodeEvent(envelope?.event) };
        if (this.refuses(forwarded)) {
          this.refused += 1;
          throw new LaminaError(Code.InvalidArgument, `topic ${topic}: invalid argument`);
        }
        this.events.push(forwarded);
        return {};
      },
    });
    this.#server = new Server(this.#router);
  }

  static async start(program: string): Promise<FakeDaemon> {
    const daemon = new FakeDaemon(program);
    await daemon.#server.listen({ path: `${daemon.address}.ttrpc` });
    return daemon;
  }

  /** As when the daemon has died: nobody takes events any more. */
  leave(): void {
    this.#server.close();
  }

  async comeBack(): Promise<void> {
    this.#server = new Server(this.#router);
    await this.#server.listen({ path: `${this.address}.ttrpc` });
  }

  /**
   * Makes a bundle: config.json, rootfs (a copy of the image's), the log FIFO, which is drained
   * into nothing.
   */
  async bundle(
    { cgroupsPath = (id) => `/${this.namespace}/${id}`, ...spec }: BundleOptions,
    name = 'c',
  ): Promise<{ id: string; path: string }> {
    this.#count += 1;
    const id = `${name}${this.#count}-${this.marker}`;
    const path = join(this.dir, 'bundles', id);
    mkdirSync(path, { recursive: true, mode: 0o711 });
    copyRootfs(join(path, 'rootfs'));
    const config = bareSpec({ ...spec, rootfs: 'rootfs', cgroupsPath: cgroupsPath(id) });
    writeFileSync(join(path, 'config.json'), JSON.stringify(config));
    await mustRun(['mkfifo', '-m', '700', join(path, 'log')]);
    // As the daemon does: read and write, so that the shim's open for writing never waits for a
    // reader.
    this.#logs.push(openSync(join(path, 'log'), constants.O_RDWR | constants.O_NONBLOCK));
    return { id, path };
  }

  #flags(id: string): string[] {
    return ['-namespace', this.namespace, '-address', this.address, '-publish-binary', '/bin/true', '-id', id];
  }

  /** Runs a verb with the bundle as working directory; `stdin` as the daemon would send it. */
  async verb(
    bundle: { readonly id: string; readonly path: string },
    args: readonly string[],
    options: { readonly stdin?: Uint8Array; readonly env?: Readonly<Record<string, string>> } = {},
  ): Promise<{ code: number; stdout: Buffer; stderr: string }> {
    const child = spawn(this.#program, [...this.#flags(bundle.id), ...args], {
      cwd: bundle.path,
      env: { ...this.env, ...options.env },
      stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    });
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.stdin);
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
    const [code] = await once(child, 'close');
    return { code: Number(code), stdout: Buffer.concat(out), stderr: Buffer.concat(err).toString('utf8') };
  }

  /**
   * The start verb, as containerd 1.6 runs it or, for shims of 2.0 and later, which answer so, with
   * JSON; then a connection.
   */
  async launch(spec: BundleOptions): Promise<ShimHandle> {
    const bundle = await this.bundle(spec);
    const started = await this.verb(bundle, ['start']);
    if (started.code !== 0) throw new Error(`start: exit ${started.code}: ${started.stderr}`);
    const answer = started.stdout.toString('utf8').trim();
    const { address, version } = answer.startsWith('{') ? JSON.parse(answer) : { address: answer, version: 2 };
    const connection = await this.connect(address);
    return {
      id: bundle.id,
      bundle: bundle.path,
      address,
      connection,
      // The messages are the same in both packages.
      task:
        version === 2
          ? createClient(api.taskV2.TaskDefinition, connection)
          : (createClient(api.taskV3.TaskDefinition, connection) as unknown as TaskClient),
    };
  }

  /** A further connection to a shim. */
  async connect(address: string): Promise<ClientConnection> {
    const connection = await connect({ path: address.replace(/^unix:\/\//, '') });
    this.#connections.push(connection);
    return connection;
  }

  /** The Task service behind a further connection to a shim of ours. */
  async connectTask(address: string): Promise<TaskClient> {
    return createClient(api.taskV2.TaskDefinition, await this.connect(address.trim()));
  }

  /** Create with the bundle's own root file system. */
  async create(
    shim: ShimHandle,
    io: Partial<
      Pick<api.taskV2.CreateTaskRequest, 'stdin' | 'stdout' | 'stderr' | 'terminal' | 'rootfs' | 'options'>
    > = {},
  ): Promise<number> {
    const { pid } = await shim.task.create({
      id: shim.id,
      bundle: shim.bundle,
      rootfs: [],
      terminal: false,
      stdin: '',
      stdout: '',
      stderr: '',
      checkpoint: '',
      parentCheckpoint: '',
      options: undefined,
      ...io,
    });
    return pid;
  }

  async deleteVerb(shim: Pick<ShimHandle, 'id' | 'bundle'>): Promise<api.taskV2.DeleteResponse> {
    const result = await this.verb({ id: shim.id, path: shim.bundle }, ['-bundle', shim.bundle, 'delete']);
    if (result.code !== 0) throw new Error(`delete: exit ${result.code}: ${result.stderr}`);
    return api.taskV2.DeleteResponse.decode(result.stdout);
  }

  /** Topics of a container's events so far, without /tasks/. */
  topics(id: string): string[] {
    return this.events
      .filter((item) => item.event['containerId'] === id)
      .map((item) => item.topic.replace('/tasks/', ''));
  }

  async waitForTopic(id: string, topic: string): Promise<void> {
    await until(`${topic} of ${id}`, () => this.topics(id).includes(topic), {
      detail: () => this.topics(id).join(' '),
    });
  }

  socketPath(id: string): string {
    const hash = createHash('sha256')
      .update(posix.join(this.address, this.namespace, id))
      .digest('hex');
    return join('/run/containerd/s', hash);
  }

  #ours(): ProcessInfo[] {
    return listProcesses().filter(
      (info) =>
        info.pid !== process.pid &&
        [info.commandLine, readProcFile(info.pid, 'environ'), readProcFile(info.pid, 'cgroup')].some((text) =>
          text.includes(this.marker),
        ),
    );
  }

  /**
   * Closes connections and waits until every process of these shims is gone; kills and names those
   * that stay.
   */
  async stop(): Promise<void> {
    for (const connection of this.#connections) connection.close();
    let left: ProcessInfo[] = [];
    try {
      const isOver = (): boolean => {
        left = this.#ours();
        return left.length === 0;
      };
      const detail = (): string => left.map((info) => `${info.pid} ${info.state} ${info.commandLine}`).join('\n');
      await until('all shims have ended', isOver, { detail });
    } finally {
      for (const info of left) sendSignal(info.pid, 'SIGKILL');
      this.#server.close();
      for (const fd of this.#logs) closeSync(fd);
      await runCommand([
        'find',
        '/sys/fs/cgroup',
        '-depth',
        '-type',
        'd',
        '-path',
        `*${this.marker}*`,
        '-exec',
        'rmdir',
        '{}',
        ';',
      ]);
      const runcRoot = join('/run/containerd/runc', this.namespace);
      // runc leaves the empty folder of a namespace; what is in it belongs to a process named and
      // killed above
      rmSync(runcRoot, { recursive: true, force: true });
      rmSync(this.dir, { recursive: true, force: true });
    }
  }
}
