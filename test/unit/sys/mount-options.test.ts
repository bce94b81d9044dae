import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code } from '../../../src/base/index.js';
import * as ms from '../../../src/sys/mount-options.js';
import { shortenLowerDirs, splitLowerDirs } from '../../../src/sys/overlay-options.js';

describe('mount options', () => {
  it('become flags, propagation and data', () => {
    assert.deepEqual(ms.parseMountOptions(['rbind', 'ro', 'nosuid', 'rprivate', 'size=64k', 'mode=755']), {
      flags: ms.MS_BIND | ms.MS_REC | ms.MS_RDONLY | ms.MS_NOSUID,
      propagation: ms.MS_PRIVATE | ms.MS_REC,
      data: ['size=64k', 'mode=755'],
      loop: false,
      uidMap: undefined,
      gidMap: undefined,
    });
  });

  it('have the last word when they contradict one another', () => {
    assert.equal(ms.parseMountOptions(['ro', 'rw', 'noexec', 'exec', 'sync', 'async']).flags, 0);
    assert.equal(ms.parseMountOptions(['rw', 'ro']).flags, ms.MS_RDONLY);
    assert.equal(ms.parseMountOptions(['shared', 'rslave']).propagation, ms.MS_SLAVE | ms.MS_REC);
  });

  it('that are for containerd, or for us, are not passed on', () => {
    const options = ms.parseMountOptions([
      'X-containerd.mkdir.path=/a',
      'loop',
      'uidmap=0:1000:10',
      'gidmap=0:2000:10',
      'defaults',
      '',
    ]);
    assert.deepEqual(options, {
      flags: 0,
      propagation: 0,
      data: [],
      loop: true,
      uidMap: '0:1000:10',
      gidMap: '0:2000:10',
    });
  });

  it('map ids in the form of /proc/PID/uid_map', () => {
    assert.equal(ms.idMapLines('uidmap', '0:100000:65536'), '0 100000 65536\n');
    assert.equal(ms.idMapLines('uidmap', '0:1000:1,1:100000:9'), '0 1000 1\n1 100000 9\n');
    for (const map of ['', '0:1', '0:1:2:3', '0:-1:2', 'a:b:c', '0:1:2,']) {
      assert.throws(() => ms.idMapLines('gidmap', map), { code: Code.InvalidArgument, subject: 'gidmap' }, map);
    }
  });
});

describe('overlay options', () => {
  const layers = (count: number): string[] => Array.from({ length: count }, (_, i) => `/var/lib/snapshots/${i}/fs`);

  it('stay as they are while they fit', () => {
    const data = [`lowerdir=${layers(3).join(':')}`, 'index=off'];
    assert.deepEqual(shortenLowerDirs(data, 3584), { cwd: undefined, data });
  });

  it('are shortened by the directory all layers share', () => {
    const data = ['workdir=/w', `lowerdir=${layers(120).join(':')}`, 'upperdir=/u'];
    const short = shortenLowerDirs(data, 1000);
    assert.equal(short.cwd, '/var/lib/snapshots');
    assert.equal(
      short.data[1],
      `lowerdir=${layers(120)
        .map((path) => path.slice(19))
        .join(':')}`,
    );
    assert.deepEqual([short.data[0], short.data[2]], ['workdir=/w', 'upperdir=/u']);
  });

  it('are shortened by whole names only', () => {
    const short = shortenLowerDirs(['lowerdir=/a/layer1:/a/layer2/x:/a/layer'], 1);
    assert.deepEqual(short, { cwd: '/a', data: ['lowerdir=layer1:layer2/x:layer'] });
  });

  it('with layers that share only the root, are relative, or have escapes, are left alone', () => {
    for (const lowers of ['/a/1:/b/2', 'x/1:x/2', '/a/1\\:2:/a/3']) {
      const data = [`lowerdir=${lowers}`];
      assert.deepEqual(shortenLowerDirs(data, 1), { cwd: undefined, data });
    }
  });

  it('name the same layers as before, whatever they were', () => {
    const name = fc.stringMatching(/^[a-z]{1,3}$/);
    const path = fc.array(name, { minLength: 1, maxLength: 4 }).map((names) => `/${names.join('/')}`);
    fc.assert(
      fc.property(fc.array(path, { minLength: 1, maxLength: 6 }), (lowers) => {
        const { cwd, data } = shortenLowerDirs([`lowerdir=${lowers.join(':')}`], 0);
        const after = splitLowerDirs((data[0] ?? '').slice('lowerdir='.length));
        assert.deepEqual(cwd === undefined ? after : after.map((lower) => `${cwd}/${lower}`), lowers);
      }),
    );
  });

  it('are split at colons that are not escaped', () => {
    assert.deepEqual(splitLowerDirs('/a:/b\\:c:/d\\\\:/e'), ['/a', '/b\\:c', '/d\\\\', '/e']);
  });
});
