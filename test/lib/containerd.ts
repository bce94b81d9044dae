/**
 * A private containerd for one test file: own root, state, sockets, temporary directory and Lamina
 * state directory, all below one folder whose name is a marker no other test shares. The marker is
 * in every namespace too, so whatever is left can be attributed (leaks.ts). The daemon's and the
 * shims' logs stay in the folder and are shown when a test fails.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { writeCniPlugin } from './cni.js';
import { Command, type CommandOptions, type CommandResult, mustRun, runCommand } from './command.js';
import { imageFolder, PAUSE_IMAGE } from './image.js';
import { findProgram, LAMINA_BIN, USE_SYSTEMD } from './repo.js';
import { LATE_MS, until, within } from './wait.js';

export interface ContainerdOptions {
  /**
   * Top-level lines of Lamina's configuration file; default: LAMINA_TEST_CONFIG, for example
   * `engine = "dedicated"`.
   */
  readonly laminaConfig?: string;
  /**
   * With the plugin a kubelet talks to (kubelet.ts). Runtime handlers: `stock`, `lamina` (named by
   * `runtime_path`), `lamina-type` (by `runtime_type`).
   */
  readonly cri?: boolean;
  /** The shim of the handler `lamina`; default: the installed one. */
  readonly shimPath?: string;
  /** Lines for the end of the daemon's configuration. */
  readonly config?: readonly string[];
  /** Added to the daemon's environment, which the shims inherit. */
  readonly env?: Readonly<Record<string, string>>;
}

/** Variables of the test runner that would change how a Node process below the daemon behaves. */
const RUNNER_VARIABLES = ['NODE_TEST_CONTEXT', 'NODE_CHANNEL_FD', 'XDG_RUNTIME_DIR', 'NOTIFY_SOCKET'];

/** An idle engine would otherwise outlive the tests by a minute. */
const SHORT_TIMEOUTS = '[timeouts]\nengine_idle_ms = 1000\nkeeper_idle_ms = 5000\n';

export class Containerd {
  /** In the folder's name and in every namespace: `lt-` and six characters. */
  readonly marker: string;
  readonly dir: string;
  readonly address: string;
  readonly ttrpcAddress: string;
  readonly env: NodeJS.ProcessEnv;
  readonly #sockets = new Set<string>();
  readonly #namespaces = new Set<string>();
  #child: ChildProcess | undefined;
  #snapshotter: string | undefined;
  #version = '';

  private constructor(options: ContainerdOptions) {
    this.marker = `lt-${randomBytes(4).toString('hex')}`;
    this.dir = join('/tmp', this.marker);
    mkdirSync(this.dir, { mode: 0o711 });
    this.address = join(this.dir, 'containerd.sock');
    this.ttrpcAddress = `${this.address}.ttrpc`;
    for (const name of ['tmp', 'fifo', 'work']) mkdirSync(join(this.dir, name));
    const env: NodeJS.ProcessEnv = {
      ...process.env,
      ...options.env,
      PATH: `${LAMINA_BIN}:${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`,
      TMPDIR: join(this.dir, 'tmp'),
      LAMINA_STATE_DIR: join(this.dir, 'lamina'),
    };
    for (const name of RUNNER_VARIABLES) delete env[name];
    env['LAMINA_CONFIG'] = join(this.dir, 'lamina.toml');
    const config = options.laminaConfig ?? process.env['LAMINA_TEST_CONFIG'] ?? '';
    writeFileSync(env['LAMINA_CONFIG'], `${config}\n${SHORT_TIMEOUTS}`);
    this.env = env;
    const shim = options.shimPath ?? join(LAMINA_BIN, 'containerd-shim-lamina-v2');
    if (options.cri === true) writeCniPlugin(join(this.dir, 'cni'));
    writeFileSync(
      join(this.dir, 'containerd.toml'),
      this.#config(options.cri === true ? shim : undefined, options.config ?? []),
    );
  }

  /** Starts a daemon with an empty root and waits until it answers. */
  static async start(options: ContainerdOptions = {}): Promise<Containerd> {
    const daemon = new Containerd(options);
    try {
      await daemon.#launch();
    } catch (error) {
      await daemon.stop();
      throw error;
    }
    return daemon;
  }

  /**
   * @param criShim the shim of the CRI plugin's handler; undefined: without that plugin
   * @param lines for its end
   */
  #config(criShim: string | undefined, lines: readonly string[]): string {
    const disabled = [
      'snapshotter.v1.aufs',
      'snapshotter.v1.btrfs',
      'snapshotter.v1.devmapper',
      'snapshotter.v1.zfs',
      'nri.v1.nri',
    ];
    if (criShim === undefined) disabled.push('grpc.v1.cri');
    return [
      'version = 2',
      `root = "${this.dir}/root"`,
      `state = "${this.dir}/state"`,
      `disabled_plugins = ${JSON.stringify(disabled.map((name) => `io.containerd.${name}`))}`,
      `[grpc]\naddress = "${this.address}"`,
      `[ttrpc]\naddress = "${this.ttrpcAddress}"`,
      '[debug]\nlevel = "debug"',
      // By itself it gives up on a shim after two to five seconds.
      '[timeouts]',
      ...['shim.cleanup', 'shim.load', 'shim.shutdown', 'task.state'].map(
        (name) => `"io.containerd.timeout.${name}" = "60s"`,
      ),
      ...(criShim === undefined ? [] : this.#criConfig(criShim)),
      ...lines,
      '',
    ].join('\n');
  }

  #criConfig(shim: string): string[] {
    const plugin = 'plugins."io.containerd.grpc.v1.cri"';
    const overlay = readFileSync('/proc/filesystems', 'utf8').includes('\toverlay\n');
    return [
      `[${plugin}]\nsandbox_image = "${PAUSE_IMAGE}"\nstream_server_address = "127.0.0.1"\nstream_server_port = "0"`,
      // Without it, a pod asks for an oom_score_adj that root may not have in a container.
      'restrict_oom_score_adj = true',
      'netns_mounts_under_state_dir = true',
      `[${plugin}.cni]\nbin_dir = "${this.dir}/cni"\nconf_dir = "${this.dir}/cni"`,
      `[${plugin}.containerd]\nsnapshotter = "${overlay ? 'overlayfs' : 'native'}"\ndefault_runtime_name = "stock"`,
      `[${plugin}.containerd.runtimes.stock]\nruntime_type = "io.containerd.runc.v2"`,
      `[${plugin}.containerd.runtimes.lamina]\nruntime_type = "io.containerd.runc.v2"\nruntime_path = "${shim}"`,
      `[${plugin}.containerd.runtimes.lamina-type]\nruntime_type = "io.containerd.lamina.v2"`,
      ...['stock', 'lamina', 'lamina-type'].map(
        (name) => `[${plugin}.containerd.runtimes.${name}.options]\nSystemdCgroup = ${USE_SYSTEMD}`,
      ),
    ];
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error('containerd does not run');
    return this.#child.pid;
  }

  /** As the daemon tells it: `1.6.20~ds1`. */
  get version(): string {
    return this.#version;
  }

  /**
   * The CRI handler that runs Lamina. containerd before 1.6.21 and 1.7.1 passes over
   * `runtime_path`, without a word.
   */
  get laminaHandler(): 'lamina' | 'lamina-type' {
    const [major = 0, minor = 0, patch = 0] = this.#version.split(/[.~+-]/).map(Number);
    const first: Readonly<Record<number, number>> = { 6: 21, 7: 1 };
    return major === 1 && patch < (first[minor] ?? 0) ? 'lamina-type' : 'lamina';
  }

  async #launch(): Promise<void> {
    const program = findProgram('containerd');
    if (program === undefined) throw new Error('containerd is not installed');
    const log = openSync(join(this.dir, 'containerd.log'), 'a');
    const child = spawn(program, ['--config', join(this.dir, 'containerd.toml')], {
      env: this.env,
      stdio: ['ignore', log, log],
      cwd: this.dir,
    });
    closeSync(log);
    this.#child = child;
    const answer = async (): Promise<boolean> => {
      if (child.exitCode !== null) throw new Error(`containerd ended: ${this.logTail()}`);
      if (!existsSync(this.address)) return false;
      const { code, stdout } = await runCommand(['ctr', '--address', this.address, 'version']);
      this.#version = /Server:\s+Version:\s+v?(\S+)/.exec(stdout)?.[1] ?? '';
      return code === 0;
    };
    await until('containerd answers', answer, { detail: () => this.logTail() });
  }

  /** Ends the daemon with SIGKILL and waits until it is gone. Containers and shims stay. */
  async killHard(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /**
   * Starts the daemon again on the same root and state; it answers when this resolves, so its tasks
   * are loaded.
   */
  async restart(): Promise<void> {
    await this.#end('SIGKILL');
    await this.#launch();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill(signal);
    await within('containerd ends', LATE_MS, exit);
  }

  /** Stops the daemon. Its folder stays until `removeFolder`. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  removeFolder(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }

  /** The last lines of the daemon's log, which holds the shims' logs too: warnings and errors. */
  logTail(lines = 6): string {
    const path = join(this.dir, 'containerd.log');
    if (!existsSync(path)) return '(no log)';
    const all = readFileSync(path, 'utf8').trimEnd().split('\n');
    return all
      .filter((line) => !/level=(debug|info)/.test(line))
      .slice(-lines)
      .join('\n');
  }

  /** A namespace of this daemon, with the test image in it. */
  async namespace(name: string): Promise<string> {
    const namespace = `${this.marker}-${name}`;
    if (this.#namespaces.has(namespace)) return namespace;
    await this.importImage(namespace, 'image.tar');
    return namespace;
  }

  /** Imports an image of the tests' own (image.ts) into a namespace. */
  async importImage(namespace: string, file: 'image.tar' | 'pause.tar'): Promise<void> {
    this.#namespaces.add(namespace);
    const args = ['images', 'import', '--snapshotter', await this.snapshotter(), join(imageFolder(), file)];
    await mustRun(['ctr', '--address', this.address, '-n', namespace, ...args]);
  }

  get namespaces(): readonly string[] {
    return [...this.#namespaces];
  }

  /** overlayfs where the kernel has it, else native. */
  async snapshotter(): Promise<string> {
    if (this.#snapshotter === undefined) {
      const plugins = await mustRun(['ctr', '--address', this.address, 'plugins', 'ls']);
      this.#snapshotter = /snapshotter\.v1\s+overlayfs\s+\S+\s+ok/.test(plugins) ? 'overlayfs' : 'native';
    }
    return this.#snapshotter;
  }

  /** Runs `ctr` in a namespace. */
  async ctr(namespace: string, args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
    return await this.spawnCtr(namespace, args, options).result();
  }

  /** Starts `ctr` in a namespace, to talk to it while it runs. */
  spawnCtr(namespace: string, args: readonly string[], options: CommandOptions = {}): Command {
    return new Command(this.ctrArgv(namespace, args), options);
  }

  ctrArgv(namespace: string, args: readonly string[]): string[] {
    return ['ctr', '--address', this.address, '-n', namespace, ...args];
  }

  /**
   * The path the shim of this id (or group) listens on: SHA-256 of daemon address, namespace and
   * id, joined as a path.
   */
  socketPath(namespace: string, id: string): string {
    const hash = createHash('sha256')
      .update(posix.join(this.address, namespace, id))
      .digest('hex');
    return join('/run/containerd/s', hash);
  }

  /** Remembers an id, so that the leak check knows which socket must be gone. */
  track(namespace: string, id: string): void {
    this.#sockets.add(this.socketPath(namespace, id));
  }

  get socketPaths(): readonly string[] {
    return [...this.#sockets];
  }

  bundle(namespace: string, id: string): string {
    return join(this.dir, 'state/io.containerd.runtime.v2.task', namespace, id);
  }
}
