/** Engines that hang before they say a word, and a node on which there is none. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, it } from 'node:test';
import { Bed, eventually, FAKE_ENGINE, isGone, type Message } from './harness.js';

const KEEPERS = 5;

describe('an engine that hangs while it starts', () => {
  let bed: Bed;
  afterEach(() => bed.close());

  /** Pids of the engines that were started so far. */
  const starts = (): number[] => {
    const path = join(bed.dir, 'starts');
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean).map(Number) : [];
  };

  it('is replaced by one, for all keepers together', async () => {
    bed = new Bed({ LAMINA_PING_MS: '1000' });
    const node = join(bed.dir, 'node');
    bed.env['LAMINA_NODE'] = node;
    execFileSync('mkfifo', [join(bed.dir, 'never')]);
    // The first hangs, in no child that would keep the socket.
    const script = [
      '#!/bin/sh',
      `echo $$ >>${bed.dir}/starts`,
      `mkdir ${bed.dir}/hung 2>/dev/null || exec ${FAKE_ENGINE} "$@"`,
      `read x <>${bed.dir}/never`,
    ];
    writeFileSync(node, `${script.join('\n')}\n`, { mode: 0o755 });
    for (let n = 0; n < KEEPERS; n += 1) {
      const bundle = join(bed.dir, `bundle${n}`);
      bed.config({}, bundle);
      await bed.start({ id: `k${n}`, bundle });
    }
    const engine = await bed.engine();
    const hellos: Message[] = [];
    for (let n = 0; n < KEEPERS; n += 1) hellos.push(await bed.replayed(engine));
    assert.equal(new Set(hellos.map(({ arg }) => arg)).size, KEEPERS);
    const [hung = 0, ...successors] = starts();
    assert.ok(isGone(hung));
    assert.deepEqual(successors, [engine.pid]);
  });

  it('is told of in the log, as is one that ends at once, and both are tried again', async () => {
    bed = new Bed();
    const log = join(bed.bundle, 'log');
    writeFileSync(log, '');
    const node = join(bed.dir, 'node');
    bed.env['LAMINA_NODE'] = node;
    writeFileSync(node, `#!/bin/sh\n[ -e ${bed.dir}/mended ] && exec ${FAKE_ENGINE} "$@"\necho broken >&2; exit 3\n`, {
      mode: 0o755,
    });
    await bed.start();
    const told = (): string => readFileSync(log, 'utf8');
    await eventually('the second failure', () => told().includes('(2 in a row;'));
    assert.match(told(), /level=error msg="no engine: it ended before it served \(1 in a row; its log: .*\.log\)"/);
    writeFileSync(join(bed.dir, 'mended'), '');
    await bed.replayed(await bed.engine());
  });
});

describe('start without an engine', () => {
  let bed: Bed;
  afterEach(() => bed.close());

  it('fails, names what is missing and leaves nothing', async () => {
    bed = new Bed();
    rmSync(join(bed.dir, 'lib/engine.cjs'));
    const result = await bed.verb('start', { input: bed.params() });
    assert.equal(result.code, 1);
    const reason = `engine: not found (${bed.dir}/lib/engine.cjs: No such file or directory): install Lamina, or `;
    assert.ok(result.stderr.startsWith(`containerd-shim-lamina-v2: ${reason}`), result.stderr);
    assert.equal(existsSync(join(bed.bundle, 'address')), false);
    assert.equal(existsSync(bed.socketDir), false);
  });

  it('fails where a part of it is missing beside the file that its link leads to', async () => {
    bed = new Bed();
    const release = join(bed.dir, 'releases/one');
    const parts = ['engine.js', 'lamina.node', 'lamina-worker'];
    mkdirSync(release, { recursive: true });
    for (const name of ['engine.cjs', ...parts]) writeFileSync(join(release, name), '');
    rmSync(join(bed.dir, 'lib/engine.cjs'));
    symlinkSync(join(release, 'engine.cjs'), join(bed.dir, 'lib/engine.cjs'));
    for (const part of parts) {
      renameSync(join(release, part), join(release, 'away'));
      const { code, stderr } = await bed.verb('start', { input: bed.params() });
      assert.equal(code, 1);
      assert.match(stderr, /^containerd-shim-lamina-v2: engine: \S+ is missing: install Lamina again/);
      assert.ok(stderr.includes(join(release, part)), stderr);
      assert.equal(existsSync(bed.socketDir), false);
      renameSync(join(release, 'away'), join(release, part));
    }
    await bed.keeper();
  });
});
