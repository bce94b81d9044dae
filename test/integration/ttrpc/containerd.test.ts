import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, describe, it } from 'node:test';
import { events, forward, fromNs, packMessage } from '../../../src/api/index.js';
import { Code, createDeferred } from '../../../src/base/index.js';
import {
  type ClientConnection,
  connect,
  createClient,
  encodeFrame,
  FrameDecoder,
  FrameType,
  MAX_PAYLOAD,
  readHeader,
  StatusError,
} from '../../../src/ttrpc/index.js';
import { Containerd } from '../../lib/containerd.js';
import { EventLog } from '../../lib/events.js';
import { requires } from '../../lib/requires.js';
import { LATE_MS, until } from '../../lib/wait.js';

const NAMESPACE = 'ttrpc-test';

/** A service the daemon has, with a method it has not; and one it has not at all. */
const { forward: forwardMethod } = forward.EventsDefinition.methods;
const WrongMethod = {
  fullName: forward.EventsDefinition.fullName,
  methods: { nothing: { ...forwardMethod, name: 'Nothing' } },
} as const;
const WrongService = { fullName: 'lamina.test.Nothing', methods: { forward: forwardMethod } } as const;

function exitEvent(id: string): forward.ForwardRequest {
  const exitedAt = fromNs(1_700_000_000_123_456_789n);
  const exit: events.TaskExit = { containerId: 'c1', id, pid: 42, exitStatus: 137, exitedAt };
  const event = packMessage(events.TaskExit, exit);
  return { envelope: { timestamp: exitedAt, namespace: NAMESPACE, topic: '/tasks/exit', event } };
}

describe('our client and a Go server (containerd)', { skip: requires({ root: true, containerd: '1.6' }) }, () => {
  let daemon: Containerd;
  let log: EventLog;
  let connection: ClientConnection;
  const closed = createDeferred<unknown>();

  before(async () => {
    daemon = await Containerd.start();
    log = await EventLog.start(daemon);
    connection = await connect({ path: daemon.ttrpcAddress }, { onClose: closed.resolve });
  });

  after(async () => {
    connection?.close();
    await log?.stop();
    await daemon?.stop();
    daemon?.removeFolder();
  });

  const options = { metadata: { 'containerd-namespace-ttrpc': NAMESPACE }, timeoutMs: LATE_MS };

  it('forwards an event, which the daemon publishes with every field', async () => {
    const client = createClient(forward.EventsDefinition, connection);
    assert.deepEqual(await client.forward(exitEvent('exec1'), options), {});
    const published = await until('the event is published', async () =>
      log.all().find(({ namespace }) => namespace === NAMESPACE),
    );
    assert.equal(published.topic, '/tasks/exit');
    assert.deepEqual(published.fields, {
      container_id: 'c1',
      id: 'exec1',
      pid: 42,
      exit_status: 137,
      exited_at: '2023-11-14T22:13:20.123456789Z',
    });
  });

  it('has many calls under way at once', async () => {
    const client = createClient(forward.EventsDefinition, connection);
    const calls = Array.from({ length: 200 }, (_, index) => client.forward(exitEvent(`many${index}`), options));
    assert.equal((await Promise.all(calls)).length, 200);
  });

  it('is told Unimplemented for an unknown method and an unknown service', async () => {
    const request = exitEvent('x');
    const isUnimplemented = (error: unknown): boolean =>
      error instanceof StatusError && error.code === Code.Unimplemented;
    await assert.rejects(createClient(WrongMethod, connection).nothing(request, options), isUnimplemented);
    await assert.rejects(createClient(WrongService, connection).forward(request, options), isUnimplemented);
  });

  it('is told what is wrong with an event', async () => {
    const client = createClient(forward.EventsDefinition, connection);
    const { envelope } = exitEvent('x');
    assert.ok(envelope !== undefined);
    const bad = { envelope: { ...envelope, namespace: 'not/valid' } };
    await assert.rejects(client.forward(bad, options), (error) => {
      return error instanceof StatusError && error.code === Code.InvalidArgument && /not\/valid/.test(error.message);
    });
  });

  it('meets the same limit: an oversized frame is refused on its stream, and the connection goes on', async () => {
    const socket = net.connect({ path: daemon.ttrpcAddress });
    const refusal = createDeferred<Uint8Array>();
    const decoder = new FrameDecoder(refusal.resolve);
    socket.on('data', (chunk: Buffer) => decoder.push(chunk));
    const oversized = { streamId: 1, type: FrameType.Request, flags: 0 };
    socket.write(encodeFrame(oversized, new Uint8Array(MAX_PAYLOAD + 1)));
    const frame = await refusal.promise;
    assert.deepEqual([readHeader(frame).streamId, readHeader(frame).type], [1, FrameType.Response]);
    assert.match(
      Buffer.from(frame).toString('latin1'),
      /message length 4194305 exceed maximum message size of 4194304/,
    );

    socket.removeAllListeners('data');
    const same = await connect({ socket }, { firstStreamId: 3 });
    assert.deepEqual(await createClient(forward.EventsDefinition, same).forward(exitEvent('after'), options), {});
    same.close();
  });

  it('notices the end of the daemon', async () => {
    await daemon.stop();
    await closed.promise;
    const client = createClient(forward.EventsDefinition, connection);
    await assert.rejects(client.forward(exitEvent('late'), options), {
      code: Code.Unavailable,
      message: 'ttrpc: closed',
    });
  });
});
