import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, it, mock } from 'node:test';
import { silentLogger } from '../../../src/base/index.js';
import { InitExit, type InitExitHost } from '../../../src/shim/init-exit.js';
import { TrackedProcess } from '../../../src/shim/process/tracked.js';
import { until } from '../../lib/wait.js';

const NEVER = new Promise<never>(() => undefined);

describe('InitExit', () => {
  const bundle = mkdtempSync(join(tmpdir(), 'init-exit-'));
  after(() => rmSync(bundle, { recursive: true, force: true }));

  const stage = (
    parts: object,
  ): { readonly exit: InitExit; readonly init: TrackedProcess; readonly topics: string[] } => {
    const topics: string[] = [];
    const init = new TrackedProcess({ stdin: '', stdout: '', stderr: '', terminal: false });
    const host = {
      context: {
        config: { timeouts: { readMs: 1 } },
        publish: ({ topic }: { topic: string }) => void topics.push(topic),
      },
      log: silentLogger,
      settings: { id: 'c', bundle, sharesPidNamespace: true },
      init,
      execs: { idle: () => Promise.resolve() },
      cgroup: { endLeftovers: () => Promise.resolve(), end: mock.fn() },
      ledger: { state: 'running', isClosed: false, save: () => undefined },
      ...parts,
    };
    return { exit: new InitExit(host as unknown as InitExitHost), init, topics };
  };

  for (const [what, parts] of [
    ['what init has left cannot die', { cgroup: { endLeftovers: () => NEVER, end: () => undefined } }],
    ['an exec cannot die', { execs: { idle: () => NEVER } }],
    [
      'a paused group does not thaw',
      {
        settings: { id: 'c', bundle, sharesPidNamespace: false },
        ledger: { state: 'paused', isClosed: false, save: () => undefined },
        cgroup: { endLeftovers: () => NEVER, end: () => undefined },
      },
    ],
  ] as const) {
    it(`tells of the end of init where ${what}`, async () => {
      const { exit, init, topics } = stage(parts);
      exit.reaped({ code: 3, timeNs: 1n });
      await until('the exit is told', () => topics.length > 0, { deadlineMs: 5_000 });
      assert.deepEqual(topics, ['/tasks/exit']);
      assert.equal(init.exit?.code, 3);
    });
  }
});
