/**
 * The engine is replaced by another release while containers do what containers do:
 * `lamina engine upgrade`.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readlinkSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { describe, it } from 'node:test';
import type { Box } from '../../lib/box.js';
import { Bustle } from '../../lib/bustle.js';
import { type CommandResult, mustRun, runCommand } from '../../lib/command.js';
import { copyInstalled, LAMINA_LIBRARY, releaseDir } from '../../lib/installed.js';
import { shimSuite } from '../../lib/parity.js';
import { engines } from '../../lib/processes.js';
import { LAMINA_BIN } from '../../lib/repo.js';
import { laminaOnly } from '../../lib/survive.js';

const NEW_VERSION = '9.8.7';

/** A copy of the installed library, with more releases: `next`, and some that are no good. */
class Library {
  readonly dir = mkdtempSync(join(tmpdir(), 'lamina-upgrade-'));
  readonly installed = basename(releaseDir());

  constructor() {
    copyInstalled(LAMINA_LIBRARY, this.dir);
    const version = /(var VERSION=[^;]*)"[^"]+";/;
    this.#release('next', (code) => code.replace(version, `$1"${NEW_VERSION}";`));
    this.#release('broken', (code) => code.slice(0, code.length / 2));
    this.#release('foreign', (code) => code.replace('var LM_PROTOCOL=1;', 'var LM_PROTOCOL=2;'));
    // Its trial goes well.
    this.#release('mortal', (code) => code.replace(/engine\.(listen|serve)\(INHERITED_FD/g, 'process.exit(3), $&'));
  }

  #release(name: string, change: (code: string) => string): void {
    const dir = join(this.dir, 'releases', name);
    copyInstalled(realpathSync(join(this.dir, 'releases', this.installed)), dir);
    // V8 does not compare contents.
    rmSync(join(dir, 'engine.cache'));
    const script = join(dir, 'engine.js');
    const before = readFileSync(script, 'utf8');
    const after = change(before);
    assert.notEqual(after, before, `release ${name} is no different`);
    writeFileSync(script, after);
  }

  /** The release that keepers would start. */
  get current(): string | undefined {
    return readlinkSync(join(this.dir, 'engine.cjs')).split('/')[1];
  }

  remove(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

interface StatusReport {
  readonly engines: readonly {
    readonly pid: number;
    readonly mode: string;
    readonly status: {
      readonly version: string;
      readonly directory: string;
      readonly keepers: number;
      readonly containers: number;
    } | null;
  }[];
  readonly unserved: readonly unknown[];
  readonly current: string;
}

for (const mode of ['shared', 'dedicated'] as const) {
  const library = new Library();
  // Not `after`: an interrupted run ends without.
  process.on('exit', () => library.remove());

  const lamina = async (box: Box, ...args: string[]): Promise<CommandResult> =>
    await runCommand([join(LAMINA_BIN, 'lamina'), 'engine', ...args], {
      timeoutMs: 120_000,
      env: { LAMINA_LIB: library.dir, LAMINA_STATE_DIR: box.daemon.env['LAMINA_STATE_DIR'] ?? '' },
    });
  const status = async (box: Box): Promise<StatusReport> => {
    const { stdout, stderr, code } = await lamina(box, 'status', '--json', '--timeout', '60');
    assert.equal(code, 0, stderr + stdout);
    return JSON.parse(stdout) as StatusReport;
  };

  shimSuite(
    `lamina engine upgrade (engine = "${mode}")`,
    (suite) => {
      const scenario = laminaOnly(suite, { timeoutMs: 180_000 });

      scenario('nobody notices, there and back', async (box) => {
        const bustle = await Bustle.begin(box);
        const count = mode === 'shared' ? 1 : bustle.ids.length;
        let before = engines(box.daemon);
        assert.equal(before.length, count);
        for (const release of ['next', library.installed]) {
          const pending = bustle.goesOn();
          const { stdout, stderr, code } = await lamina(box, 'upgrade', '--to', release, '--timeout', '100');
          assert.equal(code, 0, stderr + stdout);
          await pending;
          assert.equal(library.current, release);
          const told = stdout.match(/^engine \d+ \(.*\) -> engine \d+ \(.*\); \d keepers?$/gm);
          assert.equal(told?.length, count, stdout);
          const report = await status(box);
          const now = report.engines.map(({ pid }) => pid);
          assert.deepEqual(now, engines(box.daemon));
          assert.equal(now.length, count);
          assert.ok(
            now.every((pid) => !before.includes(pid)),
            `${before} ${now}`,
          );
          const served = report.engines.map((engine) => engine.status);
          assert.ok(
            served.every((engine) => engine?.directory === join(library.dir, 'releases', release)),
            stdout,
          );
          if (release === 'next') assert.ok(served.every((engine) => engine?.version === NEW_VERSION));
          assert.equal(
            served.reduce((sum, engine) => sum + (engine?.containers ?? 0), 0),
            bustle.ids.length,
          );
          before = now;
        }
        await bustle.finish();
      });

      // The rest is the same in both.
      if (mode === 'dedicated') return;

      scenario(
        'changes nothing when the new release does not start or does not speak with the keepers',
        async (box) => {
          const id = await box.start(['sleep', '1000']);
          const before = engines(box.daemon);
          for (const [release, reason] of [
            ['broken', /broken\/engine\.cjs does not start/],
            ['foreign', /speaks version 1 of the keeper's messages, .* only 2: nothing was changed/],
            ['none', /none is no release/],
          ] as const) {
            const { stderr, code } = await lamina(box, 'upgrade', '--to', release);
            assert.equal(code, 1, release);
            assert.match(stderr, release === 'none' ? /does not start|no release/ : reason);
          }
          assert.equal(library.current, library.installed);
          assert.deepEqual(engines(box.daemon), before);
          const again = await lamina(box, 'upgrade');
          assert.deepEqual({ code: again.code, stderr: again.stderr }, { code: 0, stderr: '' });
          assert.match(again.stdout, /is that already/);
          assert.deepEqual(engines(box.daemon), before);
          await box.remove(id);
        },
      );

      scenario('tells of keepers that the new release does not serve, and how to go back', async (box) => {
        const { id, command } = box.spawnRun(['sh', '-c', 'echo up; read x; echo "[$x]"; exit 5'], {
          timeoutMs: 120_000,
        });
        await command.output(/up\n/);
        await box.waitForStatus(id, 'RUNNING');
        const failed = await lamina(box, 'upgrade', '--to', 'mortal', '--timeout', '1');
        assert.equal(failed.code, 1);
        assert.match(failed.stderr, new RegExp(`not served again within 1000 ms:\n +keeper \\d+ \\(.*/${id}\\)`));
        assert.match(failed.stderr, new RegExp(`To go back: lamina engine upgrade --to .*${library.installed}`));
        command.write('meanwhile\n');
        await command.output(/\[meanwhile\]\n/);
        const back = await lamina(box, 'upgrade', '--to', library.installed, '--timeout', '100');
        assert.equal(back.code, 0, back.stderr);
        assert.deepEqual(await command.result(), { stdout: 'up\n[meanwhile]\n', stderr: '', code: 5 });
      });
    },
    { laminaConfig: `engine = "${mode}"`, env: { LAMINA_LIB: library.dir } },
  );
}

describe('the lamina command', () => {
  const lamina = join(LAMINA_BIN, 'lamina');

  it('says what it can do, and what it cannot', async () => {
    assert.match(await mustRun([lamina, '--help']), /lamina engine upgrade/);
    assert.match(await mustRun([lamina, 'engine', '--help']), /--to RELEASE/);
    assert.match(await mustRun([lamina, '--version']), /^lamina \d+\.\d+\.\d+/);
    for (const args of [
      [],
      ['fly'],
      ['engine'],
      ['engine', 'status', '--what'],
      ['engine', 'upgrade', '--timeout', 'x'],
    ]) {
      const { code, stderr } = await runCommand([lamina, ...args]);
      assert.equal(code, 2, args.join(' '));
      assert.match(stderr, /^lamina: .*\n\nusage: lamina/s);
    }
  });

  it('finds nothing where nothing runs', async () => {
    const env = { LAMINA_STATE_DIR: '/nonexistent' };
    assert.match(
      await mustRun([lamina, 'engine', 'status'], { env }),
      /^no engine runs\n(release .*\n)*release .* \(installed\)\n/,
    );
    assert.match(await mustRun([lamina, 'engine', 'upgrade'], { env }), /no engine runs: the next container starts it/);
  });
});
