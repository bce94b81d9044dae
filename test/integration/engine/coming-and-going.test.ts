import assert from 'node:assert/strict';
import { closeSync, copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { binding } from '../../../src/sys/index.js';
import type { Box } from '../../lib/box.js';
import { IMAGE } from '../../lib/image.js';
import { shimSuite } from '../../lib/parity.js';
import { isAlive } from '../../lib/proc.js';
import { engines, keepers, stateDir, stateFiles, theEngine } from '../../lib/processes.js';
import { LAMINA_BIN } from '../../lib/repo.js';
import { laminaOnly } from '../../lib/survive.js';
import { until } from '../../lib/wait.js';

function configPath(box: Box): string {
  return box.daemon.env['LAMINA_CONFIG'] ?? '';
}

/**
 * No engine, no keeper, an empty state directory: the engine's idle time is a second in the tests.
 */
async function waitUntilIdle(box: Box): Promise<void> {
  const left = (): unknown[] => [...engines(box.daemon), ...keepers(box.daemon), ...stateFiles(box.daemon)];
  await until('engine, socket, log and lock are gone', () => left().length === 0, { detail: () => left().join(' ') });
}

shimSuite('a shared engine comes and goes', (suite) => {
  const scenario = laminaOnly(suite);

  scenario('ends when idle and removes its socket, log, record and lock', async (box) => {
    const id = await box.start(['sleep', '1000']);
    const engine = await theEngine(box.daemon);
    const kinds = stateFiles(box.daemon)
      .filter((name) => name.startsWith('engine-'))
      .map((name) => name.replace(/^engine-[0-9a-f]{16}\./, ''));
    assert.deepEqual(
      kinds.toSorted((a, b) => a.localeCompare(b)),
      ['id', 'lock', 'log', 'sock'],
    );
    await box.remove(id);
    await waitUntilIdle(box);
    await until('it is gone', () => !isAlive(engine));
  });

  scenario('leaves socket, log, record and lock to an engine that has taken its place', async (box) => {
    const id = await box.start(['sleep', '1000']);
    const engine = await theEngine(box.daemon);
    const socket = stateFiles(box.daemon).find((name) => name.endsWith('.sock')) ?? '';
    const path = join(stateDir(box.daemon), socket);
    await box.remove(id);
    rmSync(path);
    const other = binding().listenUnix(path, 'seqpacket', 1, 0o600);
    await until('it is gone', () => !isAlive(engine));
    assert.equal(stateFiles(box.daemon).length, 4);
    closeSync(other);
    for (const name of stateFiles(box.daemon)) rmSync(join(stateDir(box.daemon), name));
  });

  scenario('is started anew by the next container, time and again', async (box) => {
    const seen = new Set<number>();
    for (let round = 0; round < 3; round += 1) {
      const id = await box.start(['sleep', '1000']);
      seen.add(await theEngine(box.daemon));
      await box.remove(id);
      await waitUntilIdle(box);
    }
    assert.equal(seen.size, 3);
  });

  scenario('does not end while a container runs, however idle', async (box) => {
    const id = await box.start(['sleep', '1000']);
    const engine = await theEngine(box.daemon);
    // Lives that begin and end beside it restart and stop the idle clock.
    const other = await box.run(['sleep', '1.5']);
    assert.equal(other.code, 0);
    assert.equal(await theEngine(box.daemon), engine);
    assert.equal((await box.exec(id, ['echo', 'here'])).stdout, 'here\n');
    await box.remove(id);
  });

  scenario('is there for a container that comes in the moment it ends', async (box) => {
    for (let round = 0; round < 6; round += 1) {
      const id = await box.start(['sleep', '1000']);
      const engine = await theEngine(box.daemon);
      await box.remove(id);
      // The next run begins around the end of the idle second: just before, or as soon as the
      // engine is gone.
      if (round % 2 === 0) await until('the engine is gone', () => !isAlive(engine));
      else await new Promise((resolve) => setTimeout(resolve, 960 + 10 * round));
      const result = await box.run(['sh', '-c', `echo ${round}; exit ${round}`]);
      assert.deepEqual(result, { stdout: `${round}\n`, stderr: '', code: round });
    }
  });

  scenario('starts once for many containers at once', async (box) => {
    await waitUntilIdle(box);
    const ids = await Promise.all(Array.from({ length: 8 }, () => box.start(['sleep', '1000'])));
    assert.equal(engines(box.daemon).length, 1);
    for (const id of ids) await box.remove(id);
  });
});

shimSuite('a broken configuration', (suite) => {
  const scenario = laminaOnly(suite);

  const BROKEN: readonly (readonly [what: string, text: string, error: RegExp])[] = [
    ['a bad value', 'engine = "many"\n', /engine is "many", expected one of "shared", "dedicated"/],
    ['an unknown key', 'colour = "blue"\n', /unknown key "colour"/],
    ['an unknown timeout', '[timeouts]\nnap_ms = 1\n', /unknown key "timeouts\.nap_ms"/],
    [
      'a timeout that is none',
      '[timeouts]\nruntime_ms = "long"\n',
      /timeouts\.runtime_ms is "long", expected milliseconds/,
    ],
    ['no TOML at all', 'engine = = "shared"\n', /line 1|1:10|Invalid TOML/i],
  ];
  for (const [what, text, error] of BROKEN) {
    scenario(`is told of by ctr run, with file and key: ${what}`, async (box) => {
      const good = readFileSync(configPath(box), 'utf8');
      try {
        await waitUntilIdle(box);
        writeFileSync(configPath(box), text);
        const id = box.id();
        const failed = await box.ctr(box.runArgs(id, ['true']));
        assert.notEqual(failed.code, 0);
        assert.ok(failed.stderr.includes(configPath(box)), failed.stderr);
        assert.match(failed.stderr, error);
        await box.ctr(['containers', 'rm', id]);
      } finally {
        writeFileSync(configPath(box), good);
      }
      const result = await box.run(['echo', 'works again']);
      assert.deepEqual(result, { stdout: 'works again\n', stderr: '', code: 0 });
    });
  }

  scenario('does not disturb containers of an engine that runs already', async (box) => {
    const good = readFileSync(configPath(box), 'utf8');
    const id = await box.start(['sleep', '1000']);
    try {
      writeFileSync(configPath(box), 'engine = 7\n');
      assert.equal((await box.exec(id, ['echo', 'fine'])).stdout, 'fine\n');
      assert.equal((await box.run(['echo', 'too'])).stdout, 'too\n');
    } finally {
      writeFileSync(configPath(box), good);
    }
    await box.remove(id);
  });

  scenario('that comes while containers run does not harm them when their engine dies', async (box) => {
    const good = readFileSync(configPath(box), 'utf8');
    const { id, command } = box.spawnRun(['sh', '-c', 'echo up; read x; echo "[$x]"; exit 4']);
    await command.output(/up\n/);
    await box.waitForStatus(id, 'RUNNING');
    try {
      writeFileSync(configPath(box), 'engine = 7\n');
      process.kill(await theEngine(box.daemon), 'SIGKILL');
      assert.equal(await box.status(id), 'RUNNING');
      // the successor knows of the broken file and says so to whoever wants something new
      const refused = box.id();
      const failed = await box.ctr(box.runArgs(refused, ['true']));
      assert.match(failed.stderr, /engine is 7/);
      await box.ctr(['containers', 'rm', refused]);
      command.write('on\n');
      assert.deepEqual(await command.result(), { stdout: 'up\n[on]\n', stderr: '', code: 4 });
    } finally {
      writeFileSync(configPath(box), good);
    }
  });
});

shimSuite('a shim that was copied elsewhere and is named by its path', (suite) => {
  laminaOnly(suite)('serves with the engine that it was installed with', async (box) => {
    const program = join(box.daemon.dir, 'copy/containerd-shim-lamina-v2');
    mkdirSync(dirname(program));
    copyFileSync(join(LAMINA_BIN, 'containerd-shim-lamina-v2'), program);
    const args = ['run', '--rm', '--runtime', program, '--snapshotter', box.snapshotter, IMAGE, box.id()];
    const { stdout, stderr, code } = await box.ctr([...args, 'sh', '-c', 'echo served; exit 5']);
    assert.deepEqual({ stdout, stderr, code }, { stdout: 'served\n', stderr: '', code: 5 });
  });
});

shimSuite(
  'LAMINA_NODE that names nothing',
  (suite) => {
    laminaOnly(suite)('is told of by ctr run, soon, with the path', async (box) => {
      const id = box.id();
      const failed = await box.ctr(box.runArgs(id, ['true']));
      assert.notEqual(failed.code, 0);
      assert.match(failed.stderr, /\/nonexistent\/node/);
      await box.ctr(['containers', 'rm', id]);
    });
  },
  { env: { LAMINA_NODE: '/nonexistent/node' } },
);
