/**
 * SIGUSR1 is how anybody who may signal an engine would open Node's inspector in it, or end it
 * while it starts. A container with the host's pids may.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { after, before, describe, it } from 'node:test';
import { Status } from '../../../src/api/index.js';
import { LAMINA } from '../../lib/box.js';
import { readProcFile, readProcLink, sendSignal } from '../../lib/proc.js';
import { engineLog, theEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { keeperPidOf, killAndDelete, shutdown, statusOf } from '../../lib/task-steps.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;

/**
 * Prints the pid of the keeper's next child, and sends it SIGUSR1 without a pause from its first
 * instruction to its end.
 */
const HAMMER = `
const { readFileSync, writeSync } = require('node:fs');
const [keeper] = process.argv.slice(1);
const children = () => readFileSync(\`/proc/\${keeper}/task/\${keeper}/children\`, 'utf8').split(' ').filter(Boolean).map(Number);
const known = new Set(children());
writeSync(1, 'ready\\n');
let pid;
while (pid === undefined) pid = children().find((child) => !known.has(child));
writeSync(1, pid + '\\n');
for (let sent = 0; ; sent += 1) {
  try { process.kill(pid, 'SIGUSR1'); } catch { process.exit(0); }
}`;

/** Inodes of the internet sockets that a process has. */
function internetSockets(pid: number): string[] {
  const known = ['tcp', 'tcp6', 'udp', 'udp6', 'raw', 'raw6']
    .flatMap((name) => readProcFile(pid, `net/${name}`).split('\n').slice(1))
    .map((line) => `socket:[${line.trim().split(/\s+/)[9]}]`);
  return descriptors(pid).filter((target) => known.includes(target));
}

function descriptors(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fd`).map((fd) => readProcLink(pid, `fd/${fd}`));
}

/** Whether bit `signal` is set in a mask of /proc/PID/status, see proc_pid_status(5). */
function has(pid: number, mask: string, signal: number, thread: number | string = pid): boolean {
  const status = readProcFile(pid, `task/${thread}/status`);
  const hex = new RegExp(`^${mask}:\\s*([0-9a-f]+)$`, 'm').exec(status)?.[1] ?? '0';
  return ((BigInt(`0x${hex}`) >> BigInt(signal - 1)) & 1n) === 1n;
}

const SIGUSR1 = 10;

describe('an engine that gets SIGUSR1', { skip }, () => {
  let daemon: FakeDaemon;
  let shim: ShimHandle;

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    shim = await daemon.launch({ args: ['/bin/sleep', '1000'] });
    await daemon.create(shim);
    await shim.task.start({ id: shim.id, execId: '' });
  });
  after(async () => {
    await killAndDelete(shim);
    await shutdown(shim);
    await daemon.stop();
  });

  const isUntouched = async (pid: number): Promise<void> => {
    assert.equal(await statusOf(shim), Status.RUNNING);
    assert.equal(await theEngine(daemon), pid);
    assert.deepEqual(internetSockets(pid), []);
    assert.equal(engineLog(daemon), '');
  };

  it('goes on as if there had been none, and listens nowhere', async () => {
    const engine = await theEngine(daemon);
    sendSignal(engine, 'SIGUSR1');
    // So it is never delivered, however long one waits: no thread would take it.
    assert.ok(has(engine, 'ShdPnd', SIGUSR1));
    for (const thread of readdirSync(`/proc/${engine}/task`)) assert.ok(has(engine, 'SigBlk', SIGUSR1, thread), thread);
    await isUntouched(engine);
  });

  it('does so from its first instruction on', async () => {
    const hammer = spawn(process.execPath, ['-e', HAMMER, String(await keeperPidOf(shim))], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      const words: string[] = [];
      hammer.stdout.setEncoding('utf8').on('data', (text: string) => words.push(...text.split('\n').filter(Boolean)));
      while (words.length < 1) await once(hammer.stdout, 'data');
      sendSignal(await theEngine(daemon), 'SIGKILL');
      while (words.length < 2) await once(hammer.stdout, 'data');
      await isUntouched(Number(words[1]));
      assert.equal(hammer.exitCode, null);
    } finally {
      hammer.kill('SIGKILL');
    }
  });

  it('could not open an internet socket if it wanted to, and has no ring for io_uring', async () => {
    const engine = await theEngine(daemon);
    assert.match(readProcFile(engine, 'status'), /^Seccomp:\s2$/m);
    assert.deepEqual(
      descriptors(engine).filter((target) => target.includes('io_uring')),
      [],
    );
  });
});
