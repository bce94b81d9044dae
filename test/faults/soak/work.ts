/**
 * The lives and execs of the soak: of each kind a node has, in turn. Each checks its own outcome.
 */
import assert from 'node:assert/strict';
import { readSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { type Shim, type Side, STEP_MS } from '../../../bench/side.js';
import * as api from '../../../src/api/index.js';
import { hostProgram } from '../../lib/image.js';
import { bareProcess } from '../../lib/spec.js';
import { within } from '../../lib/wait.js';

const CHUNK = Buffer.alloc(65_536);

/** How often output is taken: a reader that lets it lie makes each exit wait for it. */
const READ_MS = 2;

/** Takes what output has come, so that no FIFO fills up. */
function drain(fds: readonly number[]): void {
  for (const fd of fds) {
    try {
      while (readSync(fd, CHUNK) === CHUNK.length);
    } catch {
      // nothing there
    }
  }
}

async function call<T>(what: string, promise: Promise<T>): Promise<T> {
  return await within(what, STEP_MS, promise);
}

type Life = (side: Side, shim: Shim) => Promise<void>;

/** Waits in the background; a rejection counts only for whoever asks. */
function waitFor({ bundle: { id }, task }: Shim, execId = ''): Promise<{ readonly exitStatus: number }> {
  const waiting = task.wait({ id, execId });
  waiting.catch(() => undefined);
  return waiting;
}

async function exits(shim: Shim, status: number, after: () => Promise<unknown> = async () => undefined): Promise<void> {
  const { id } = shim.bundle;
  const waiting = waitFor(shim);
  await call('start', shim.task.start({ id, execId: '' }));
  await after();
  assert.equal((await call('wait', waiting)).exitStatus, status);
}

const kill = async ({ bundle: { id }, task }: Shim): Promise<unknown> =>
  await call('kill', task.kill({ id, execId: '', signal: 9, all: true }));

const LIVES: readonly { readonly args: readonly string[]; readonly live: Life }[] = [
  {
    args: ['/bin/sh', '-c', 'echo out; echo err >&2; exit 3'],
    live: async (side, shim) => {
      await call('create', side.create(shim));
      await exits(shim, 3);
    },
  },
  {
    args: ['/bin/sleep', '1000'],
    live: async (side, shim) => {
      await call('create', side.create(shim));
      await exits(shim, 137, async () => {
        const { id } = shim.bundle;
        await call('stats', shim.task.stats({ id }));
        const resources = api.packJson(api.OCI_TYPE_URL.linuxResources, { cpu: { shares: 700 } });
        await call('update', shim.task.update({ id, resources, annotations: {} }));
        await call('pause', shim.task.pause({ id }));
        await call('resume', shim.task.resume({ id }));
        await kill(shim);
      });
    },
  },
  {
    // never started
    args: ['/bin/true'],
    live: async (side, shim) => {
      await call('create', side.create(shim));
      const waiting = waitFor(shim);
      await kill(shim);
      await call('wait', waiting);
    },
  },
  {
    args: ['/bin/sh', '-c', 'echo out; exit 5'],
    live: async (side, shim) => {
      const file = join(side.daemon.dir, 'logged');
      const stdout = `binary://${hostProgram('iolog')}?file=${file}`;
      await call('create', side.create(shim, { stdout, stderr: '' }));
      await exits(shim, 5);
    },
  },
  {
    args: ['/no/such/program'],
    live: async (side, shim) => {
      await assert.rejects(call('create', side.create(shim)), /no such file/);
    },
  },
];

/** One container, from the start verb to the delete verb. */
export async function life(side: Side, n: number): Promise<void> {
  const kind = LIVES[n % LIVES.length] ?? LIVES[0];
  assert.ok(kind !== undefined);
  const bundle = await side.bundle({ args: kind.args });
  const shim = await side.connect(bundle, await call('start verb', side.startVerb(bundle)));
  const reader = setInterval(drain, READ_MS, bundle.fds);
  try {
    await kind.live(side, shim);
  } catch (error) {
    // By force, or its keeper would count as one too many.
    await side.finish(shim);
    throw error;
  } finally {
    clearInterval(reader);
  }
  if (kind.args[0] !== '/no/such/program') await call('delete', shim.task.delete({ id: bundle.id, execId: '' }));
  await call('shutdown', side.shutdown(shim));
  await call('delete verb', side.deleteVerb(bundle));
  drain(bundle.fds);
  side.release(bundle);
}

interface ExecKind {
  readonly args: readonly string[];
  readonly status: number;
  readonly terminal?: boolean;
  /** What is written to its stdin before that is closed. */
  readonly input?: string;
  readonly fails?: boolean;
}

const PLAIN: ExecKind = { args: ['/bin/true'], status: 0 };
const EXECS: readonly ExecKind[] = [
  PLAIN,
  { args: ['/bin/sh', '-c', 'echo out; echo err >&2; exit 7'], status: 7 },
  PLAIN,
  { args: ['/bin/sh', '-c', 'read x; exit "$x"'], status: 9, input: '9\n' },
  PLAIN,
  { args: ['/bin/sh', '-c', 'echo out; exit 8'], status: 8, terminal: true },
  PLAIN,
  PLAIN,
  PLAIN,
  { args: ['/no/such/program'], status: 0, fails: true },
];

/**
 * One exec, from Exec to Delete.
 * @param stdin a FIFO for it alone, with a descriptor for writing, made by the caller
 */
export async function exec(
  shim: Shim,
  n: number,
  stdin: { readonly path: string; readonly fd: number },
): Promise<void> {
  const { bundle, task } = shim;
  const execId = `x${n}`;
  const reader = setInterval(drain, READ_MS, bundle.fds);
  try {
    await runExec(shim, execId, EXECS[n % EXECS.length] ?? PLAIN, stdin);
  } finally {
    clearInterval(reader);
  }
  await call('delete of an exec', task.delete({ id: bundle.id, execId }));
  drain(bundle.fds);
}

/** From Exec to the exit. */
async function runExec(
  shim: Shim,
  execId: string,
  kind: ExecKind,
  stdin: { readonly path: string; readonly fd: number },
): Promise<void> {
  const { bundle, task } = shim;
  const { id } = bundle;
  const terminal = kind.terminal === true;
  const spec = api.packJson(api.OCI_TYPE_URL.process, bareProcess(kind.args, { terminal }));
  const io = {
    stdin: kind.input === undefined ? '' : stdin.path,
    stdout: bundle.fifos.xout,
    stderr: terminal ? '' : bundle.fifos.xerr,
    terminal,
  };
  await call('exec', task.exec({ id, execId, spec, ...io }));
  if (kind.fails === true) {
    await assert.rejects(call('start of an exec', task.start({ id, execId })), /no such file/);
    return;
  }
  const waiting = waitFor(shim, execId);
  await call('start of an exec', task.start({ id, execId }));
  if (kind.input !== undefined) {
    writeSync(stdin.fd, kind.input);
    await call('close of stdin', task.closeIO({ id, execId, stdin: true }));
  }
  assert.equal((await call(`exit of ${kind.args.join(' ')}`, waiting)).exitStatus, kind.status);
}
