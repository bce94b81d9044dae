import assert from 'node:assert/strict';
import { closeSync, existsSync, mkdtempSync, openSync, readdirSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, describe, it } from 'node:test';
import { Code } from '../../../src/base/index.js';
import { ConsoleSocket } from '../../../src/oci/index.js';
import { binding, Poller } from '../../../src/sys/index.js';
import { until } from '../../lib/wait.js';

const poller = new Poller();
after(() => poller.close());

const openFds = () => readdirSync('/proc/self/fd').length;

/** Does what the runtime does: connects and sends one message. */
function send(path: string, name: string, fds: readonly number[]): void {
  const connection = binding().connectUnix(path, 'stream');
  if (name !== '' || fds.length > 0) assert.ok(binding().sendMessage(connection, Buffer.from(name), fds));
  closeSync(connection);
}

describe('ConsoleSocket', () => {
  it('receives a descriptor and its name, and removes its directory', async () => {
    const before = openFds();
    const socket = new ConsoleSocket({ poller });
    assert.equal(statSync(dirname(socket.path)).mode & 0o777, 0o700);
    const master = openSync('/dev/null', 'r');
    // Sent before anyone waits, as the runtime may.
    send(socket.path, '/dev/pts/7', [master]);
    const { fd, name } = await socket.receive();
    assert.equal(name, '/dev/pts/7');
    assert.equal(statSync(`/proc/self/fd/${fd}`).rdev, statSync('/dev/null').rdev);
    assert.equal(existsSync(dirname(socket.path)), false);
    closeSync(fd);
    closeSync(master);
    assert.equal(openFds(), before);
  });

  it('gives its connection to somebody else before it reads what was sent', async () => {
    const connections: number[] = [];
    const first = new ConsoleSocket({ poller, onConnected: (fd) => void connections.push(binding().dupFd(fd)) });
    const received = first.receive();
    const connection = binding().connectUnix(first.path, 'stream');
    await until('it is connected', () => connections.length === 1);
    // The first one ends, as it would with its process.
    first[Symbol.dispose]();
    await assert.rejects(received, { code: Code.Canceled });
    const master = openSync('/dev/null', 'r');
    assert.ok(binding().sendMessage(connection, Buffer.from('/dev/pts/7'), [master]));
    const made = { fd: connections[0] ?? -1, path: first.path, isConnected: true };
    const { fd, name } = await new ConsoleSocket({ poller }, made).receive();
    assert.equal(name, '/dev/pts/7');
    for (const open of [fd, master, connection]) closeSync(open);
  });

  const wrong: readonly [string, string, number, string][] = [
    ['nothing', '', 0, 'nothing'],
    ['no descriptor', 'x', 0, '0 descriptors and 1 bytes'],
    ['two descriptors', 'x', 2, '2 descriptors and 1 bytes'],
    ['a name that is too long', 'x'.repeat(4096), 1, '1 descriptors and 4096 bytes'],
  ];
  for (const [what, name, count, got] of wrong) {
    it(`refuses ${what} and leaks nothing`, async () => {
      const before = openFds();
      const socket = new ConsoleSocket({ poller });
      const fds = Array.from({ length: count }, () => openSync('/dev/null', 'r'));
      const received = socket.receive();
      send(socket.path, name, fds);
      await assert.rejects(received, {
        code: Code.FailedPrecondition,
        message: `receive console on ${socket.path}: the runtime sent ${got} instead of one descriptor and a name`,
      });
      for (const fd of fds) closeSync(fd);
      assert.equal(existsSync(dirname(socket.path)), false);
      assert.equal(openFds(), before);
    });
  }

  it('gives up after its time', async () => {
    const socket = new ConsoleSocket({ poller });
    await assert.rejects(socket.receive(10), {
      code: Code.DeadlineExceeded,
      message: `receive console on ${socket.path}: nothing came within 0.01 s`,
    });
    assert.equal(existsSync(dirname(socket.path)), false);
  });

  it('takes what was sent before the runtime ended, and waits no longer for what was not', async () => {
    const before = openFds();
    const sent = new ConsoleSocket({ poller });
    const master = openSync('/dev/null', 'r');
    send(sent.path, '/dev/pts/7', [master]);
    const received = sent.receive();
    sent.takeNow();
    closeSync((await received).fd);
    const silent = new ConsoleSocket({ poller });
    const nothing = silent.receive();
    silent.takeNow();
    await assert.rejects(nothing, {
      code: Code.FailedPrecondition,
      message: `receive console on ${silent.path}: the runtime has ended and sent nothing`,
    });
    closeSync(master);
    assert.equal(openFds(), before);
  });

  it('is where it is told to be, in place of an earlier one', async () => {
    const dir = mkdtempSync(join(tmpdir(), 'console-'));
    const path = join(dir, 'name.sock');
    writeFileSync(path, '');
    const socket = new ConsoleSocket({ poller, path });
    assert.equal(statSync(path).mode & 0o170777, 0o140600);
    const received = socket.receive();
    const master = openSync('/dev/null', 'r');
    send(path, '/dev/pts/7', [master]);
    closeSync((await received).fd);
    assert.deepEqual(readdirSync(dir), []);
    closeSync(master);
    rmdirSync(dir);
  });

  it('ends its wait when it is disposed of, and cannot be used again', async () => {
    const socket = new ConsoleSocket({ poller });
    const received = socket.receive();
    socket[Symbol.dispose]();
    socket[Symbol.dispose]();
    await assert.rejects(received, { code: Code.Canceled });
    await assert.rejects(socket.receive(), { code: Code.FailedPrecondition });
  });
});
