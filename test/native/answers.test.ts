import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Request } from '../../src/ttrpc/gen/ttrpc/ttrpc.js';
import { Bed, type Engine, frame, lm, type Message } from './harness.js';

interface Call {
  readonly method?: string;
  readonly id?: string;
  readonly timeoutNs?: bigint;
  readonly namespace?: string;
}

/** A ttrpc request as a daemon sends it. */
function request(
  stream: number,
  { method = 'State', id = 'web', timeoutNs = 0n, namespace = 'k8s' }: Call = {},
): Buffer {
  const message = Request.fromPartial({
    service: 'containerd.task.v2.Task',
    method,
    payload: Buffer.from(id),
    timeoutNano: timeoutNs,
    metadata: [{ key: 'namespace', value: namespace }],
  });
  return frame(stream, Buffer.from(Request.encode(message).finish()));
}

function reply(stream: number, text: string): Buffer {
  const bytes = frame(stream, Buffer.from(text));
  bytes[8] = 2;
  return bytes;
}

describe('standing answers', () => {
  let bed: Bed;
  let engine: Engine;
  let daemon: Socket;
  let received = Buffer.alloc(0);
  beforeEach(async () => {
    bed = new Bed();
    const keeper = await bed.keeper();
    engine = keeper.engine;
    daemon = await bed.connect(keeper.socket);
    received = Buffer.alloc(0);
    daemon.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
    });
  });
  afterEach(() => bed.close());

  /** The daemon gets exactly this next. */
  async function expectReply(expected: Buffer): Promise<void> {
    while (received.length < expected.length) await once(daemon, 'data');
    assert.deepEqual(received.subarray(0, expected.length), expected);
    received = received.subarray(expected.length);
  }

  /** Sends a request that must reach the engine. */
  async function forwarded(stream: number, call?: Call): Promise<Message> {
    const sent = request(stream, call);
    daemon.write(sent);
    const message = await engine.next('FRAME');
    assert.deepEqual(message.fields, [sent]);
    return message;
  }

  function answer(message: Message, bytes: Buffer, flags = lm('F_STANDING')): void {
    engine.send('SEND', { serial: message.serial, arg: message.arg, flags, fields: [bytes] });
  }

  async function stand(stream: number, text: string, call?: Call): Promise<void> {
    answer(await forwarded(stream, call), reply(stream, text));
    await expectReply(reply(stream, text));
  }

  it('are given again to equal requests under their own stream, whatever their deadline', async () => {
    await stand(1, 'running');
    daemon.write(request(3));
    await expectReply(reply(3, 'running'));
    daemon.write(Buffer.concat([request(5, { timeoutNs: 5_000_000_000n }), request(7)]));
    await expectReply(Buffer.concat([reply(5, 'running'), reply(7, 'running')]));
    const last = await forwarded(9, { method: 'Start' });
    assert.equal(last.serial, 2, 'requests between reached the engine');
  });

  it('are not given to others: another id, namespace or method', async () => {
    await stand(1, 'running');
    const other = await forwarded(3, { id: 'other' });
    answer(other, reply(3, 'stopped'));
    await expectReply(reply(3, 'stopped'));
    daemon.write(Buffer.concat([request(5), request(7, { id: 'other' })]));
    await expectReply(Buffer.concat([reply(5, 'running'), reply(7, 'stopped')]));
    await forwarded(9, { namespace: 'default' });
    await forwarded(11, { method: 'Pids' });
  });

  it('are not kept unless the engine says so', async () => {
    answer(await forwarded(1), reply(1, 'pausing'), 0);
    await expectReply(reply(1, 'pausing'));
    await forwarded(3);
  });

  it('end when another method goes to the engine, before that is answered', async () => {
    await stand(1, 'running');
    await forwarded(3, { method: 'Pause' });
    await forwarded(5);
  });

  it('end when a child is reaped', async () => {
    await stand(1, 'running');
    engine.send('SPAWN', { serial: 1, fields: ['init', '/', 'true\0', '', ''] });
    await engine.next('EXITED');
    await forwarded(3);
  });

  it('are not kept when something happened after their request was handed over', async () => {
    const early = await forwarded(1);
    await forwarded(3, { method: 'Kill' });
    answer(early, reply(1, 'running'));
    await expectReply(reply(1, 'running'));
    await forwarded(5);
  });

  it('end with their engine', async () => {
    await stand(1, 'running');
    await engine.settled();
    engine.kill();
    const next = await bed.engine();
    await bed.replayed(next);
    daemon.write(request(3));
    assert.deepEqual((await next.next('FRAME')).fields, [request(3)]);
  });

  it('are bounded in number and size', async () => {
    for (let i = 0; i < 80; i += 1) await stand(2 * i + 1, `state ${i}`, { id: `c${i}` });
    daemon.write(request(201, { id: 'c79' }));
    await expectReply(reply(201, 'state 79'));
    await forwarded(203, { id: 'c0' });
    const large = 'x'.repeat(5000);
    await stand(205, large, { id: 'large' });
    await forwarded(207, { id: 'large' });
  });

  it('survive requests that are no protobuf', async () => {
    await stand(1, 'running');
    const garbage = frame(3, Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff]));
    daemon.write(garbage);
    assert.deepEqual((await engine.next('FRAME')).fields, [garbage]);
    await forwarded(5);
  });
});
