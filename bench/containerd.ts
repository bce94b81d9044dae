/**
 * Both shims under a real containerd, as its clients see them. Not from the staged copies:
 * containerd finds its shims by name.
 */

import { type GrpcClient, GrpcConnection } from '../src/containerd/index.js';
import { mustRun } from '../test/lib/command.js';
import { Containerd } from '../test/lib/containerd.js';
import { TasksDefinition } from '../test/lib/gen/clients/tasks.js';
import { IMAGE } from '../test/lib/image.js';
import { Leaks } from '../test/lib/leaks.js';
import { LATE_MS } from '../test/lib/wait.js';
import type { Plan } from './plan.js';
import type { Label } from './samples.js';
import { timed } from './side.js';

const RUNTIMES: Readonly<Record<Label, string>> = { lamina: 'io.containerd.lamina.v2', peer: 'io.containerd.runc.v2' };
const WARM_UP = 2;
/** Execs are started at this rate, whether or not earlier ones have ended. */
const EXECS_PER_SECOND = 20;
/**
 * The minute of each side is cut into blocks that alternate, so that the rest of the machine
 * disturbs both.
 */
const BLOCKS = 4;
const EXECS_PER_BLOCK = 15 * EXECS_PER_SECOND;

const PROCESS = JSON.stringify({
  args: ['true'],
  cwd: '/',
  env: ['PATH=/bin'],
  user: { uid: 0, gid: 0 },
  noNewPrivileges: true,
});

type Tasks = GrpcClient<typeof TasksDefinition>;

/** One containerd with the test image. */
class Node {
  readonly #daemon: Containerd;
  readonly #leaks: Leaks;
  readonly #namespace: string;
  readonly #snapshotter: string;
  #count = 0;

  private constructor(daemon: Containerd, namespace: string, snapshotter: string) {
    this.#daemon = daemon;
    this.#leaks = new Leaks(daemon);
    this.#namespace = namespace;
    this.#snapshotter = snapshotter;
  }

  static async start(): Promise<Node> {
    const daemon = await Containerd.start({ laminaConfig: '' });
    return new Node(daemon, await daemon.namespace('bench'), await daemon.snapshotter());
  }

  /** The arguments of `ctr run`, and the container's id. */
  #run(label: Label, flags: readonly string[], argv: readonly string[]): { id: string; args: string[] } {
    this.#count += 1;
    const id = `${label}${this.#count}-${this.#daemon.marker}`;
    const fixed = ['--runtime', RUNTIMES[label], '--snapshotter', this.#snapshotter];
    const args = this.#daemon.ctrArgv(this.#namespace, ['run', ...fixed, ...flags, IMAGE, id, ...argv]);
    this.#daemon.track(this.#namespace, id);
    return { id, args };
  }

  /** `ctr run --rm … true`, in ms. */
  async runTrue(label: Label): Promise<number> {
    const { args } = this.#run(label, ['--rm'], ['true']);
    return (await timed(`ctr run with ${label}`, () => mustRun(args))).ms;
  }

  /** Starts a container that stays; returns its id. */
  async stay(label: Label): Promise<string> {
    const { id, args } = this.#run(label, ['-d', '--null-io'], ['sleep', '100000']);
    await mustRun(args);
    return id;
  }

  tasks(): { readonly client: Tasks; close(): void } {
    const connection = new GrpcConnection(this.#daemon.address, {
      metadata: { 'containerd-namespace': this.#namespace },
      timeoutMs: LATE_MS,
    });
    return { client: connection.client(TasksDefinition), close: () => connection[Symbol.dispose]() };
  }

  async remove(id: string): Promise<void> {
    const ctr = (...args: string[]): Promise<string> => mustRun(this.#daemon.ctrArgv(this.#namespace, args));
    await ctr('tasks', 'rm', '-f', id);
    await ctr('containers', 'rm', id);
  }

  async stop(): Promise<void> {
    await this.#daemon.stop();
    this.sweep();
  }

  /** Ends and removes whatever is left, the daemon too, at once. */
  sweep(): void {
    this.#leaks.sweep();
    this.#daemon.removeFolder();
  }
}

async function runs(plan: Plan, node: Node): Promise<void> {
  for (let n = -WARM_UP; n < plan.rounds; n += 1) {
    for (const { label } of plan.inTurn(n)) {
      const ms = await node.runTrue(label);
      if (n >= 0) plan.samples.add('ctr-run', label, ms);
    }
  }
}

async function oneExec(tasks: Tasks, containerId: string, execId: string): Promise<number> {
  const spec = { typeUrl: 'types.containerd.io/opencontainers/runtime-spec/1/Process', value: Buffer.from(PROCESS) };
  const { ms } = await timed(`exec ${execId}`, async () => {
    await tasks.exec({ containerId, execId, spec, stdin: '', stdout: '', stderr: '', terminal: false });
    await tasks.start({ containerId, execId });
    const { exitStatus } = await tasks.wait({ containerId, execId });
    if (exitStatus !== 0) throw new Error(`exit ${exitStatus}`);
    await tasks.deleteProcess({ containerId, execId });
  });
  return ms;
}

async function execs(plan: Plan, node: Node): Promise<void> {
  const ids = new Map<Label, string>();
  for (const { label } of plan.sides) ids.set(label, await node.stay(label));
  const { client, close } = node.tasks();
  const lost: string[] = [];
  for (let block = 0; block < BLOCKS; block += 1) {
    for (const { label } of plan.inTurn(block)) {
      const begin = performance.now();
      const running: Promise<number | undefined>[] = [];
      for (let n = 0; n < EXECS_PER_BLOCK; n += 1) {
        const wait = begin + (n * 1000) / EXECS_PER_SECOND - performance.now();
        if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
        running.push(
          oneExec(client, ids.get(label) ?? '', `${label}-${block}-${n}`).catch((error: unknown) => {
            lost.push(error instanceof Error ? error.message : String(error));
            return undefined;
          }),
        );
      }
      for (const ms of await Promise.all(running)) if (ms !== undefined) plan.samples.add('exec-rate', label, ms);
    }
  }
  close();
  const all = BLOCKS * EXECS_PER_BLOCK;
  for (const { label } of plan.sides) {
    const failed = lost.filter((message) => message.includes(`exec ${label}-`));
    if (failed.length > 0) plan.note(`${failed.length} of ${all} execs with ${label} failed, the first: ${failed[0]}`);
  }
  for (const [label, id] of ids) {
    // The Go shim of containerd 1.6 may never answer again; what is left is swept with the daemon.
    await node.remove(id).catch((error: unknown) => {
      plan.note(
        `the container of ${label} cannot be removed: ${error instanceof Error ? error.message.split('\n')[0] : error}`,
      );
    });
  }
}

export async function containerd(plan: Plan): Promise<void> {
  const node = await Node.start();
  // an interrupted run ends without the `finally` below
  const sweep = (): void => node.sweep();
  process.once('exit', sweep);
  try {
    if (plan.wanted.has('ctr-run')) await runs(plan, node);
    if (plan.wanted.has('exec-rate')) await execs(plan, node);
  } finally {
    await node.stop();
    process.off('exit', sweep);
  }
}
