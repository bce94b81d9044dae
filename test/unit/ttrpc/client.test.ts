import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code, createDeferred, LaminaError } from '../../../src/base/index.js';
import { Request, Response } from '../../../src/ttrpc/gen/ttrpc/ttrpc.js';
import {
  bodyOf,
  ClientConnection,
  type ClientConnectionOptions,
  createClient,
  encodeFrame,
  Flag,
  FrameType,
  MAX_PAYLOAD,
  Metadata,
  readHeader,
  type ServiceClient,
  StatusError,
} from '../../../src/ttrpc/index.js';
import {
  closing,
  collect,
  data,
  EchoDefinition,
  failure,
  keepAlive,
  RecordingChannel,
  response,
  settle,
  stream,
} from './kit.js';

keepAlive();

/** A client whose frames a test sees and answers itself. */
function dial(options: ClientConnectionOptions = {}): {
  connection: ClientConnection;
  channel: RecordingChannel;
  client: ServiceClient<typeof EchoDefinition>;
  header: (index: number) => string;
  request: (index: number) => Request;
} {
  const channel = new RecordingChannel();
  const connection = new ClientConnection(channel, options);
  const frame = (index: number): Uint8Array => {
    const one = channel.frames[index];
    assert.ok(one !== undefined, `no frame ${index}`);
    return one;
  };
  const header = (index: number): string => {
    const { streamId, type, flags, length } = readHeader(frame(index));
    return `${streamId} type ${type} flags ${flags} length ${length}`;
  };
  const request = (index: number): Request => Request.decode(bodyOf(frame(index)));
  return { connection, channel, client: createClient(EchoDefinition, connection), header, request };
}

function hasCode(code: Code, message?: string | RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof LaminaError, String(error));
    assert.equal(error.code, code);
    if (typeof message === 'string') assert.equal(error.message, message);
    else if (message !== undefined) assert.match(error.message, message);
    return true;
  };
}

describe('a unary request', () => {
  it('is a frame without flags, on odd rising ids', async () => {
    const { connection, client, header, request } = dial();
    const calls = [client.unary('a'), client.unary('b')];
    assert.deepEqual(
      [header(0), header(1)].map((line) => line.slice(0, 16)),
      ['1 type 1 flags 0', '3 type 1 flags 0'],
    );
    const payload = new TextEncoder().encode('a');
    assert.deepEqual(request(0), {
      service: 'test.v1.Echo',
      method: 'Unary',
      payload,
      timeoutNano: 0n,
      metadata: [],
    });
    connection.receive(response(3, 'B'));
    connection.receive(response(1, 'A'));
    assert.deepEqual(await Promise.all(calls), ['A', 'B']);
    assert.equal(connection.openStreams, 0);
  });

  it('carries timeout and metadata', async () => {
    const { connection, client, request } = dial();
    const call = client.unary('x'.repeat(200), {
      timeoutMs: 1.5,
      metadata: { Key: ['a', 'b'], other: 'c' },
      signal: new AbortController().signal,
    });
    connection.receive(response(1, 'ok'));
    assert.equal(await call, 'ok');
    assert.equal(request(0).timeoutNano, 1_500_000n);
    assert.equal(request(0).payload.length, 200);
    assert.deepEqual(request(0).metadata, [
      { key: 'key', value: 'a' },
      { key: 'key', value: 'b' },
      { key: 'other', value: 'c' },
    ]);
  });

  it('takes an endless timeout as none', async () => {
    const { connection, client, request } = dial();
    for (const timeoutMs of [Number.POSITIVE_INFINITY, 1e300])
      void client.unary('', { timeoutMs }).catch(() => undefined);
    assert.deepEqual([request(0).timeoutNano, request(1).timeoutNano], [0n, 0n]);
    connection.close();
  });

  it('of 4 MiB goes out, a larger one does not', async () => {
    const { connection, channel, client, request } = dial();
    const first = client.unary('');
    // What the envelope takes beside the payload: the names, and tag and length of the payload.
    const room = MAX_PAYLOAD - (channel.frames[0]?.length ?? 0) + 10 - 5;
    const largest = client.unary('x'.repeat(room));
    assert.equal(readHeader(channel.frames[1] ?? new Uint8Array(10)).length, MAX_PAYLOAD);
    assert.equal(request(1).payload.length, room);
    await assert.rejects(
      client.unary('x'.repeat(room + 1)),
      hasCode(Code.ResourceExhausted, 'message length 4194305 exceed maximum message size of 4194304'),
    );
    assert.equal(channel.frames.length, 2);
    const third = client.unary('id 5 is not lost');
    for (const id of [1, 3, 5]) connection.receive(response(id, ''));
    await Promise.all([first, largest, third]);
  });
});

describe('a unary reply', () => {
  it('with a status fails the call, details included', async () => {
    const { connection, client } = dial();
    const call = client.unary('');
    const details = [{ typeUrl: 't', value: Uint8Array.of(1) }];
    const body = Response.encode({
      status: { code: 5, message: 'c: not found', details },
      payload: new Uint8Array(0),
    }).finish();
    connection.receive(encodeFrame({ streamId: 1, type: FrameType.Response, flags: 0 }, body));
    await assert.rejects(
      call,
      (error) => error instanceof StatusError && hasCode(Code.NotFound, 'c: not found')(error),
    );
    await assert.rejects(call, { details });
  });

  it('with a status nobody knows is Unknown, with code 0 a success', async () => {
    const { connection, client } = dial();
    const calls = [client.unary(''), client.unary('')] as const;
    connection.receive(failure(1, 99, 'odd'));
    connection.receive(failure(3, 0, ''));
    await assert.rejects(calls[0], hasCode(Code.Unknown, 'odd'));
    assert.equal(await calls[1], '');
  });

  it('that is broken fails its call only', async () => {
    const { connection, client } = dial();
    const calls = [client.unary(''), client.unary(''), client.unary(''), client.unary(''), client.unary('')] as const;
    const frame = { streamId: 1, type: FrameType.Response, flags: 0 };
    connection.receive(encodeFrame(frame, Uint8Array.of(0x0a, 0x7f)));
    connection.receive(encodeFrame({ ...frame, streamId: 3 }, Uint8Array.of(0x12, 1, 0xff)));
    const oversized = encodeFrame({ ...frame, streamId: 5 });
    new DataView(oversized.buffer).setUint32(0, MAX_PAYLOAD + 1);
    connection.receive(oversized);
    connection.receive(data(7, 'x'));
    connection.receive(response(9, 'fine'));
    await assert.rejects(calls[0], hasCode(Code.Internal, /^ttrpc: error unmarshalling response: /));
    await assert.rejects(calls[1], hasCode(Code.Internal, /^ttrpc: error unmarshalling payload: /));
    await assert.rejects(calls[2], hasCode(Code.ResourceExhausted));
    await assert.rejects(calls[3], hasCode(Code.Internal, 'received data from non-streaming server'));
    assert.equal(await calls[4], 'fine');
    assert.equal(connection.openStreams, 0);
  });

  it('for no stream, of an odd kind or too short is ignored', async () => {
    const { connection, client } = dial();
    const call = client.unary('');
    connection.receive(response(99, 'x'));
    connection.receive(encodeFrame({ streamId: 1, type: 7, flags: 0 }));
    connection.receive(Uint8Array.of(1));
    connection.receive(response(1, 'ok'));
    assert.equal(await call, 'ok');
    connection.receive(response(1, 'again'));
  });
});

describe('giving up', () => {
  it('by signal: the call is canceled at once, a late reply is dropped', async () => {
    const { connection, client } = dial();
    const controller = new AbortController();
    const call = client.unary('', { signal: controller.signal });
    controller.abort();
    await assert.rejects(call, hasCode(Code.Canceled));
    assert.equal(connection.openStreams, 0);
    connection.receive(response(1, 'late'));
  });

  it('before the start sends nothing', async () => {
    const { channel, client } = dial();
    await assert.rejects(client.unary('', { signal: AbortSignal.abort() }), hasCode(Code.Canceled));
    await assert.rejects(client.unary('', { timeoutMs: 0 }), hasCode(Code.DeadlineExceeded));
    await assert.rejects(client.unary('', { timeoutMs: Number.NaN }), hasCode(Code.DeadlineExceeded));
    assert.equal(channel.sent.length, 0);
  });

  it('by timeout', async () => {
    const { connection, client } = dial();
    await assert.rejects(client.unary('', { timeoutMs: 0.001 }), hasCode(Code.DeadlineExceeded));
    const signal = AbortSignal.abort(new DOMException('time is up', 'TimeoutError'));
    await assert.rejects(client.unary('', { signal }), hasCode(Code.DeadlineExceeded));
    assert.equal(connection.openStreams, 0);
  });

  it('leaves no listener on the signal', async () => {
    const { connection, client } = dial();
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
      listeners += 1;
      addEventListener.apply(signal, args);
    };
    signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
      listeners -= 1;
      removeEventListener.apply(signal, args);
    };
    const call = client.unary('', { signal });
    assert.equal(listeners, 1);
    connection.receive(response(1, ''));
    await call;
    assert.equal(listeners, 0);
  });
});

describe('the end of a connection', () => {
  it('fails every call with `ttrpc: closed`, and is told once', async () => {
    const told: unknown[] = [];
    const { connection, client } = dial({ onClose: (error) => told.push(error) });
    const calls = [
      client.unary(''),
      collect(client.down('')),
      client.up(stream('a')),
      collect(client.both(stream('a'))),
    ];
    const outcomes = Promise.allSettled(calls);
    await settle();
    const reason = new Error('ECONNRESET');
    connection.end(reason);
    connection.end();
    connection.close();
    for (const outcome of await outcomes) {
      assert.ok(outcome.status === 'rejected' && hasCode(Code.Unavailable, 'ttrpc: closed')(outcome.reason));
    }
    assert.deepEqual(told, [reason]);
    assert.equal(connection.isClosed, true);
    await assert.rejects(client.unary(''), hasCode(Code.Unavailable, 'ttrpc: closed'));
    await assert.rejects(collect(client.down('')), hasCode(Code.Unavailable, 'ttrpc: closed'));
  });

  it('comes when the channel fails', async () => {
    const { channel, client } = dial();
    channel.send = () => Promise.reject(new Error('EPIPE'));
    await assert.rejects(client.unary(''), hasCode(Code.Unavailable, 'ttrpc: closed'));
    assert.equal(channel.isClosed, true);
  });

  it('comes near when the stream ids are used up', async () => {
    const { connection, client } = dial({ firstStreamId: 0xffffffff });
    const last = client.unary('');
    await assert.rejects(client.unary(''), hasCode(Code.Unavailable, /ids of this connection are used up/));
    connection.receive(response(0xffffffff, 'last'));
    assert.equal(await last, 'last');
  });
});

describe('a streaming call on the wire', () => {
  it('down: one request that says no more will come; nothing before it is iterated', async () => {
    const { connection, channel, client, header } = dial();
    const letters = client.down('ab');
    await settle();
    assert.equal(channel.frames.length, 0);
    const all = collect(letters);
    assert.match(header(0), /^1 type 1 flags 1 /);
    connection.receive(data(1, 'a'));
    connection.receive(data(1, ''));
    connection.receive(closing(1));
    assert.deepEqual(await all, ['a', '']);
    assert.equal(connection.openStreams, 0);
    assert.throws(() => letters[Symbol.asyncIterator](), hasCode(Code.FailedPrecondition));
  });

  it('up: an open request, data, and a closing frame; the response is the reply', async () => {
    const { connection, channel, client, header } = dial();
    const call = client.up(stream('a', ''));
    await channel.until(4);
    assert.match(header(0), /^1 type 1 flags 2 /);
    assert.deepEqual(channel.sent.slice(1), ['1 data "a"', '1 data ""', '1 end']);
    connection.receive(response(1, 'sum'));
    assert.equal(await call, 'sum');
  });

  it('down: the last message may come with the closing flag, or in a response', async () => {
    const { connection, client } = dial();
    const calls = [collect(client.down('')), collect(client.down('')), collect(client.down(''))];
    connection.receive(data(1, 'last', Flag.RemoteClosed));
    connection.receive(response(3, 'last'));
    connection.receive(response(5, ''));
    assert.deepEqual(await Promise.all(calls), [['last'], ['last'], []]);
  });

  it('down: an error comes after what was sent before it', async () => {
    const { connection, client } = dial();
    const letters = client.down('')[Symbol.asyncIterator]();
    connection.receive(data(1, 'a'));
    connection.receive(failure(1, 15, 'lost'));
    assert.deepEqual(await letters.next(), { done: false, value: 'a' });
    await assert.rejects(letters.next(), hasCode(Code.DataLoss, 'lost'));
    assert.deepEqual(await letters.next(), { done: true, value: undefined });
  });

  it('down: leaving the loop gives the call up', async () => {
    const { connection, client } = dial();
    const left = (async () => {
      for await (const letter of client.down('')) return letter;
      return 'none';
    })();
    connection.receive(data(1, 'a'));
    assert.equal(await left, 'a');
    assert.equal(connection.openStreams, 0);
  });

  it('up: a source that fails fails the call, and makes the server fail, too', async () => {
    const { channel, connection, client } = dial();
    const source = (async function* () {
      yield 'a';
      throw new RangeError('source');
    })();
    await assert.rejects(client.up(source), new RangeError('source'));
    assert.equal(connection.openStreams, 0);
    const last = channel.frames.at(-1);
    assert.ok(last !== undefined);
    assert.deepEqual([readHeader(last).type, readHeader(last).flags, [...bodyOf(last)]], [FrameType.Data, 0, [0xff]]);
  });

  it('up: an early reply stops the source', async () => {
    const { connection, channel, client } = dial();
    const stopped = createDeferred<void>();
    const source = (async function* () {
      try {
        for (;;) yield 'x';
      } finally {
        stopped.resolve();
      }
    })();
    const room = createDeferred<void>();
    channel.backlog = room.promise;
    const call = client.up(source);
    await channel.until(2);
    connection.receive(failure(1, 3, 'enough'));
    await assert.rejects(call, hasCode(Code.InvalidArgument, 'enough'));
    channel.backlog = undefined;
    room.resolve();
    await stopped.promise;
    assert.equal(channel.sent.length, 2);
  });

  it('up: the source is not read faster than the server takes it', async () => {
    const { connection, channel, client } = dial();
    let read = 0;
    const source = (async function* () {
      for (;;) {
        read += 1;
        yield 'x';
      }
    })();
    channel.backlog = new Promise(() => undefined);
    const call = client.up(source);
    await channel.until(2);
    await settle();
    assert.equal(read, 1);
    connection.close();
    await assert.rejects(call, hasCode(Code.Unavailable));
  });

  it('down: a reader that does not read pauses the connection, and then loses its stream only', async () => {
    const { connection, channel, client } = dial({ stallTimeoutMs: 1 });
    const resumed = createDeferred<void>();
    channel.resume = () => resumed.resolve();
    const letters = client.down('')[Symbol.asyncIterator]();
    for (let index = 0; index < 64; index += 1) connection.receive(data(1, 'x'));
    assert.equal(channel.isPaused, true);
    await resumed.promise;
    await assert.rejects(letters.next(), hasCode(Code.ResourceExhausted, 'ttrpc: stream buffer full'));
    const call = client.unary('');
    connection.receive(response(3, 'alive'));
    assert.equal(await call, 'alive');
  });
});

describe('metadata', () => {
  it('joins keys that differ in case, and keeps the order of values', () => {
    const metadata = Metadata.from({ A: ['1', '2'], b: '3' });
    metadata.append('a', '4');
    metadata.set('B', '5');
    assert.deepEqual(
      [...metadata],
      [
        ['a', '1'],
        ['a', '2'],
        ['a', '4'],
        ['b', '5'],
      ],
    );
    assert.deepEqual(
      [metadata.get('A'), metadata.get('none'), metadata.getAll('none'), metadata.size],
      ['1', undefined, [], 2],
    );
    metadata.delete('A');
    assert.deepEqual([...metadata], [['b', '5']]);
    assert.equal(Metadata.from(metadata), metadata);
  });
});
