import assert from 'node:assert/strict';
import { readlinkSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { encodeMessage } from '../../src/sys/index.js';
import { Bed, lm } from './harness.js';

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
      features: 'batch',
    });
  });

  it('does the parts of a batch in order, or none of them', async () => {
    const { engine } = await bed.keeper();
    const part = (type: string, fields: readonly string[], serial = 0): Buffer =>
      encodeMessage({ type: lm(`MSG_${type}`), serial, fields: [...fields] }).data;
    engine.send('BATCH', {
      fields: [part('PUT', ['a', '1']), part('PUT', ['b', '2']), part('DEL', ['a']), part('PUT', ['c', '3'], 7)],
    });
    assert.equal((await engine.next('DONE')).serial, 7);
    const nested = encodeMessage({ type: lm('MSG_BATCH'), fields: [part('PUT', ['x', ''])] }).data;
    for (const bad of [part('PUT', ['x', '']).subarray(0, 30), nested, Buffer.from('x')]) {
      engine.send('BATCH', { serial: 8, fields: [part('PUT', ['d', '4']), bad, part('PUT', ['e', '5'])] });
      const failed = await engine.next('FAILED');
      assert.deepEqual([failed.serial, failed.arg], [8, constants.errno.EBADMSG]);
    }
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    assert.deepEqual(
      next.pendingOf('ENTRY').map((entry) => entry.fields.map(String)),
      [
        ['b', '2'],
        ['c', '3'],
      ],
    );
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
