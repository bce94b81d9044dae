import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseListeningPaths } from '../../../src/sys/index.js';

const LINES = `Num       RefCount Protocol Flags    Type St Inode Path
000000002f90efa9: 00000003 00000000 00000000 0001 03 254058
00000000c6ab3b1e: 00000002 00000000 00010000 0005 01 1 /run/lamina/engine-9e026d054f8367ea.sock
00000000c6ab3b1f: 00000002 00000000 00010000 0001 01     2 /run/containerd/s/ab cd
00000000c6ab3b1f: 00000003 00000000 00000000 0001 03 3 /run/containerd/s/ab cd
00000000c6ab3b1f: 00000002 00000000 00010000 0001 01 4 /run/containerd/s/ab cd
00000000c6ab3b20: 00000002 00000000 00010000 0001 01 5 @abstract
00000000c6ab3b21: 00000002 00000000 00010000 0001 01 6 relative
00000000c6ab3b22: 00000002 00000000 00010000 0001 01 7 /a
`;

describe('/proc/net/unix', () => {
  it('names the absolute paths of stream sockets that listen, each once', () => {
    assert.deepEqual(parseListeningPaths(LINES), ['/run/containerd/s/ab cd', '/a']);
    assert.deepEqual(parseListeningPaths(''), []);
  });
});
