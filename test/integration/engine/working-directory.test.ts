/**
 * Every run of the runtime, and so every hook, is in the bundle of its container, as with the stock
 * shim.
 */
import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { SIGKILL } from '../../../src/sys/index.js';
import { LAMINA } from '../../lib/box.js';
import { nothingLeft } from '../../lib/leftovers.js';
import { findProgram } from '../../lib/repo.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { killAndDelete, runExec, shutdown } from '../../lib/task-steps.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;
const VERBS = 'create|start|exec|kill|delete|pause|resume|state|update|ps|events|checkpoint|restore';

describe('the working directory of the runtime', { skip }, () => {
  let daemon: FakeDaemon;
  let calls: string;
  let options: api.Any;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    calls = join(daemon.dir, 'calls');
    const path = join(daemon.dir, 'wrapper');
    const script = [
      '#!/bin/bash',
      `verb=; for word; do case $word in ${VERBS}) verb=$word; break ;; esac; done`,
      // As wrappers do that look for annotations.
      `echo "$verb $(sed 's/.*"cgroupsPath":"\\([^"]*\\)".*/\\1/' config.json) $PWD" >>${calls}`,
      '[ -e config.json ] || exit 9',
      `exec ${findProgram('runc') ?? 'runc'} "$@"`,
    ];
    writeFileSync(path, `${script.join('\n')}\n`, { mode: 0o755 });
    options = api.packMessage(api.runc.Options, api.runc.Options.fromPartial({ binaryName: path }));
  });
  after(() => daemon.stop());

  const running = async (): Promise<ShimHandle> => {
    const hooks = { poststop: [{ path: '/bin/sh', args: ['sh', '-c', `echo "hook - $PWD" >>${calls}`] }] };
    rmSync(calls, { force: true });
    const shim = await daemon.launch({ args: ['/bin/sleep', '1000'], hooks });
    await daemon.create(shim, { options });
    await shim.task.start({ id: shim.id, execId: '' });
    return shim;
  };

  const calledIn = (): [verb: string, dir: string][] =>
    readFileSync(calls, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(' '))
      .map(([verb = '', , dir = '']) => [verb, dir]);

  it('is the bundle at each verb, and in hooks', async () => {
    const shim = await running();
    assert.equal(await runExec(shim, 'x', ['/bin/true']), 0);
    await killAndDelete(shim);
    const seen = calledIn();
    assert.deepEqual(
      seen.map(([verb]) => verb),
      ['create', 'start', 'exec', 'delete', 'hook'],
    );
    for (const [verb, dir] of seen) assert.equal(dir, shim.bundle, verb);
    await nothingLeft(daemon, shim.id);
    await shutdown(shim);
  });

  it('is the bundle when a create that failed is undone, and when the daemon deletes without a shim', async () => {
    const shim = await running();
    rmSync(calls);
    await shim.task.kill({ id: shim.id, execId: '', signal: SIGKILL, all: true });
    await shim.task.wait({ id: shim.id, execId: '' });
    const where = ['-bundle', shim.bundle, 'delete'];
    // Another container's bundle, as in a pod.
    const other = await daemon.bundle({ args: ['/bin/true'] });
    assert.equal((await daemon.verb({ id: shim.id, path: other.path }, where)).code, 0);
    for (const [verb, dir] of calledIn()) assert.equal(dir, shim.bundle, verb);
    assert.deepEqual(
      calledIn().map(([verb]) => verb),
      ['delete', 'hook'],
    );
    await shim.task.delete({ id: shim.id, execId: '' });
    await shutdown(shim);
  });
});
