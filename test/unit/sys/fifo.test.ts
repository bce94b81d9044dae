import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, readFileSync, readSync, rmSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import {
  closeFds,
  openAppend,
  openFifoBoth,
  openFifoOutput,
  openFifoReader,
  openFifoWriter,
} from '../../../src/sys/index.js';
import { expectNoLeaks } from './leaks.js';

const O_NONBLOCK = 0o4000;
const O_ACCMODE = 3;

function flagsOf(fd: number): number {
  const line = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
  return Number.parseInt(line?.[1] ?? '0', 8);
}

describe('fifo', () => {
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
    const reader = openFifoReader(path);
    const writer = openFifoWriter(path);
    assert.ok(writer !== null);
    assert.equal(writeSync(writer, 'x'), 1);
    assert.equal(readSync(reader, Buffer.alloc(4)), 1);
    assert.throws(() => readSync(reader, Buffer.alloc(4)), { code: 'EAGAIN' });
    closeSync(writer);
    assert.equal(readSync(reader, Buffer.alloc(4)), 0);
    closeSync(reader);
  });

  it('gives output a blocking write-only end that outlives its readers', () => {
    const { writer, spareReader } = openFifoOutput(path);
    assert.equal(flagsOf(writer) & O_NONBLOCK, 0);
    assert.equal(flagsOf(writer) & O_ACCMODE, 1);
    assert.equal(flagsOf(spareReader) & O_NONBLOCK, O_NONBLOCK);
    const reader = openFifoReader(path);
    closeSync(reader);
    assert.equal(writeSync(writer, 'kept'), 4);
    closeFds([writer, spareReader]);
  });

  it('opens both ends in one descriptor', () => {
    const fd = openFifoBoth(path);
    writeSync(fd, 'xy');
    assert.equal(readSync(fd, Buffer.alloc(4)), 2);
    closeSync(fd);
  });

  it('follows a symbolic link to a fifo, and refuses everything else', () => {
    const link = join(dir, 'link');
    symlinkSync(path, link);
    closeSync(openFifoReader(link));
    const file = join(dir, 'file');
    writeFileSync(file, 'x');
    for (const other of [file, dir, '/dev/null']) {
      const refused = { code: Code.InvalidArgument, subject: other };
      assert.throws(() => openFifoReader(other), refused);
      assert.throws(() => openFifoWriter(other), refused);
      assert.throws(() => openFifoOutput(other), refused);
    }
    assert.throws(() => openFifoReader(join(dir, 'absent')), { code: 'ENOENT' });
  });

  it('appends to files', () => {
    const file = join(dir, 'log');
    for (const text of ['one ', 'two']) {
      const fd = openAppend(file);
      writeSync(fd, text);
      closeSync(fd);
    }
    assert.equal(readFileSync(file, 'utf8'), 'one two');
  });
});
