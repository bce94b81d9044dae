import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  constants,
  mkdtempSync,
  openSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { openFifoWriter } from '../../../src/sys/index.js';
import { expectNoLeaks } from './leaks.js';

describe('openFifoWriter', () => {
  expectNoLeaks();
  let dir = '';
  let path = '';
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'lamina-test-'));
    path = join(dir, 'fifo');
    execFileSync('mkfifo', [path]);
  });
  after(() => rmSync(dir, { recursive: true }));

  it('has no writer without a reader', () => {
    assert.equal(openFifoWriter(path), null);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openFifoWriter(path);
    assert.ok(writer !== null);
    assert.equal(writeSync(writer, 'x'), 1);
    assert.equal(readSync(reader, Buffer.alloc(4)), 1);
    closeSync(writer);
    assert.equal(readSync(reader, Buffer.alloc(4)), 0);
    closeSync(reader);
  });

  it('follows a symbolic link to a fifo, and refuses everything else', () => {
    const link = join(dir, 'link');
    symlinkSync(path, link);
    assert.equal(openFifoWriter(link), null);
    const file = join(dir, 'file');
    writeFileSync(file, 'x');
    const other = join(dir, 'other');
    symlinkSync(file, other);
    for (const subject of [file, other, dir, '/dev/null']) {
      assert.throws(() => openFifoWriter(subject), { code: Code.InvalidArgument, subject });
    }
    assert.throws(() => openFifoWriter(join(dir, 'absent')), { code: 'ENOENT' });
  });
});
