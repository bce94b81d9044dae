/** An engine that was killed and does not die, and whose place others need. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, it } from 'node:test';
import { Bed, type Engine, eventually, frame, isGone, type Message } from './harness.js';

const FREEZER = '/sys/fs/cgroup/freezer';
const PING_MS = 300;
const cannotFreeze = existsSync(join(FREEZER, 'cgroup.procs'))
  ? false
  : 'needs the freezer of cgroup v1: a process that cgroup v2 has frozen dies of SIGKILL';

/** A v1 freezer group of this test's own. */
class Freezer implements Disposable {
  readonly #dir = join(FREEZER, `lamina-undying-${process.pid}`);

  constructor() {
    mkdirSync(this.#dir);
  }

  freeze(pid: number): Promise<void> {
    writeFileSync(join(this.#dir, 'cgroup.procs'), String(pid));
    writeFileSync(join(this.#dir, 'freezer.state'), 'FROZEN');
    return eventually('frozen', () => readFileSync(join(this.#dir, 'freezer.state'), 'utf8') === 'FROZEN\n');
  }

  thaw(): void {
    writeFileSync(join(this.#dir, 'freezer.state'), 'THAWED');
  }

  [Symbol.dispose](): void {
    this.thaw();
    const procs = (): string[] => readFileSync(join(this.#dir, 'cgroup.procs'), 'utf8').split('\n').filter(Boolean);
    for (const pid of procs()) process.kill(Number(pid), 'SIGKILL');
    while (procs().length > 0);
    rmdirSync(this.#dir);
  }
}

describe('engine that is killed and does not die', { skip: cannotFreeze }, () => {
  let bed: Bed;
  afterEach(() => bed.close());

  async function another(id: string): Promise<string> {
    const bundle = join(bed.dir, id);
    bed.config({}, bundle);
    return await bed.start({ id, bundle });
  }

  it('is left behind: its keepers, and one that came too late, find another, and it never acts again', async () => {
    bed = new Bed({ LAMINA_PING_MS: String(PING_MS) });
    using freezer = new Freezer();
    const { engine, hello, socket } = await bed.keeper();
    await another('two');
    const second = await bed.replayed(engine);
    const daemon = await bed.connect(socket);
    await engine.next('ACCEPTED');
    await freezer.freeze(engine.pid);
    const said = engine.messages.items.length + engine.lines.items.length;
    daemon.write(frame(1, Buffer.from('while it is frozen')));
    await another('three');
    const next = await bed.engine();
    assert.notEqual(next.pid, engine.pid);
    const found: Message[] = [];
    for (let n = 0; n < 3; n += 1) found.push(await bed.replayed(next));
    assert.deepEqual(
      found.map(({ arg }) => arg).filter((pid) => pid === hello.arg || pid === second.arg).length,
      2,
      'the two that it had served',
    );
    assert.equal((await next.next('FRAME')).fields[0]?.subarray(10).toString(), 'while it is frozen');
    // Who comes now is not led astray.
    await another('four');
    await bed.replayed(next);
    assert.equal(isGone(engine.pid), false, 'it is frozen still');
    freezer.thaw();
    await eventually('it is gone', () => isGone(engine.pid));
    assert.equal(engine.messages.items.length + engine.lines.items.length, said, 'it has done nothing since');
    daemon.destroy();
  });

  it('is replaced by an engine that a keeper of its own needs, too', async () => {
    bed = new Bed({ LAMINA_PING_MS: String(PING_MS), LAMINA_FAKE_DECLINE: '1' });
    using freezer = new Freezer();
    await bed.start();
    const shared = await bed.engine();
    const own = await bed.engine();
    await bed.replayed(own);
    await freezer.freeze(own.pid);
    const next = await bed.engine();
    assert.deepEqual(next.args.slice(-1), ['--dedicated']);
    await bed.replayed(next);
    shared.kill();
  });
});

describe('engine that hung before it said who it is', () => {
  let bed: Bed;
  let bystander: ChildProcess | undefined;
  afterEach(async () => {
    bystander?.kill('SIGKILL');
    await bed.close();
  });

  /** A keeper that waits for an engine which is stopped, and which nobody else knows. */
  async function waitingKeeper(): Promise<{ engine: Engine; lock: string; log: string }> {
    bed = new Bed({ LAMINA_PING_MS: String(PING_MS) });
    const { engine, pid } = await bed.keeper();
    process.kill(engine.pid, 'SIGSTOP');
    const bundle = join(bed.dir, 'second');
    bed.config({}, bundle);
    const log = join(bundle, 'log');
    writeFileSync(log, '');
    await bed.start({ id: 'two', bundle });
    process.kill(pid, 'SIGKILL');
    const name = readdirSync(bed.stateDir).find((file) => file.endsWith('.lock')) ?? '';
    return { engine, lock: join(bed.stateDir, name), log };
  }

  /** A process as a container's could be: with mounts of its own, called like our engine. */
  async function likeness(): Promise<number> {
    bystander = spawn('unshare', ['-m', 'sh', '-c', 'echo; read x', join(bed.dir, 'lib/engine.cjs')], {
      stdio: ['pipe', 'pipe', 'ignore'],
    });
    await new Promise((done) => bystander?.stdout?.once('data', done));
    return bystander.pid ?? 0;
  }

  async function isSpared(record: (pid: number, before: string) => string | undefined): Promise<void> {
    const { engine, lock, log } = await waitingKeeper();
    const pid = await likeness();
    const file = lock.replace(/\.lock$/, '.id');
    const text = record(pid, readFileSync(file, 'utf8'));
    writeFileSync(lock, `${pid}\n`);
    if (text === undefined) rmSync(file);
    else writeFileSync(file, text);
    await eventually('it is given up', () => readFileSync(log, 'utf8').includes('does not answer'));
    await eventually('another try', () => readFileSync(log, 'utf8').includes('it ended before it served'));
    assert.equal(isGone(pid), false);
    engine.kill();
    await bed.replayed(await bed.engine());
  }

  it('is not taken for a process that has its pid now, by a record that tells when it began', async () => {
    await isSpared((pid, before) => before.replace(/^\d+/, String(pid)));
  });

  it('is not taken for a process of other namespaces, without a record', async () => {
    await isSpared(() => undefined);
  });
});
