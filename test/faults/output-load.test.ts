/**
 * `ctr run` of containers that say much at their end, on a machine with too much to do, where ctr
 * comes last: it loses nothing. It closes its FIFOs when it hears of the exit (docs:
 * ARCHITECTURE.md, "An exit").
 *
 * LAMINA_LIVES is how many (default 60).
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { mustRun, runCommand } from '../lib/command.js';
import { hostProgram } from '../lib/image.js';
import { shimSuite } from '../lib/parity.js';
import { laminaOnly } from '../lib/survive.js';

const LIVES = Number(process.env['LAMINA_LIVES'] ?? 60);
const AT_ONCE = 6;
const LINES = 5_000;
const COMMAND_MS = 120_000;

/** Keeps every processor busy, and one more. */
async function underLoad<T>(work: () => Promise<T>): Promise<T> {
  const hogs = Array.from({ length: availableParallelism() + 1 }, () => spawn('sh', ['-c', 'while :; do :; done']));
  try {
    return await work();
  } finally {
    for (const hog of hogs) hog.kill('SIGKILL');
  }
}

shimSuite('output on a busy machine', (suite) => {
  const scenario = laminaOnly(suite, { timeoutMs: 120_000 + LIVES * 20_000 });

  scenario(`is whole in ${LIVES} runs`, async (box) => {
    // ctr may have to wait long for a processor.
    appendFileSync(box.daemon.env['LAMINA_CONFIG'] ?? '', 'read_ms = 3600000\n');
    const expected = await mustRun([hostProgram('probe'), 'drip', String(LINES)]);
    const cut: string[] = [];
    let next = 0;
    const worker = async (): Promise<void> => {
      while (next < LIVES) {
        next += 1;
        const args = box.runArgs(box.id(), ['probe', 'drip', String(LINES)], { flags: ['--rm'] });
        // So that the shim is always ahead of it.
        const argv = ['nice', '-n', '19', ...box.daemon.ctrArgv(box.namespace, args)];
        const { stdout, stderr, code } = await runCommand(argv, { timeoutMs: COMMAND_MS });
        assert.equal(code, 0, stderr);
        if (stdout !== expected) cut.push(`${stdout.length} bytes`);
      }
    };
    await underLoad(() => Promise.all(Array.from({ length: AT_ONCE }, worker)));
    console.log(`${cut.length} of ${LIVES} have lost output`);
    assert.deepEqual(cut, [], `instead of ${expected.length} bytes`);
  });
});
