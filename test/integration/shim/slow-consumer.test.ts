/**
 * `ctr` whose own output is taken late: it closes its FIFOs as soon as it hears of the exit, and
 * gets everything all the same.
 */
import assert from 'node:assert/strict';
import { appendFileSync } from 'node:fs';
import { mustRun, runCommand, shellQuote } from '../../lib/command.js';
import { hostProgram } from '../../lib/image.js';
import { shimSuite } from '../../lib/parity.js';

/**
 * Less than a FIFO, what ctr has in hand, and the pipe behind it hold; more than the last two do.
 */
const LINES = '12500';

shimSuite('output that is taken late', ({ scenario }) => {
  scenario(
    'is whole',
    async (box) => {
      // However late that is: nothing here depends on how fast this machine is.
      appendFileSync(box.daemon.env['LAMINA_CONFIG'] ?? '', 'read_ms = 3600000\n');
      const expected = await mustRun([hostProgram('probe'), 'drip', LINES]);
      const id = box.id();
      const run = box.daemon.ctrArgv(box.namespace, box.runArgs(id, ['probe', 'drip', LINES], { flags: ['--rm'] }));
      // Time enough for ctr to hear of the exit, if it were told.
      const { stdout, code } = await runCommand(['sh', '-c', `${run.map(shellQuote).join(' ')} | (sleep 1; cat)`]);
      assert.equal(code, 0);
      assert.equal(stdout.length, expected.length);
      assert.ok(stdout === expected);
    },
    { only: 'lamina' },
  );
});
