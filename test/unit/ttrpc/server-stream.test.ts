import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Code, createDeferred, LaminaError } from '../../../src/base/index.js';
import { encodeFrame, Flag, FrameType, MAX_PAYLOAD, type ServerConnection } from '../../../src/ttrpc/index.js';
import { closing, data, type EchoHandlers, echo, keepAlive, request, serve, settle, sorted } from './kit.js';

keepAlive();

const IDLE = { streams: 0, handlers: 0, queuedMessages: 0, queuedBytes: 0 };
const OPEN = { flags: Flag.RemoteOpen };

describe('a streamed reply', () => {
  it('is data frames and a closing one, which answers the request', async () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Down', 'abc', { flags: Flag.RemoteClosed }), 1);
    assert.deepEqual(await channel.until(4), ['1 data "a"', '1 data "b"', '1 data "c"', '1 end #1']);
    await settle();
    assert.deepEqual(server.stats(), IDLE);
  });

  it('may be empty, and is also given to a caller that set no flag', async () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Down', ''));
    assert.deepEqual(await channel.until(1), ['1 end']);
  });

  it('ends with a response when the handler fails in the middle', async () => {
    const { server, channel } = serve({
      async *down() {
        yield 'a';
        throw new LaminaError(Code.DataLoss, 'lost');
      },
    });
    server.receive(request(1, 'Down', '', { flags: Flag.RemoteClosed }), 1);
    assert.deepEqual(await channel.until(2), ['1 data "a"', '1 error 15 "lost" #1']);
  });

  it('ends with a response when a message is too large, and closes the handler', async () => {
    const closed = createDeferred<void>();
    const { server, channel } = serve({
      async *down() {
        try {
          yield 'x'.repeat(MAX_PAYLOAD + 1);
        } finally {
          closed.resolve();
        }
      },
    });
    server.receive(request(1, 'Down', '', { flags: Flag.RemoteClosed }), 1);
    await closed.promise;
    assert.deepEqual(channel.sent, ['1 error 8 "message length 4194305 exceed maximum message size of 4194304" #1']);
    await settle();
    assert.deepEqual(server.stats(), IDLE);
  });

  it('is not produced faster than the peer reads', async () => {
    let produced = 0;
    const { server, channel } = serve({
      async *down() {
        for (;;) {
          produced += 1;
          yield 'x';
        }
      },
    });
    const room = createDeferred<void>();
    channel.backlog = room.promise;
    server.receive(request(1, 'Down', '', { flags: Flag.RemoteClosed }));
    await channel.until(1);
    await settle();
    assert.deepEqual([produced, channel.isPaused], [1, true]);
    room.resolve();
    await channel.until(3);
    assert.ok(produced >= 2);
    server.end();
    await settle();
    await settle();
    assert.deepEqual(server.stats(), IDLE);
  });

  it('stops when the deadline passes', async () => {
    const { server, channel } = serve({
      async *down(_text, { signal }) {
        yield 'a';
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
        yield 'dropped';
      },
    });
    server.receive(request(1, 'Down', '', { flags: Flag.RemoteClosed, timeoutNano: 1n }), 1);
    await channel.until(2);
    await settle();
    assert.deepEqual(channel.sent, ['1 data "a"', '1 error 4 "context deadline exceeded" #1']);
    assert.deepEqual(server.stats(), IDLE);
  });

  it('that is none is an error', async () => {
    const { server, channel } = serve({ down: (() => undefined) as unknown as EchoHandlers['down'] });
    server.receive(request(1, 'Down', '', { flags: Flag.RemoteClosed }), 1);
    assert.deepEqual(await channel.until(1), ['1 error 2 "ttrpc: marshal called with nil" #1']);
  });
});

describe('a streamed request', () => {
  it('is collected; each data frame is released when it is read', async () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Up', '', OPEN), 1);
    server.receive(data(1, 'a'), 2);
    server.receive(data(1, ''), 3);
    server.receive(data(1, 'b'), 4);
    server.receive(closing(1), 5);
    assert.deepEqual(await channel.until(1), ['1 reply "ab" #1']);
    assert.deepEqual(sorted(channel.releasedTags), [2, 3, 4, 5]);
    await settle();
    assert.deepEqual(server.stats(), IDLE);
  });

  it('may begin in the request frame', async () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Up', 'a', OPEN));
    server.receive(data(1, 'b'));
    server.receive(closing(1));
    assert.deepEqual(await channel.until(1), ['1 reply "ab"']);
  });

  it('is over when the request says so', async () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Up', 'only', { flags: Flag.RemoteClosed }));
    server.receive(request(3, 'Up', ''));
    assert.deepEqual(sorted(await channel.until(2)), ['1 reply "only"', '3 reply ""']);
  });

  it('waits in the queue while nobody reads', () => {
    const { server, channel } = serve({ up: () => new Promise(() => undefined) });
    server.receive(request(1, 'Up', '', OPEN), 1);
    server.receive(data(1, 'abc'), 2);
    assert.deepEqual(server.stats(), { streams: 1, handlers: 1, queuedMessages: 1, queuedBytes: 3 });
    assert.deepEqual(channel.releasedTags, []);
  });

  it('is dropped when the handler answers before its end', async () => {
    const { server, channel } = serve({ up: async () => 'early' });
    server.receive(request(1, 'Up', '', OPEN), 1);
    server.receive(data(1, 'a'), 2);
    assert.deepEqual(await channel.until(1), ['1 reply "early" #1']);
    server.receive(data(1, 'b'), 3);
    assert.deepEqual(channel.sent.slice(1), ['1 error 3 "StreamID is no longer active" #3']);
    assert.deepEqual(channel.releasedTags, [2]);
  });

  it('that is left half-read is released', async () => {
    const { server, channel } = serve({
      async up(requests) {
        for await (const first of requests) return first;
        return 'none';
      },
    });
    server.receive(request(1, 'Up', '', OPEN), 1);
    server.receive(data(1, 'a'), 2);
    server.receive(data(1, 'b'), 3);
    assert.deepEqual(await channel.until(1), ['1 reply "a" #1']);
    assert.deepEqual(sorted(channel.releasedTags), [2, 3]);
  });

  it('with an undecodable message fails in the handler', async () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Up', '', OPEN), 1);
    server.receive(data(1, Uint8Array.of(0xff)), 2);
    assert.match((await channel.until(1))[0] ?? '', /^1 error 13 "ttrpc: error unmarshalling payload: .+" #1$/);
    assert.deepEqual(channel.releasedTags, [2]);
  });

  it('ends in error when the peer goes away', async () => {
    const failed = createDeferred<unknown>();
    const { server, channel } = serve({
      async up(requests) {
        try {
          for await (const _ of requests);
        } catch (error) {
          failed.resolve(error);
        }
        return '';
      },
    });
    server.receive(request(1, 'Up', '', OPEN), 1);
    server.end(new Error('ECONNRESET'));
    const error = await failed.promise;
    assert.ok(error instanceof LaminaError && error.code === Code.Unavailable && error.message === 'ttrpc: closed');
    await settle();
    assert.deepEqual([channel.sent, channel.releasedTags, server.stats()], [[], [], IDLE]);
  });
});

describe('streaming both ways', () => {
  it('answers while the client still sends', async () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Both', '', OPEN), 1);
    server.receive(data(1, 'a'), 2);
    assert.deepEqual(await channel.until(1), ['1 data "a"']);
    server.receive(data(1, 'b'), 3);
    await channel.until(2);
    server.receive(closing(1), 4);
    assert.deepEqual(await channel.until(3), ['1 data "a"', '1 data "b"', '1 end #1']);
    assert.deepEqual(channel.releasedTags, [2, 3, 4]);
  });

  it('keeps streams apart', async () => {
    const { server, channel } = serve();
    server.receive(request(1, 'Both', '', OPEN));
    server.receive(request(3, 'Both', '', OPEN));
    server.receive(data(3, 'x'));
    server.receive(data(1, 'y'));
    server.receive(request(5, 'Unary', 'z'));
    await channel.until(3);
    assert.deepEqual(sorted(channel.sent), ['1 data "y"', '3 data "x"', '5 reply "z"']);
  });
});

describe('data frames that break the rules', () => {
  it('after the client closed its half', async () => {
    const { server, channel } = serve({ up: () => new Promise(() => undefined) });
    server.receive(request(1, 'Up', '', OPEN), 1);
    server.receive(closing(1), 2);
    server.receive(data(1, 'x'), 3);
    assert.deepEqual(channel.sent, ['1 error 3 "data handling error: ttrpc: stream closed" #1']);
    assert.deepEqual(channel.releasedTags, [2, 3]);
  });

  it('for a method whose client does not stream', () => {
    const { server, channel } = serve({
      down: () => ({ [Symbol.asyncIterator]: () => ({ next: () => new Promise(() => undefined) }) }),
    });
    server.receive(request(1, 'Down', '', { flags: Flag.RemoteClosed }), 1);
    server.receive(closing(1), 2);
    assert.deepEqual(channel.sent, []);
    server.receive(data(1, 'x'), 3);
    assert.deepEqual(channel.sent, ['1 error 3 "data handling error: ttrpc: stream closed" #1']);
    assert.deepEqual(channel.releasedTags, [2, 3]);
  });

  it('that close and carry a message: it is delivered, then the stream fails', async () => {
    const seen = createDeferred<string>();
    const { server, channel } = serve({
      async up(requests) {
        for await (const text of requests) seen.resolve(text);
        return '';
      },
    });
    server.receive(request(1, 'Up', '', OPEN), 1);
    await settle();
    server.receive(data(1, 'last', Flag.RemoteClosed), 2);
    assert.equal(await seen.promise, 'last');
    assert.deepEqual(channel.sent, ['1 error 3 "data close message cannot include data" #1']);
    assert.deepEqual(channel.releasedTags, [2]);
  });

  it('that are oversized fail their stream', () => {
    const { server, channel } = serve({ up: () => new Promise(() => undefined) });
    server.receive(request(1, 'Up', '', OPEN), 1);
    const header = encodeFrame({ streamId: 1, type: FrameType.Data, flags: 0 });
    new DataView(header.buffer).setUint32(0, MAX_PAYLOAD + 1);
    server.receive(header, 2);
    assert.deepEqual(channel.sent, ['1 error 8 "message length 4194305 exceed maximum message size of 4194304" #1']);
    assert.deepEqual(channel.releasedTags, [2]);
  });
});

describe('a handler that does not read', () => {
  function flood(server: ServerConnection, count: number): void {
    for (let index = 0; index < count; index += 1) server.receive(data(1, 'x'), 100 + index);
  }

  it('pauses the connection, which resumes when it reads', async () => {
    const go = createDeferred<void>();
    const { server, channel } = serve(
      {
        async up(requests) {
          await go.promise;
          return echo.up(requests, undefined as never);
        },
      },
      { stallTimeoutMs: 60_000 },
    );
    server.receive(request(1, 'Up', '', OPEN), 1);
    flood(server, 63);
    assert.equal(channel.isPaused, false);
    flood(server, 1);
    assert.equal(channel.isPaused, true);
    go.resolve();
    await settle();
    assert.equal(channel.isPaused, false);
    server.receive(closing(1));
    assert.deepEqual(await channel.until(1), [`1 reply "${'x'.repeat(64)}" #1`]);
  });

  it('loses its stream after a while, and only that', async () => {
    const { server, channel } = serve({ up: () => new Promise(() => undefined) }, { stallTimeoutMs: 1 });
    server.receive(request(1, 'Up', '', OPEN), 1);
    flood(server, 100);
    assert.equal(channel.isPaused, true);
    assert.deepEqual(await channel.until(1), ['1 error 8 "ttrpc: stream buffer full" #1']);
    assert.equal(channel.isPaused, false);
    assert.equal(channel.releasedTags.length, 100);
    server.receive(request(3, 'Unary', 'alive'), 2);
    assert.equal(channel.sent[1], '3 reply "alive" #2');
  });
});
