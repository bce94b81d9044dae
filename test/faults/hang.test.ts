/**
 * What hangs or never starts, where it takes long to find out. The short form is
 * test/integration/engine/hang.test.ts.
 */
import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Box } from '../lib/box.js';
import { Bustle } from '../lib/bustle.js';
import { type CommandResult, runCommand } from '../lib/command.js';
import { copyInstalled, LAMINA_LIBRARY } from '../lib/installed.js';
import { shimSuite } from '../lib/parity.js';
import { isAlive } from '../lib/proc.js';
import { engines, keepers, theEngine } from '../lib/processes.js';
import { LAMINA_BIN } from '../lib/repo.js';
import { laminaOnly } from '../lib/survive.js';
import { until } from '../lib/wait.js';
import { FaultyAddon } from './faulty-addon.js';

const addon = new FaultyAddon();
const library = mkdtempSync(join(tmpdir(), 'lamina-no-engine-'));
copyInstalled(LAMINA_LIBRARY, library);
// Not `after`: an interrupted run ends without.
process.on('exit', () => {
  addon.remove();
  rmSync(library, { recursive: true, force: true });
});

const MESSAGES = [1, 2, 3, 5, 8];

for (const mode of ['shared', 'dedicated']) {
  shimSuite(
    `the engine hangs after some message (engine = "${mode}")`,
    (suite) => {
      const scenario = laminaOnly(suite, { timeoutMs: 300_000 });
      scenario('nobody notices', async (box) => {
        const bustle = await Bustle.begin(box);
        const count = engines(box.daemon).length;
        for (const n of MESSAGES) {
          addon.arm(n, 'hang');
          await Promise.all([bustle.goesOn(), until('an engine hangs', () => addon.fired)]);
          await until('as many engines as before', () => engines(box.daemon).length === count);
        }
        await bustle.finish();
      });
    },
    {
      laminaConfig: `engine = "${mode}"`,
      env: { LAMINA_ADDON: addon.path, LAMINA_PING_MS: '1500' },
    },
  );
}

shimSuite(
  'where no engine can be had',
  (suite) => {
    const scenario = laminaOnly(suite, { timeoutMs: 300_000 });
    const lamina = async (box: Box, ...args: string[]): Promise<CommandResult> =>
      await runCommand([join(LAMINA_BIN, 'lamina'), 'engine', ...args], {
        timeoutMs: 120_000,
        env: { LAMINA_LIB: library, LAMINA_STATE_DIR: box.daemon.env['LAMINA_STATE_DIR'] ?? '' },
      });

    scenario('ctr run fails and says why, and nothing of it stays', async (box) => {
      const script = join(library, 'engine.cjs');
      const saved = join(library, 'engine.saved.cjs');
      cpSync(script, saved, { verbatimSymlinks: true });
      rmSync(script);
      try {
        const missing = await box.ctr(box.runArgs(box.id(), ['true'], { flags: ['--rm'] }));
        assert.notEqual(missing.code, 0);
        assert.match(missing.stderr, /engine: .*\/engine\.cjs: No such file or directory/);

        symlinkSync('/dev/null', script);
        const id = box.id();
        const failed = await box.ctr(box.runArgs(id, ['true']), { timeoutMs: 120_000 });
        assert.notEqual(failed.code, 0);
        assert.match(
          failed.stderr,
          /no engine after 1\d tries: it ended before it served; its log: \/.*engine-.*\.log/,
        );
        await until('the keeper is gone', () => keepers(box.daemon).length === 0, { deadlineMs: 120_000 });
        await box.ctr(['containers', 'rm', id]);
      } finally {
        rmSync(script, { force: true });
        cpSync(saved, script, { verbatimSymlinks: true });
      }
      assert.deepEqual(await box.run(['echo', 'works again']), { stdout: 'works again\n', stderr: '', code: 0 });
    });

    scenario('lamina engine upgrade replaces one that hangs', async (box) => {
      const id = await box.start(['sleep', '1000']);
      const hung = await theEngine(box.daemon);
      process.kill(hung, 'SIGSTOP');
      const replaced = await lamina(box, 'upgrade', '--force', '--timeout', '100');
      assert.equal(replaced.code, 0, replaced.stderr);
      assert.match(replaced.stdout, new RegExp(`engine ${hung} does not go within`));
      assert.ok(!isAlive(hung));
      assert.notEqual(await theEngine(box.daemon), hung);
      assert.equal((await box.exec(id, ['echo', 'on'])).stdout, 'on\n');
      await box.remove(id);
    });
  },
  { env: { LAMINA_LIB: library } },
);
