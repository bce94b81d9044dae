/**
 * The engine's event loop is blocked, in the middle of its work and before it has begun: the
 * keepers replace it.
 */
import assert from 'node:assert/strict';
import { FaultyAddon } from '../../faults/faulty-addon.js';
import { Bustle } from '../../lib/bustle.js';
import { shimSuite } from '../../lib/parity.js';
import { isAlive } from '../../lib/proc.js';
import { killEngine, theEngine } from '../../lib/processes.js';
import { laminaOnly } from '../../lib/survive.js';
import { until } from '../../lib/wait.js';

/**
 * An engine is replaced after four of these without a word from it: long enough for one that is
 * merely slow.
 */
const PING_MS = '1500';

const addon = new FaultyAddon();
// Not `after`: an interrupted run ends without.
process.on('exit', () => addon.remove());

shimSuite(
  'the engine hangs',
  (suite) => {
    const scenario = laminaOnly(suite, { timeoutMs: 180_000 });

    scenario('while it serves, and while it starts: nobody notices', async (box) => {
      const bustle = await Bustle.begin(box);
      const first = await theEngine(box.daemon);
      addon.arm(2, 'hang');
      await Promise.all([bustle.goesOn(), until('the engine hangs', () => addon.fired)]);
      const second = await theEngine(box.daemon);
      assert.notEqual(second, first);
      await until('the first one is gone', () => !isAlive(first));
      addon.armStart();
      await killEngine(box.daemon);
      await Promise.all([bustle.goesOn(), until('its successor hangs', () => addon.fired)]);
      await theEngine(box.daemon);
      await bustle.finish();
    });
  },
  { env: { LAMINA_ADDON: addon.path, LAMINA_PING_MS: PING_MS } },
);
