import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { identityOf, isGone, openProcess, type ProcReader } from '../../../src/sys/index.js';
import { until } from '../../lib/wait.js';

function missing(path: string): Error {
  return Object.assign(new Error(`ENOENT ${path}`), { code: 'ENOENT', syscall: 'open' });
}

/** A /proc of one boot: pid → the text of its stat. */
function proc(stats: Readonly<Record<number, string>>, bootId = 'boot-1', namespace = 'pid:[1]'): ProcReader {
  return {
    file: (path) => {
      if (path.endsWith('boot_id')) return `${bootId}\n`;
      const text = stats[Number(path.split('/')[2])];
      if (text !== undefined) return text;
      throw missing(path);
    },
    link: () => namespace,
  };
}

/** State 3, start time 22, as in proc(5). */
const stat = (name: string, start: string, state = 'S'): string =>
  `7 (${name}) ${state} 1 7 7 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 ${start} 1000 2 0\n`;

describe('process identity', () => {
  test('is pid, start time and boot, whatever the name looks like', () => {
    for (const name of ['sh', 'a b', ') S 1 2 3 (', '', '((']) {
      const found = identityOf(7, proc({ 7: stat(name, '4711') }));
      assert.deepEqual(found, { pid: 7, startTime: 4711, bootId: 'boot-1', pidNamespace: 'pid:[1]' });
    }
  });

  test('another start time, another boot, a zombie or nothing is not that process', () => {
    const owner = { pid: 7, startTime: 4711, bootId: 'boot-1' };
    assert.ok(!isGone(owner, proc({ 7: stat('sh', '4711') })));
    assert.ok(isGone(owner, proc({ 7: stat('sh', '4712') })));
    assert.ok(isGone(owner, proc({ 7: stat('sh', '4711') }, 'boot-2')));
    assert.ok(isGone(owner, proc({ 7: stat('sh', '4711', 'Z') })));
    assert.ok(isGone(owner, proc({})));
  });

  test('a pid of another namespace is not judged by a process that has it here', () => {
    const owner = { pid: 7, startTime: 4711, bootId: 'boot-1', pidNamespace: 'pid:[2]' };
    assert.ok(!isGone(owner, proc({})));
    assert.ok(isGone(owner, proc({}, 'boot-1', 'pid:[2]')));
    assert.ok(isGone(owner, proc({}, 'boot-2')));
  });

  test('what may not be read is not gone, and what cannot be parsed is an error', () => {
    const denied: ProcReader = {
      ...proc({}),
      file: (path) => {
        if (path.endsWith('boot_id')) return 'boot-1';
        throw Object.assign(new Error('EACCES'), { code: 'EACCES', syscall: 'open' });
      },
    };
    assert.ok(!isGone({ pid: 7, startTime: 1, bootId: 'boot-1' }, denied));
    assert.throws(() => identityOf(7, proc({ 7: 'no stat' })), { code: Code.Internal });
  });

  test('what is no pid, or has no process, has no identity', () => {
    for (const pid of [0, -1, 1.5, 2 ** 31 - 1]) assert.equal(identityOf(pid), undefined);
  });

  test('a real process is itself until it has ended, also as a zombie', async () => {
    const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
    const identity = identityOf(child.pid ?? 0);
    assert.ok(identity !== undefined && !isGone(identity));
    using handle = openProcess(identity);
    assert.ok(handle !== undefined);
    assert.equal(openProcess({ ...identity, startTime: 1 }), undefined);
    child.kill('SIGKILL');
    await Promise.all([handle.exited, once(child, 'exit')]);
    await until('it is gone', () => isGone(identity));
    assert.equal(openProcess(identity), undefined);
  });
});
