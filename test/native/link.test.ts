import assert from 'node:assert/strict';
import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Bed } from './harness.js';

describe('link', () => {
  let bed: Bed;
  beforeEach(() => {
    bed = new Bed();
  });
  afterEach(() => bed.close());

  it('introduces itself with everything it knows of the daemon', async () => {
    const { hello, socket } = await bed.keeper();
    const pairs = Object.fromEntries(hello.fields.map((field) => field.toString().split(/=(.*)/s).slice(0, 2)));
    assert.deepEqual(pairs, {
      namespace: 'test',
      id: 'one',
      group: 'one',
      bundle: bed.bundle,
      socket,
      grpc_address: join(bed.dir, 'grpc'),
      ttrpc_address: '/tt',
      publish_binary: '/bin/true',
      debug: '0',
      state_dir: bed.stateDir,
      daemon_version: 'v2.3.0',
      version: pairs.version,
    });
  });

  it('keeps entries and their descriptors for the next engine', async () => {
    const { engine } = await bed.keeper();
    engine.send('PUT', { fields: ['a', 'bytes'] });
    engine.send('PUT', { fields: ['b', 'old'], fds: ['r:/dev/null'] });
    engine.send('PUT', { fields: ['b', 'new'], fds: ['r:/dev/zero'] });
    engine.send('PUT', { fields: ['c', ''] });
    engine.send('DEL', { fields: ['c'] });
    const large = Buffer.alloc(3 << 20, 'x');
    engine.send('PUT', { serial: 9, fields: ['large', large], fds: ['r:/dev/full'] });
    assert.equal((await engine.next('DONE')).serial, 9);
    engine.kill();

    const next = await bed.engine();
    await bed.replayed(next);
    const entries = next.pendingOf('ENTRY');
    assert.deepEqual(
      entries.map((entry) => entry.fields[0]?.toString()),
      ['a', 'b', 'large'],
    );
    assert.deepEqual(entries[1]?.fields[1], Buffer.from('new'));
    assert.ok(entries[2]?.fields[1]?.equals(large));
    const targets = entries.map((entry) => entry.fds.map((fd) => readlinkSync(`/proc/${next.pid}/fd/${fd}`)));
    assert.deepEqual(targets, [[], ['/dev/zero'], ['/dev/full']]);
  });
});
