import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { bundlePaths, type Runc, RuncError, withArgs, withMemoryLimit } from '../../../src/oci/index.js';
import { requires } from '../../lib/requires.js';
import { OciFixture } from './fixture.js';

const needed = { root: true, runc: '1.1', crun: '1.0', programs: ['busybox'] } as const;

describe('Runc with the real crun', { skip: requires(needed) }, () => {
  let fixture: OciFixture;
  let crun: Runc;
  beforeEach(() => {
    fixture = new OciFixture();
    crun = fixture.runc({ binary: 'crun' });
  });
  afterEach(async () => {
    assert.deepEqual(await fixture.close(), []);
  });

  it('gets on with its command line', async () => {
    assert.equal(crun.kind, 'crun');
    assert.equal((await crun.version()).name, 'crun');
    assert.deepEqual(await crun.list(), []);
    const pidFile = bundlePaths(fixture.bundle).execPid('e');
    const calls: readonly [string, () => Promise<unknown>][] = [
      ['start', () => crun.start('c')],
      ['exec', () => crun.exec('c', { process: { cwd: '/', args: ['true'] }, pidFile })],
      ['pause', () => crun.pause('c')],
      ['resume', () => crun.resume('c')],
      ['ps', () => crun.ps('c')],
      ['update', () => crun.update('c', { pids: { limit: 5 } })],
      ['state', () => crun.state('c')],
      ['kill', () => crun.kill('c', 9, { all: true })],
    ];
    // Past its option parser each call fails for want of the container, and says so in the log we
    // read.
    for (const [name, call] of calls) {
      await assert.rejects(call(), (error) => {
        assert.ok(error instanceof RuncError, String(error));
        assert.equal(error.code, Code.NotFound, `${name}: ${error.message}`);
        return true;
      });
    }
    assert.equal(await crun.delete('c'), false);
    assert.equal(await crun.delete('c', { force: true }), true);
  });

  it('passes on why a container cannot be created', async () => {
    writeFileSync(join(fixture.bundle, 'config.json'), '{"ociVersion":');
    const create = crun.create('c', { bundle: fixture.bundle, noPivot: true, noNewKeyring: true });
    await assert.rejects(create, (error) => {
      assert.ok(error instanceof RuncError, String(error));
      assert.match(error.message, /^OCI runtime create failed: (?!unable to retrieve)/);
      assert.notDeepEqual(error.logEntries, []);
      return true;
    });
  });

  it('takes a container through its life', { skip: requires({ cgroup: 'v2' }) }, async () => {
    fixture.configure(withArgs('sleep', '1000'), withMemoryLimit(64 * 1024 * 1024));
    const pid = await crun.create('c', { bundle: fixture.bundle });
    await crun.start('c');
    assert.deepEqual(await crun.ps('c'), [pid]);
    await crun.update('c', { memory: { limit: 32 * 1024 * 1024 } });
    await crun.pause('c');
    assert.equal((await crun.state('c')).status, 'paused');
    await crun.resume('c');
    await crun.kill('c', 9);
    await fixture.ended(pid);
    assert.equal(await crun.delete('c'), true);
  });
});
