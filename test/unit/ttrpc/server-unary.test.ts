import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code, createDeferred, LaminaError } from '../../../src/base/index.js';
import { Response } from '../../../src/ttrpc/gen/ttrpc/ttrpc.js';
import {
  type CallContext,
  encodeFrame,
  FrameType,
  HEADER_LENGTH,
  MAX_PAYLOAD,
  Router,
  ServerConnection,
  StatusError,
} from '../../../src/ttrpc/index.js';
import {
  closing,
  data,
  EchoDefinition,
  type EchoHandlers,
  echo,
  keepAlive,
  RecordingChannel,
  request,
  serve,
  settle,
} from './kit.js';

keepAlive();

describe('a unary call', () => {
  it('is answered on its stream, and its frame with it', () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Unary', 'hi'), 71);
    assert.deepEqual(channel.sent, ['1 reply "hi" #71']);
    assert.deepEqual(channel.releasedTags, []);
    assert.deepEqual(server.stats(), { streams: 0, handlers: 0, queuedMessages: 0, queuedBytes: 0 });
  });

  it('may have an empty request and an empty reply', () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Unary', ''));
    assert.deepEqual(channel.sent, ['1 reply ""']);
    assert.equal(channel.frames[0]?.length, HEADER_LENGTH);
  });

  it('may be answered in any order', async () => {
    const first = createDeferred<string>();
    const { server, channel } = serve({ unary: (text) => (text === 'slow' ? first.promise : text) });
    server.receive(request(1, 'Unary', 'slow'));
    server.receive(request(3, 'Unary', 'fast'));
    assert.deepEqual(channel.sent, ['3 reply "fast"']);
    assert.equal(server.stats().streams, 1);
    first.resolve('done');
    assert.deepEqual(await channel.until(2), ['3 reply "fast"', '1 reply "done"']);
  });

  it('may skip stream ids', () => {
    const { server, channel } = serve();
    server.receive(request(5, 'Unary', 'a'));
    server.receive(request(0xffffffff, 'Unary', 'b'));
    assert.deepEqual(channel.sent, ['5 reply "a"', '4294967295 reply "b"']);
  });

  it('knows its names, metadata and deadline', async () => {
    const seen = createDeferred<CallContext>();
    const { server } = serve({
      unary: (text, context) => {
        seen.resolve(context);
        return text;
      },
    });
    const metadata = [
      { key: 'Key', value: 'a' },
      { key: 'key', value: 'b' },
    ];
    const before = Date.now();
    server.receive(request(1, 'Unary', '', { metadata, timeoutNano: 60_000_000_000n }));
    const context = await seen.promise;
    assert.equal(`${context.service}/${context.method}`, 'test.v1.Echo/Unary');
    assert.deepEqual(context.metadata.getAll('KEY'), ['a', 'b']);
    assert.ok(context.deadline !== undefined && context.deadline >= before + 60_000);
    assert.equal(context.signal.aborted, false);
  });
});

describe('a failing unary call', () => {
  const boom = (error: unknown) => (): string => {
    throw error;
  };
  const cases: [string, EchoHandlers['unary'], string][] = [
    [
      'a LaminaError keeps its code',
      boom(new LaminaError(Code.NotFound, 'c: not found')),
      '1 error 5 "c: not found" #7',
    ],
    ['so does a rejection', () => Promise.reject(new LaminaError(Code.Aborted, 'x')), '1 error 10 "x" #7'],
    ['a plain error is Unknown', boom(new Error('plain')), '1 error 2 "plain" #7'],
    ['anything thrown has a text', boom('text'), '1 error 2 "text" #7'],
    [
      'an errno is mapped',
      boom(Object.assign(new Error('ENOENT: x'), { code: 'ENOENT', errno: -2, syscall: 'open' })),
      '1 error 5 "ENOENT: x" #7',
    ],
    ['success cannot be thrown', boom(new LaminaError(Code.Ok, 'fine')), '1 error 2 "fine" #7'],
    [
      'nothing returned',
      (() => undefined) as unknown as EchoHandlers['unary'],
      '1 error 2 "ttrpc: marshal called with nil" #7',
    ],
  ];
  for (const [name, unary, expected] of cases) {
    it(name, async () => {
      const { server, channel } = serve({ unary });
      server.receive(request(1, 'Unary', 'x'), 7);
      assert.deepEqual(await channel.until(1), [expected]);
      await settle();
      assert.equal(server.stats().handlers, 0);
    });
  }

  it('sends details, and neither cause nor stack', () => {
    const details = [{ typeUrl: 'x', value: Uint8Array.of(1) }];
    const { server, channel } = serve({
      unary: boom(new StatusError(Code.Internal, 'm', { details, cause: new Error('secret') })),
    });
    server.receive(request(1, 'Unary', ''));
    const frame = channel.frames[0];
    assert.ok(frame !== undefined);
    assert.deepEqual(Response.decode(frame.subarray(HEADER_LENGTH)).status, { code: 13, message: 'm', details });
    assert.ok(!Buffer.from(frame).includes('secret'));
  });

  it('shortens a message that fits no frame', () => {
    const { server, channel } = serve({ unary: boom(new Error(`${'x'.repeat(MAX_PAYLOAD)} end`)) });
    server.receive(request(1, 'Unary', ''));
    assert.match(channel.sent[0] ?? '', /^1 error 2 "x+ end"$/);
  });
});

describe('sizes', () => {
  // Response{payload}: one byte of tag and four of length around a payload of about 4 MiB.
  const largestReply = MAX_PAYLOAD - 5;

  it('a reply of exactly 4 MiB is sent', () => {
    const { server, channel } = serve({ unary: () => 'x'.repeat(largestReply) });
    server.receive(request(1, 'Unary', ''), 1);
    assert.equal(channel.frames[0]?.length, HEADER_LENGTH + MAX_PAYLOAD);
    assert.match(channel.sent[0] ?? '', /^1 reply "x+" #1$/);
  });

  it('a larger reply fails its own stream only', () => {
    const { server, channel } = serve({ unary: (text) => (text === 'big' ? 'x'.repeat(largestReply + 1) : text) });
    server.receive(request(1, 'Unary', 'big'), 1);
    server.receive(request(3, 'Unary', 'small'), 2);
    assert.deepEqual(channel.sent, [
      '1 error 8 "message length 4194305 exceed maximum message size of 4194304" #1',
      '3 reply "small" #2',
    ]);
  });

  it('an oversized request is refused on its stream', () => {
    const { server, channel } = serve();
    const header = encodeFrame({ streamId: 1, type: FrameType.Request, flags: 0 });
    new DataView(header.buffer).setUint32(0, MAX_PAYLOAD + 1);
    server.receive(header, 9);
    server.receive(request(1, 'Unary', 'after'));
    assert.deepEqual(channel.sent, [
      '1 error 8 "message length 4194305 exceed maximum message size of 4194304" #9',
      '1 reply "after"',
    ]);
  });
});

describe('frames that break the rules', () => {
  it('even ids', () => {
    const { server, channel } = serve();
    server.receive(request(2, 'Unary', ''), 1);
    server.receive(request(0, 'Unary', ''), 2);
    assert.deepEqual(channel.sent, [
      '2 error 3 "StreamID must be odd for client initiated streams" #1',
      '0 error 3 "StreamID must be odd for client initiated streams" #2',
    ]);
  });

  it('ids that do not rise', () => {
    const { server, channel } = serve();
    server.receive(request(3, 'Unary', 'a'));
    server.receive(request(3, 'Unary', 'b'), 1);
    server.receive(request(1, 'Unary', 'c'), 2);
    assert.deepEqual(channel.sent.slice(1), [
      '3 error 3 "StreamID cannot be re-used and must increment" #1',
      '1 error 3 "StreamID cannot be re-used and must increment" #2',
    ]);
  });

  it('data for no stream', () => {
    const { server, channel } = serve();
    server.receive(data(1, 'x'), 1);
    server.receive(request(1, 'Unary', 'a'));
    server.receive(closing(1), 2);
    assert.deepEqual(channel.sent, [
      '1 error 3 "StreamID is no longer active" #1',
      '1 reply "a"',
      '1 error 3 "StreamID is no longer active" #2',
    ]);
  });

  it('data for a unary call that runs: the call fails, the server lives', async () => {
    const late = createDeferred<string>();
    const { server, channel } = serve({ unary: (text) => (text === 'wait' ? late.promise : text) });
    server.receive(request(1, 'Unary', 'wait'), 1);
    server.receive(data(1, 'x'), 2);
    server.receive(request(3, 'Unary', 'next'), 3);
    late.resolve('too late');
    await settle();
    assert.deepEqual(channel.sent, ['1 error 3 "data is not allowed on a unary stream" #1', '3 reply "next" #3']);
    assert.deepEqual(channel.releasedTags, [2]);
  });

  it('a request that cannot be decoded', () => {
    const { server, channel } = serve();
    server.receive(encodeFrame({ streamId: 1, type: FrameType.Request, flags: 0 }, Uint8Array.of(0x0a, 0x7f)), 1);
    assert.match(channel.sent[0] ?? '', /^1 error 3 "unmarshal request error: .+" #1$/);
  });

  it('a payload that cannot be decoded', () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Unary', Uint8Array.of(0xff)), 1);
    assert.match(channel.sent[0] ?? '', /^1 error 13 "ttrpc: error unmarshalling payload: .+" #1$/);
  });

  it('unknown services and methods', () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Unary', '', { service: 'no.Such' }), 1);
    server.receive(request(3, 'unary', ''), 2);
    assert.deepEqual(channel.sent, ['1 error 12 "service no.Such" #1', '3 error 12 "method unary" #2']);
  });

  it('unknown types, truncated and mislabelled frames', () => {
    const { server, channel } = serve();
    server.receive(encodeFrame({ streamId: 1, type: 9, flags: 0 }), 1);
    server.receive(encodeFrame({ streamId: 1, type: FrameType.Response, flags: 0 }), 2);
    server.receive(Uint8Array.of(0, 0, 0), 3);
    server.receive(request(1, 'Unary', 'x').subarray(0, -1), 4);
    assert.deepEqual(channel.releasedTags, [1, 2, 3]);
    assert.deepEqual(channel.sent, ['1 error 3 "frame length does not match its header" #4']);
  });
});

describe('the end of a call', () => {
  it('comes with its deadline, and the late result is dropped', async () => {
    const late = createDeferred<string>();
    const aborted = createDeferred<unknown>();
    const { server, channel } = serve({
      unary: (_text, { signal }) => {
        signal.addEventListener('abort', () => aborted.resolve(signal.reason));
        return late.promise;
      },
    });
    server.receive(request(1, 'Unary', '', { timeoutNano: 1n }), 5);
    const reason = await aborted.promise;
    assert.ok(reason instanceof LaminaError && reason.code === Code.DeadlineExceeded);
    assert.deepEqual(channel.sent, ['1 error 4 "context deadline exceeded" #5']);
    assert.deepEqual([server.stats().streams, server.stats().handlers], [0, 1]);
    late.resolve('late');
    await settle();
    assert.deepEqual([channel.sent.length, server.stats().handlers], [1, 0]);
  });

  it('comes with the end of the connection: contexts are aborted, nothing is sent', async () => {
    const late = createDeferred<string>();
    let signal: AbortSignal | undefined;
    const { server, channel } = serve({
      unary: (_text, context) => {
        signal = context.signal;
        return late.promise;
      },
    });
    server.receive(request(1, 'Unary', ''), 1);
    server.end();
    assert.ok(signal?.aborted === true && signal.reason instanceof LaminaError);
    assert.equal(signal.reason.code, Code.Unavailable);
    late.resolve('late');
    server.receive(request(3, 'Unary', ''), 2);
    await settle();
    assert.deepEqual([channel.sent, channel.releasedTags], [[], []]);
    assert.deepEqual(server.stats(), { streams: 0, handlers: 0, queuedMessages: 0, queuedBytes: 0 });
  });

  it('a context looked at after the end is aborted, too', async () => {
    const late = createDeferred<void>();
    const { server } = serve({
      unary: async (_text, context) => {
        await late.promise;
        aborted = context.signal.aborted;
        return '';
      },
    });
    let aborted = false;
    server.receive(request(1, 'Unary', ''));
    server.close();
    late.resolve();
    await settle();
    assert.equal(aborted, true);
  });

  it('a channel that fails ends the connection', () => {
    const { server, channel } = serve();
    channel.send = () => {
      throw new Error('EPIPE');
    };
    server.receive(request(1, 'Unary', 'a'));
    assert.equal(channel.isClosed, true);
  });
});

describe('draining', () => {
  it('refuses new calls and waits for those that run', async () => {
    const first = createDeferred<string>();
    const { server, channel } = serve({ unary: () => first.promise });
    server.receive(request(1, 'Unary', ''), 1);
    let isDrained = false;
    const drained = server.drain().then(() => {
      isDrained = true;
    });
    server.receive(request(3, 'Unary', ''), 2);
    await settle();
    assert.equal(isDrained, false);
    first.resolve('ok');
    await drained;
    assert.deepEqual(channel.sent, ['3 error 14 "ttrpc: server is shutting down" #2', '1 reply "ok" #1']);
  });

  it('is done at once when nothing runs', async () => {
    await serve().server.drain();
  });
});

describe('a peer that does not read its replies', () => {
  it('is not read from until it does', async () => {
    const { server, channel } = serve();
    const room = createDeferred<void>();
    channel.backlog = room.promise;
    server.receive(request(1, 'Unary', 'a'));
    assert.equal(channel.isPaused, true);
    server.receive(request(3, 'Unary', 'b'));
    channel.backlog = undefined;
    room.resolve();
    await settle();
    assert.equal(channel.isPaused, false);
    assert.deepEqual(channel.sent, ['1 reply "a"', '3 reply "b"']);
  });
});

describe('the router', () => {
  it('refuses a service twice', () => {
    const router = new Router().add(EchoDefinition, echo);
    assert.throws(() => router.add(EchoDefinition, echo), { code: Code.AlreadyExists });
  });

  it('calls handlers as methods of their object', () => {
    class Stateful {
      #count = 0;
      unary(text: string): string {
        this.#count += 1;
        return `${text}${this.#count}`;
      }
      down = echo.down;
      up = echo.up;
      both = echo.both;
    }
    const channel = new RecordingChannel();
    const server = new ServerConnection(new Router().add(EchoDefinition, new Stateful()), channel);
    server.receive(request(1, 'Unary', 'a'));
    server.receive(request(3, 'Unary', 'a'));
    assert.deepEqual(channel.sent, ['1 reply "a1"', '3 reply "a2"']);
  });

  it('does not compile with a missing or wrong handler', () => {
    const { both: _both, ...missing } = echo;
    // @ts-expect-error: `both` is missing
    assert.throws(() => new Router().add(EchoDefinition, missing), { code: Code.InvalidArgument });
    // @ts-expect-error: `unary` returns a number
    new Router().add(EchoDefinition, { ...echo, unary: () => 1 });
    // @ts-expect-error: `down` returns a single message
    new Router().add(EchoDefinition, { ...echo, down: async () => '' });
  });
});
