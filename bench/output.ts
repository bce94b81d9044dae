/**
 * How fast a container's output reaches a FIFO's reader, and what the shim's processes spend on it.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { mustRun } from '../test/lib/command.js';
import { imageFolder } from '../test/lib/image.js';
import { within } from '../test/lib/wait.js';
import type { Plan } from './plan.js';
import { cpuSeconds } from './processes.js';
import { median } from './samples.js';
import { type Side, STEP_MS, timed } from './side.js';

const GIB = 1024 ** 3;
const BLOCK = 65_536;
const ROUNDS = 2;
/**
 * busybox's dd, static: of the programs in the test image it makes bytes fastest (2.5 GB/s into a
 * pipe here; `probe bytes` 1.5).
 */
const GENERATOR = ['/bin/busybox', 'dd', 'if=/dev/zero', `bs=${BLOCK}`, `count=${GIB / BLOCK}`];

/** Reads exactly one GiB and ends; reads as large as the FIFO allows. */
async function read(fifo: string): Promise<void> {
  // Without fullblock a short read would count as a whole block, and 64 MiB would pass for a GiB.
  const flags = ['bs=1M', `count=${GIB}`, 'iflag=count_bytes,fullblock'];
  const reader = spawn('dd', [`if=${fifo}`, 'of=/dev/null', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] });
  const said: Buffer[] = [];
  reader.stderr.on('data', (chunk: Buffer) => said.push(chunk));
  try {
    const [code] = await within(`1 GiB from ${fifo}`, STEP_MS, once(reader, 'close'));
    const text = Buffer.concat(said).toString('utf8');
    if (code !== 0 || !text.includes(`${GIB} bytes`))
      throw new Error(`reader of ${fifo}: exit ${String(code)}: ${text}`);
  } finally {
    reader.kill('SIGKILL');
  }
}

async function one(side: Side, plan: Plan): Promise<void> {
  const bundle = await side.bundle({ args: GENERATOR, holdOutput: false });
  const { value: address } = await timed(`${side.label}: start verb`, () => side.startVerb(bundle));
  const { value: shim } = await timed(`${side.label}: connect`, () => side.connect(bundle, address));
  // The reader comes first: a shim's open for writing waits for one.
  const reading = read(bundle.fifos.out);
  const stderr = openSync(bundle.fifos.err, constants.O_RDWR | constants.O_NONBLOCK);
  bundle.fds.push(stderr);
  await timed(`${side.label}: create`, () => side.create(shim));
  const pids = side.pids;
  const before = cpuSeconds(pids);
  const { ms } = await timed(`${side.label}: output`, async () => {
    await shim.task.start({ id: bundle.id, execId: '' });
    await reading;
  });
  plan.samples.add('stdout', side.label, GIB / 1e6 / (ms / 1000));
  plan.samples.add('stdout-cpu', side.label, cpuSeconds(pids) - before);
  await side.finish(shim);
}

/** The same programs and a FIFO, no shim between them: the most that can be had. */
async function bare(dir: string): Promise<number> {
  const fifo = join(dir, 'bare.fifo');
  await mustRun(['mkfifo', fifo]);
  const [, ...args] = GENERATOR;
  const { ms } = await timed('output without a shim', async () => {
    const reading = read(fifo);
    const writer = spawn('sh', ['-c', 'exec "$0" "$@" > "$FIFO"', join(imageFolder(), 'rootfs/bin/busybox'), ...args], {
      stdio: 'ignore',
      env: { ...process.env, FIFO: fifo },
    });
    try {
      await reading;
    } finally {
      writer.kill('SIGKILL');
    }
  });
  rmSync(fifo);
  return GIB / 1e6 / (ms / 1000);
}

export async function output(plan: Plan): Promise<void> {
  const without: number[] = [];
  for (let n = 0; n < ROUNDS; n += 1) {
    for (const side of plan.inTurn(n)) await one(side, plan);
    const dir = plan.sides[0]?.daemon.dir;
    if (dir !== undefined) without.push(await bare(dir));
  }
  plan.note(
    `stdout without any shim, the same two programs at the two ends of a FIFO: ${median(without).toFixed(0)} MB/s`,
  );
}
