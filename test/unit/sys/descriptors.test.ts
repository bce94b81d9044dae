import assert from 'node:assert/strict';
import {
  closeSync,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { binding } from '../../../src/sys/index.js';
import { closeFds, expectNoLeaks } from './leaks.js';

const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;

function flagsOf(fd: number): number {
  const line = /^flags:\s+(\d+)$/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'));
  return Number.parseInt(line?.[1] ?? '0', 8);
}

describe('descriptor calls', () => {
  expectNoLeaks();
  let dir = '';
  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'lamina-test-'));
  });
  after(() => rmSync(dir, { recursive: true }));

  it('opens everything close-on-exec', () => {
    const native = binding();
    const listener = native.listenUnix(join(dir, 'cloexec'), 'stream', 1, 0o600);
    const [master] = native.openPty();
    const fds = [
      ...native.pipe(),
      ...native.socketPair('stream'),
      native.eventfd(),
      native.inotifyInit(),
      native.memfd('m', Buffer.alloc(0)),
      native.pidfdOpen(process.pid),
      native.connectUnix(join(dir, 'cloexec'), 'stream'),
      native.dupFd(0),
      listener,
      master,
    ];
    const accepted = native.acceptUnix(listener);
    assert.ok(accepted !== null);
    fds.push(accepted);
    const [left, right] = native.socketPair('seqpacket');
    fds.push(left, right);
    native.sendMessage(left, Buffer.from('x'), [left]);
    fds.push(...(native.recvMessage(right, 16)?.fds ?? []));
    assert.equal(fds.length, 16);
    for (const fd of fds) assert.equal(flagsOf(fd) & O_CLOEXEC, O_CLOEXEC, readlinkSync(`/proc/self/fd/${fd}`));
    closeFds(fds);
  });

  it('gives a path socket its mode whatever the umask, and takes one connection at a time', () => {
    const path = join(dir, 'listen');
    const umask = process.umask(0o077);
    const listener = binding().listenUnix(path, 'stream', 4, 0o666);
    process.umask(umask);
    assert.equal(statSync(path).mode & 0o777, 0o666);
    assert.equal(binding().acceptUnix(listener), null);
    const client = binding().connectUnix(path, 'stream');
    const server = binding().acceptUnix(listener);
    assert.ok(server !== null);
    assert.deepEqual(binding().peerCredentials(server), {
      pid: process.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    });
    assert.equal(binding().acceptUnix(listener), null);
    assert.throws(() => binding().listenUnix(path, 'stream', 1, 0o600), { code: 'EADDRINUSE', path });
    closeFds([listener, client, server]);
  });

  it('knows abstract addresses and refuses paths that are too long', () => {
    const name = `\0lamina-test-${process.pid}`;
    const listener = binding().listenUnix(name, 'seqpacket', 1, 0);
    closeFds([binding().connectUnix(name, 'seqpacket'), listener]);
    assert.throws(() => binding().connectUnix(name, 'seqpacket'), { code: 'ECONNREFUSED' });
    assert.throws(() => binding().connectUnix(`/${'x'.repeat(108)}`, 'stream'), { code: 'ENAMETOOLONG' });
  });

  it('keeps packets apart and says when a packet is larger than the buffer', () => {
    const [left, right] = binding().socketPair('seqpacket');
    const [read, write] = binding().pipe();
    assert.equal(binding().recvMessage(right, 8), null);
    binding().sendMessage(left, Buffer.from('one'), []);
    binding().sendMessage(left, Buffer.from('much too long'), [read, write]);
    assert.equal(binding().recvMessage(right, 8)?.data.toString(), 'one');
    // The descriptors of the refused packet are closed: the leak check of this group sees to that.
    assert.throws(() => binding().recvMessage(right, 8), { code: 'EMSGSIZE' });
    closeSync(left);
    assert.equal(binding().recvMessage(right, 8)?.data.length, 0);
    closeFds([right, read, write]);
  });

  it('says false when a socket is full, and EPIPE without a signal when nobody reads', () => {
    const [left, right] = binding().socketPair('stream');
    const chunk = Buffer.alloc(4096);
    let sent = 0;
    while (binding().sendMessage(left, chunk, [])) sent += 1;
    assert.ok(sent > 0);
    closeSync(right);
    assert.throws(() => binding().sendMessage(left, chunk, []), { code: 'EPIPE', syscall: 'sendmsg' });
    closeSync(left);
  });

  it('copies content into a memory file, offset 0', () => {
    const fd = binding().memfd('test', Buffer.from('content'));
    const buffer = Buffer.alloc(16);
    assert.equal(fstatSync(fd).size, 7);
    assert.equal(buffer.toString('utf8', 0, readSync(fd, buffer)), 'content');
    closeSync(fd);
  });

  it('reads and resets an eventfd', () => {
    const fd = binding().eventfd();
    assert.equal(binding().readEventfd(fd), 0n);
    const one = Buffer.alloc(8);
    one.writeBigUInt64LE(0xffff_ffff_ffffn);
    writeSync(fd, one);
    assert.equal(binding().readEventfd(fd), 0xffff_ffff_ffffn);
    assert.equal(binding().readEventfd(fd), 0n);
    closeSync(fd);
  });

  it('counts what can be read and switches blocking per end', () => {
    const [read, write] = binding().pipe();
    writeSync(write, 'four');
    assert.equal(binding().bytesReadable(read), 4);
    binding().setNonBlocking(read, true);
    assert.equal(flagsOf(read) & O_NONBLOCK, O_NONBLOCK);
    assert.equal(flagsOf(write) & O_NONBLOCK, 0);
    binding().setNonBlocking(read, false);
    assert.equal(flagsOf(read) & O_NONBLOCK, 0);
    closeFds([read, write]);
  });

  it('locks a file against other descriptions of it', () => {
    const path = join(dir, 'lock');
    const [one, two] = [openSync(path, 'w'), openSync(path, 'w')];
    assert.equal(binding().flock(one, 'exclusive'), true);
    assert.equal(binding().flock(two, 'shared'), false);
    assert.equal(binding().flock(one, 'unlock'), true);
    assert.equal(binding().flock(two, 'shared'), true);
    assert.equal(binding().flock(one, 'shared'), true);
    closeFds([one, two]);
  });

  it('makes a terminal whose size is what was set', () => {
    const [master, slave] = binding().openPty();
    assert.match(slave, /^\/dev\/pts\/\d+$/);
    binding().setWindowSize(master, 132, 43);
    const terminal = openSync(slave, 'r+');
    assert.deepEqual(binding().windowSize(terminal), [132, 43]);
    assert.throws(() => binding().setWindowSize(master, 70000, 1), { code: 'EINVAL' });
    closeFds([master, terminal]);
    const [read, write] = binding().pipe();
    assert.throws(() => binding().windowSize(read), { code: 'ENOTTY' });
    closeFds([read, write]);
  });

  it('reports inotify events with names', () => {
    const IN_CREATE = 0x100;
    const IN_IGNORED = 0x8000;
    const fd = binding().inotifyInit();
    const wd = binding().inotifyAdd(fd, dir, IN_CREATE);
    assert.deepEqual(binding().inotifyRead(fd), []);
    for (let i = 0; i < 100; i += 1) writeFileSync(join(dir, `file-${i}`), '');
    const events = binding().inotifyRead(fd);
    assert.equal(events.length, 100);
    assert.deepEqual(events[99], { wd, mask: IN_CREATE, name: 'file-99' });
    binding().inotifyRemove(fd, wd);
    assert.deepEqual(binding().inotifyRead(fd), [{ wd, mask: IN_IGNORED, name: '' }]);
    assert.throws(() => binding().inotifyAdd(fd, join(dir, 'absent'), IN_CREATE), { code: 'ENOENT' });
    closeSync(fd);
  });
});
