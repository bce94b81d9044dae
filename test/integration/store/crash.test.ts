/**
 * A store is killed, or refused a change of a file, at many of its changes of files. Whatever the
 * point, it then holds what it held before the step or after it, and goes on.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { fsck } from '../../../src/store/index.js';
import { REPO } from '../../lib/repo.js';
import { requires } from '../../lib/requires.js';
import { checkFiles, stateOf } from '../../lib/store/state.js';
import { openStore, STEPS } from '../../lib/store/workload.js';

const RUNS = Number(process.env['LAMINA_CRASH_RUNS'] ?? '50');
const HOW = ['kill', 'torn', 'ENOSPC', 'EIO', 'kill', 'torn', 'ENOSPC+', 'EIO+'] as const;
const WORKLOAD = join(import.meta.dirname, '../../lib/store/workload.js');
const EXPECTED_CODES: readonly number[] = [Code.ResourceExhausted, Code.Internal, Code.Unavailable];

interface Outcome {
  /** Steps that were done. */
  readonly done: number;
  readonly failed: { readonly code: number; readonly message: string } | undefined;
  readonly output: string;
}

describe('a store whose files fail', { skip: requires({ programs: ['gcc'] }) }, () => {
  const dir = mkdtempSync('/tmp/lamina-store-');
  const library = join(dir, 'faults.so');
  /** The state before each step, and after the last. */
  const states: string[] = [];

  before(async () => {
    const source = join(REPO, 'test/lib/preload/file-faults.c');
    execFileSync('gcc', ['-O1', '-shared', '-fPIC', '-o', library, source, '-ldl']);
    using store = openStore(join(dir, 'model'));
    for (const step of STEPS) {
      states.push(stateOf(store));
      await step(store);
    }
    states.push(stateOf(store));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  function run(root: string, fault: Record<string, string>): Outcome {
    const env = { ...process.env, LD_PRELOAD: library, FAULT_ROOT: root, ...fault };
    const { stdout, stderr } = spawnSync(process.execPath, [WORKLOAD, root, '0'], { env, encoding: 'utf8' });
    const lines = stdout.split('\n');
    const [, , json] = /^failed (\d+) (.*)$/m.exec(stdout) ?? [];
    return {
      done: lines.filter((line) => line.startsWith('done')).length,
      failed: json === undefined ? undefined : (JSON.parse(json) as { code: number; message: string }),
      output: stdout + stderr,
    };
  }

  function countChanges(): number {
    const file = join(dir, 'count');
    const { done, output } = run(join(dir, 'counted'), { FAULT_AT: '0', FAULT_COUNT: file });
    assert.equal(done, STEPS.length, output);
    return Number(readFileSync(file, 'utf8'));
  }

  async function check(root: string, { done, failed, output }: Outcome): Promise<void> {
    if (failed !== undefined) {
      assert.ok(EXPECTED_CODES.includes(failed.code), output);
      assert.ok(failed.message.includes(root), `no file is named: ${failed.message}`);
    }
    const { findings } = await fsck({ root, repair: true, verify: true });
    // The snapshotter's own, between its directory and the record.
    const left = findings.filter(({ isRepaired, problem }) => !isRepaired && problem !== 'a directory of no snapshot');
    assert.deepEqual(left, [], output);
    using store = openStore(root);
    const state = stateOf(store);
    const at = [done, done + 1].find((step) => states[step] === state);
    if (at === undefined) assert.equal(state, states[done], `neither old nor new\n${output}`);
    await checkFiles(store);
    for (const step of STEPS.slice(at)) await step(store);
    assert.equal(stateOf(store), states.at(-1));
    await checkFiles(store);
    assert.deepEqual((await fsck({ root, verify: true })).findings, []);
  }

  test(`the state is the old or the new one after ${RUNS} faults`, async () => {
    const changes = countChanges();
    const points = new Set<string>();
    for (let i = 0; i < RUNS; i += 1) {
      const at = 1 + Math.floor((i * changes) / RUNS);
      const how = HOW[i % HOW.length] ?? 'kill';
      const root = join(dir, 'store');
      rmSync(root, { recursive: true, force: true });
      const outcome = run(root, { FAULT_AT: String(at), FAULT_HOW: how });
      points.add(`${outcome.done}`);
      await check(root, outcome).catch((error: unknown) => {
        throw new Error(`${how} at change ${at} of ${changes}: ${String(error)}`, { cause: error });
      });
    }
    assert.ok(points.size > STEPS.length / 2, `only steps ${[...points]} were hit`);
  });
});
