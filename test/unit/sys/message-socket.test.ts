import assert from 'node:assert/strict';
import { closeSync, readSync, writeSync } from 'node:fs';
import { describe, it } from 'node:test';
import { createDeferred, isErrno } from '../../../src/base/index.js';
import {
  binding,
  encodeMessage,
  type Message,
  MessageError,
  MessageSocket,
  type OutgoingMessage,
} from '../../../src/sys/index.js';
import { closeFds, expectNoLeaks } from './leaks.js';

interface End {
  readonly socket: MessageSocket;
  readonly got: Message[];
  /** Resolves when so many messages have come. */
  received(count: number): Promise<void>;
  readonly ended: Promise<Error | undefined>;
}

function createEnd(fd: number, batch?: number): End {
  const got: Message[] = [];
  const waiters: { count: number; resolve: () => void }[] = [];
  const end = createDeferred<Error | undefined>();
  const socket = new MessageSocket({
    fd,
    onMessage: (message) => {
      got.push(message);
      for (const waiter of waiters) if (got.length >= waiter.count) waiter.resolve();
    },
    onClose: end.resolve,
    ...(batch === undefined ? {} : { batch }),
  });
  return {
    socket,
    got,
    ended: end.promise,
    received: (count) => {
      const { promise, resolve } = createDeferred<void>();
      if (got.length >= count) resolve();
      else waiters.push({ count, resolve });
      return promise;
    },
  };
}

function createLink(batch?: number): [End, End] {
  const [left, right] = binding().socketPair('seqpacket');
  return [createEnd(left, batch), createEnd(right, batch)];
}

describe('message socket', () => {
  expectNoLeaks();

  it('carries messages both ways, with their descriptors', async () => {
    const [left, right] = createLink();
    const [read, write] = binding().pipe();
    left.socket.send({ type: 1, fields: ['hello'], fds: [write] });
    right.socket.send({ type: 2, arg: 5 });
    closeSync(write);
    await Promise.all([left.received(1), right.received(1)]);
    assert.equal(left.got[0]?.arg, 5);
    assert.equal(right.got[0]?.fields[0]?.toString(), 'hello');
    const [sent] = right.got[0]?.fds ?? [];
    assert.ok(sent !== undefined);
    writeSync(sent, 'through');
    const buffer = Buffer.alloc(16);
    assert.equal(buffer.toString('utf8', 0, readSync(read, buffer)), 'through');
    closeFds([read, sent]);
    left.socket.close();
    assert.equal(await right.ended, undefined);
    assert.equal(right.socket.closed, true);
  });

  it('keeps order and every byte when the peer is far behind, with large messages in between', async () => {
    const [left, right] = createLink(4);
    const sent: OutgoingMessage[] = [];
    for (let i = 0; i < 400; i += 1) {
      sent.push({ type: 3, serial: i, fields: [Buffer.alloc(i % 50 === 0 ? 200_000 : 5_000, i)] });
    }
    const [read, write] = binding().pipe();
    for (const message of sent) left.socket.send(message.serial === 399 ? { ...message, fds: [read, write] } : message);
    // The last one waits in the queue with descriptors of its own.
    closeFds([read, write]);
    assert.ok(left.socket.queuedBytes > 0);
    await right.received(400);
    assert.equal(left.socket.queuedBytes, 0);
    assert.deepEqual(
      right.got.map((message) => message.serial),
      sent.map((message) => message.serial),
    );
    assert.ok(
      right.got.every((message, i) => message.fields[0]?.equals(Buffer.alloc(i % 50 === 0 ? 200_000 : 5_000, i))),
    );
    const fds = right.got[399]?.fds ?? [];
    assert.equal(fds.length, 2);
    closeFds(fds);
    left.socket.close();
    await right.ended;
  });

  it('closes the descriptors of what it could not send any more', async () => {
    const [left, right] = binding().socketPair('seqpacket');
    const end = createEnd(left);
    const fds = binding().pipe();
    for (let i = 0; i < 100; i += 1) end.socket.send({ type: 1, fields: [Buffer.alloc(30_000)], fds });
    assert.ok(end.socket.queuedBytes > 0);
    closeFds(fds);
    closeSync(right);
    assert.equal(await end.ended, undefined);
    assert.equal(end.socket.queuedBytes, 0);
    end.socket.send({ type: 1 });
  });

  it('delivers what the peer sent before it went, though writing to it fails', async () => {
    const [left, right] = binding().socketPair('seqpacket');
    const end = createEnd(left);
    end.socket.send({ type: 1 });
    for (const type of [7, 8]) binding().sendMessage(right, encodeMessage({ type }).data, []);
    // With a message of ours unread: the kernel reports ECONNRESET ahead of the two.
    closeSync(right);
    end.socket.send({ type: 2 });
    end.socket.send({ type: 3 });
    assert.equal(await end.ended, undefined);
    assert.deepEqual(
      end.got.map((message) => message.type),
      [7, 8],
    );
  });

  it('ends the link at an ill-formed message and closes its descriptors', async () => {
    const [left, right] = binding().socketPair('seqpacket');
    const end = createEnd(left);
    const fds = binding().pipe();
    binding().sendMessage(right, encodeMessage({ type: 1 }).data, []);
    binding().sendMessage(right, Buffer.from('nonsense'), fds);
    binding().sendMessage(right, encodeMessage({ type: 2 }).data, []);
    const error = await end.ended;
    assert.ok(error instanceof MessageError);
    assert.equal(end.got.length, 1);
    closeFds([...fds, right]);
  });

  it('ends the link at a packet larger than any message', async () => {
    const [left, right] = binding().socketPair('seqpacket');
    const end = createEnd(left);
    binding().sendMessage(right, Buffer.alloc(40_000), []);
    assert.ok(isErrno(await end.ended, 'EMSGSIZE'));
    closeSync(right);
  });

  it('delivers nothing after close, not even from the same batch', async () => {
    const [left, right] = binding().socketPair('seqpacket');
    const { promise, resolve } = createDeferred<void>();
    let calls = 0;
    const socket = new MessageSocket({
      fd: left,
      onMessage: () => {
        calls += 1;
        socket.close();
        resolve();
      },
      onClose: () => assert.fail('onClose after close'),
    });
    for (const type of [1, 2, 3]) binding().sendMessage(right, encodeMessage({ type }).data, []);
    await promise;
    assert.equal(calls, 1);
    socket.close();
    closeSync(right);
  });

  it('refuses a descriptor that is not open, and goes on', async () => {
    const [left, right] = createLink();
    assert.throws(() => left.socket.send({ type: 1, fds: [99_999] }), { code: 'EBADF' });
    left.socket.send({ type: 2 });
    await right.received(1);
    left.socket.close();
    await right.ended;
  });
});
