import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseMountInfo, parseProcessStat, readMountInfo, readPageSize } from '../../../src/sys/index.js';
import { expectNoLeaks } from './leaks.js';

describe('procfs', () => {
  it('reads state and start behind a name that looks like the rest of the line', () => {
    const rest = ['S', ...Array.from({ length: 18 }, (_, field) => String(field)), '4711', '0'];
    assert.deepEqual(parseProcessStat(`7 (a) R 1) ${rest.join(' ')}\n`), { state: 'S', startTime: '4711' });
    assert.deepEqual(parseProcessStat(''), { state: '', startTime: '' });
  });

  expectNoLeaks();

  it('parses mountinfo with escapes, propagation and empty sources', () => {
    const text = [
      '36 35 98:0 /mnt1 /mnt\\0402\\011\\134\\043 rw,noatime master:1 shared:7 - ext3 /dev/r\\040t rw,errors=continue',
      '40 36 0:5 / /proc rw - proc  rw',
      '41 36 0:6 / /- rw unbindable - tmpfs - rw,size=1k',
      '',
    ].join('\n');
    const [first, second, third] = parseMountInfo(text);
    assert.deepEqual(first, {
      id: 36,
      parentId: 35,
      device: '98:0',
      root: '/mnt1',
      mountPoint: '/mnt 2\t\\#',
      options: ['rw', 'noatime'],
      propagation: ['master:1', 'shared:7'],
      type: 'ext3',
      source: '/dev/r t',
      superOptions: ['rw', 'errors=continue'],
    });
    assert.deepEqual([second?.source, second?.superOptions], ['', ['rw']]);
    assert.deepEqual([third?.mountPoint, third?.source, third?.propagation], ['/-', '-', ['unbindable']]);
    assert.throws(() => parseMountInfo('36 35 98:0 / /x rw\n'), /parse mountinfo/);
    assert.ok(readMountInfo().some((info) => info.mountPoint === '/proc'));
  });

  it('knows the page size', () => {
    assert.ok([4096, 16384, 65536].includes(readPageSize()));
  });
});
