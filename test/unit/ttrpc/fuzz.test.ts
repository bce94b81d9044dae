import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import {
  ClientConnection,
  createClient,
  Flag,
  FrameDecoder,
  Router,
  ServerConnection,
} from '../../../src/ttrpc/index.js';
import {
  closing,
  collect,
  data,
  EchoDefinition,
  echo,
  failure,
  RecordingChannel,
  request,
  response,
  settle,
  stream,
} from './kit.js';

const IDLE = { streams: 0, handlers: 0, queuedMessages: 0, queuedBytes: 0 };
const OPEN = { flags: Flag.RemoteOpen };

/** A session as a well-behaved client has it, with every form of call. */
const SESSION: readonly Uint8Array[] = [
  request(1, 'Unary', 'hello'),
  request(3, 'Both', '', OPEN),
  request(5, 'Down', 'abc', { flags: Flag.RemoteClosed }),
  data(3, 'x'),
  request(7, 'Up', 'first', OPEN),
  data(7, 'second'),
  data(3, ''),
  closing(7),
  request(9, 'Unary', '', { metadata: [{ key: 'k', value: 'v' }] }),
  closing(3),
];

/**
 * What may be done to a session: change, remove, double, or move frames, or change bytes anywhere.
 */
const mutation = fc.oneof(
  fc.record({ kind: fc.constant('drop' as const), at: fc.nat() }),
  fc.record({ kind: fc.constant('double' as const), at: fc.nat() }),
  fc.record({ kind: fc.constant('swap' as const), at: fc.nat(), with: fc.nat() }),
  fc.record({
    kind: fc.constant('byte' as const),
    at: fc.nat(),
    offset: fc.nat(),
    value: fc.integer({ min: 0, max: 255 }),
  }),
);

function mutate(
  session: readonly Uint8Array[],
  changes: readonly (typeof mutation extends fc.Arbitrary<infer T> ? T : never)[],
): Uint8Array[] {
  const frames = session.map((frame) => frame.slice());
  for (const change of changes) {
    const at = change.at % Math.max(frames.length, 1);
    const frame = frames[at];
    if (frame === undefined) continue;
    if (change.kind === 'drop') frames.splice(at, 1);
    else if (change.kind === 'double') frames.splice(at, 0, frame.slice());
    else if (change.kind === 'byte') frame[change.offset % frame.length] = change.value;
    else {
      const other = change.with % frames.length;
      frames[at] = frames[other] ?? frame;
      frames[other] = frame;
    }
  }
  return frames;
}

function serve(): { server: ServerConnection; channel: RecordingChannel } {
  const channel = new RecordingChannel();
  return { server: new ServerConnection(new Router().add(EchoDefinition, echo), channel), channel };
}

describe('a server that is sent anything', () => {
  it('as frames: answers or releases each exactly once, and has nothing left at the end', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { maxLength: 8 }), async (changes) => {
        const { server, channel } = serve();
        const frames = mutate(SESSION, changes);
        for (const [tag, frame] of frames.entries()) server.receive(frame, tag);
        await settle();
        await settle();
        // Streams whose closing frame was lost still wait, as they must; each holds its request's
        // tag and no more.
        const { streams, queuedMessages } = server.stats();
        const done = [...channel.answeredTags, ...channel.releasedTags];
        assert.equal(new Set(done).size, done.length, 'a tag was settled twice');
        assert.equal(done.length + streams + queuedMessages, frames.length);
        server.end();
        await settle();
        await settle();
        assert.deepEqual(server.stats(), IDLE);
      }),
      { numRuns: 300 },
    );
  });

  it('as bytes: lives, and has nothing left at the end', async () => {
    const bytes = Buffer.concat(SESSION);
    const noise = fc.record({ at: fc.nat(bytes.length), bytes: fc.uint8Array({ maxLength: 30 }), cut: fc.nat(40) });
    await fc.assert(
      fc.asyncProperty(fc.array(noise, { maxLength: 4 }), fc.integer({ min: 1, max: 200 }), async (noises, size) => {
        const { server } = serve();
        let input: Buffer = bytes;
        for (const { at, bytes: inserted, cut } of noises) {
          input = Buffer.concat([input.subarray(0, at), inserted, input.subarray(at + cut)]);
        }
        const decoder = new FrameDecoder((frame) => server.receive(frame));
        for (let at = 0; at < input.length; at += size) decoder.push(input.subarray(at, at + size));
        server.end();
        await settle();
        await settle();
        assert.deepEqual(server.stats(), IDLE);
      }),
      { numRuns: 300 },
    );
  });

  it('unchanged, the session is answered in full', async () => {
    const { server, channel } = serve();
    for (const frame of SESSION) server.receive(frame);
    await channel.until(10);
    await settle();
    assert.deepEqual(server.stats(), IDLE);
    for (const expected of ['1 reply "hello"', '3 data "x"', '3 end', '5 data "c"', '5 end', '7 reply "firstsecond"']) {
      assert.ok(channel.sent.includes(expected), expected);
    }
  });
});

describe('a client that is sent anything', () => {
  const REPLIES: readonly Uint8Array[] = [
    response(1, 'a'),
    data(3, 'b'),
    failure(5, 5, 'c'),
    data(7, 'd'),
    closing(3),
    data(7, 'e'),
    closing(7),
  ];

  it('lives, settles every call, and has nothing left at the end', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(mutation, { maxLength: 8 }), async (changes) => {
        const connection = new ClientConnection(new RecordingChannel());
        const client = createClient(EchoDefinition, connection);
        const calls = [
          client.unary(''),
          collect(client.down('')),
          client.up(stream('x')),
          collect(client.both(stream('y'))),
        ];
        const outcomes = Promise.allSettled(calls);
        for (const frame of mutate(REPLIES, changes)) connection.receive(frame);
        connection.end();
        assert.equal((await outcomes).length, 4);
        assert.equal(connection.openStreams, 0);
      }),
      { numRuns: 300 },
    );
  });
});
