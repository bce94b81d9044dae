import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { nodeSpawner, type SpawnRequest } from '../../../src/oci/index.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lamina-spawn-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

async function outputOf(script: string, request: Partial<SpawnRequest> = {}, childFd = 1) {
  const path = join(dir, 'out');
  const fd = openSync(path, 'w');
  const fds = [[fd, childFd] as const, ...(request.fds ?? [])];
  const child = await nodeSpawner.spawn({ name: 'sh', argv: ['/bin/sh', '-c', script], ...request, fds });
  closeSync(fd);
  const status = await child.exited;
  return { status, text: readFileSync(path, 'utf8').trim() };
}

describe('nodeSpawner', () => {
  it('reports exit codes and signals', async () => {
    const before = BigInt(Date.now()) * 1_000_000n;
    const { status } = await outputOf('exit 7');
    assert.deepEqual([status.code, status.signal], [7, undefined]);
    assert.ok(status.timeNs >= before);
    assert.deepEqual(
      { ...(await outputOf('kill -TERM $$')).status, timeNs: 0n },
      { code: 143, signal: 15, timeNs: 0n },
    );
  });

  it('maps descriptors, /dev/null for the standard ones that are not given, and passes no others', async () => {
    const own = openSync('/dev/null', 'r');
    const { text } = await outputOf('readlink /proc/self/fd/0 >&5; ls /proc/self/fd >&5', {}, 5);
    closeSync(own);
    const [stdin, ...fds] = text.split('\n');
    assert.equal(stdin, '/dev/null');
    assert.ok(
      ['0', '1', '2', '5'].every((fd) => fds.includes(fd)),
      text,
    );
    assert.ok(own > 5 && !fds.includes(String(own)), text);
  });

  it('edits or replaces the environment', async () => {
    const script = 'echo "$A|"; test -z "$HOME" && echo unset';
    assert.equal((await outputOf(script, { env: { A: 'x', HOME: undefined } })).text, 'x|\nunset');
    assert.equal((await outputOf(script, { env: { A: 'y' }, clearEnv: true })).text, 'y|\nunset');
  });

  it('runs in the directory given', async () => {
    assert.equal((await outputOf('pwd', { cwd: '/proc' })).text, '/proc');
  });

  it('names what cannot be run', async () => {
    const spawn = (argv: string[], cwd = '/') => nodeSpawner.spawn({ name: 'x', argv, cwd });
    await assert.rejects(spawn(['/no/such']), { code: Code.NotFound, subject: '/no/such' });
    const plain = join(dir, 'plain');
    writeFileSync(plain, '', { mode: 0o644 });
    await assert.rejects(spawn([plain]), { code: Code.PermissionDenied, subject: plain });
    await assert.rejects(spawn(['/bin/true'], '/no/dir'), {
      code: Code.InvalidArgument,
      message: 'run /bin/true in /no/dir: no such directory',
    });
    await assert.rejects(spawn(['']), { code: Code.Unknown });
  });

  it('signals a process, or its whole group, and nothing once it has ended', async () => {
    const single = await nodeSpawner.spawn({ name: 'cat', argv: ['sh', '-c', 'kill -STOP $$'] });
    single.kill(9);
    assert.equal((await single.exited).signal, 9);
    single.kill(9);

    const path = join(dir, 'fifo-free');
    const fd = openSync(path, 'w');
    const group = await nodeSpawner.spawn({
      name: 'sh',
      argv: ['sh', '-c', 'sh -c "kill -STOP \\$\\$" & wait'],
      fds: [[fd, 1]],
    });
    closeSync(fd);
    assert.equal(readFileSync(`/proc/${group.pid}/stat`, 'utf8').split(' ')[4], String(group.pid));
    group.killGroup?.(9);
    assert.equal((await group.exited).signal, 9);
    group.killGroup?.(9);
  });
});
