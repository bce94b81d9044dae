import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type forward, packAny } from '../../../src/api/index.js';
import { Code, createDeferred, silentLogger } from '../../../src/base/index.js';
import { Publisher, RefusedError } from '../../../src/shim/publisher.js';

const EVENT = packAny('containerd.events.TaskStart', new Uint8Array());

/**
 * A daemon that is away while `down` and says no to what it `refuses`, and a store, both of which
 * remember.
 */
function harness() {
  const received: string[] = [];
  const stored = new Map<number, Uint8Array>();
  const state = { down: false, refuses: '', attempts: 0, attempted: createDeferred<void>() };
  const publisher = new Publisher({
    namespace: 'test',
    forward: async (request: forward.ForwardRequest) => {
      state.attempts += 1;
      state.attempted.resolve();
      if (state.down) throw new Error('connection refused');
      if (request.envelope?.topic === state.refuses) throw new RefusedError(Code.InvalidArgument, 'bad event');
      received.push(request.envelope?.topic ?? '');
    },
    store: { put: (seq, bytes) => stored.set(seq, bytes), del: (seq) => stored.delete(seq) },
    log: silentLogger,
  });
  return { publisher, received, stored, state };
}

describe('publisher', () => {
  it('delivers in order and then forgets', async () => {
    const { publisher, received, stored } = harness();
    for (const topic of ['/a', '/b', '/c']) publisher.publish(topic, EVENT);
    assert.equal(stored.size, 3);
    await publisher.flush(5000);
    assert.deepEqual(received, ['/a', '/b', '/c']);
    assert.equal(stored.size, 0);
  });

  it('keeps order and loses nothing while the daemon is away', async () => {
    const { publisher, received, stored, state } = harness();
    state.down = true;
    publisher.publish('/a', EVENT);
    publisher.publish('/b', EVENT);
    await state.attempted.promise;
    assert.equal(stored.size, 2);
    state.down = false;
    publisher.publish('/c', EVENT);
    await publisher.flush(5000);
    assert.deepEqual(received, ['/a', '/b', '/c']);
    assert.ok(state.attempts > 3);
  });

  it('goes on where a predecessor stopped', async () => {
    const first = harness();
    first.state.down = true;
    for (let i = 1; i <= 11; i += 1) first.publisher.publish(`/${i}`, EVENT);
    await first.state.attempted.promise;
    first.publisher.close();
    const second = harness();
    second.publisher.restore(first.stored);
    second.publisher.publish('/last', EVENT);
    await second.publisher.flush(5000);
    assert.deepEqual(second.received, [...Array.from({ length: 11 }, (_, i) => `/${i + 1}`), '/last']);
  });

  it('is bounded: the oldest waiting events go first', async () => {
    const { publisher, received, stored, state } = harness();
    state.down = true;
    for (let i = 0; i < 5000; i += 1) publisher.publish(`/${i}`, EVENT);
    assert.equal(publisher.pending, 4096);
    assert.equal(stored.size, 4096);
    state.down = false;
    await publisher.flush(20_000);
    assert.equal(received[0], '/0', 'the event that may be on its way stays');
    assert.equal(received.at(-1), '/4999');
    assert.equal(received.length, 4096);
  });

  it('drops what a container that runs out of memory says over and over before anybody’s exit', async () => {
    const { publisher, received, state } = harness();
    state.down = true;
    for (let i = 0; i < 5; i += 1) publisher.publish(`/exit-${i}`, EVENT);
    for (let i = 0; i < 5000; i += 1) publisher.publish('/tasks/oom', EVENT);
    publisher.publish('/exit-last', EVENT);
    assert.equal(publisher.pending, 4096);
    state.down = false;
    await publisher.flush(20_000);
    const told = received.filter((topic) => topic !== '/tasks/oom');
    assert.deepEqual(told, ['/exit-0', '/exit-1', '/exit-2', '/exit-3', '/exit-4', '/exit-last']);
  });

  it('drops an event that the daemon has refused five times, and delivers those behind it', async () => {
    const { publisher, received, stored, state } = harness();
    state.refuses = '/bad';
    for (const topic of ['/a', '/bad', '/c']) publisher.publish(topic, EVENT);
    await publisher.flush(20_000);
    assert.deepEqual(received, ['/a', '/c']);
    assert.equal(state.attempts, 7);
    assert.equal(stored.size, 0);
  });

  it('counts refusals only: a daemon that is away in between is waited for', async () => {
    const { publisher, received, state } = harness();
    state.refuses = '/bad';
    state.down = true;
    publisher.publish('/bad', EVENT);
    await state.attempted.promise;
    state.down = false;
    publisher.publish('/c', EVENT);
    await publisher.flush(20_000);
    assert.deepEqual(received, ['/c']);
    assert.ok(state.attempts >= 7, `${state.attempts} attempts`);
  });

  it('gives up waiting when flush runs out of time', async () => {
    const { publisher, state } = harness();
    state.down = true;
    publisher.publish('/a', EVENT);
    await publisher.flush(1);
    assert.equal(publisher.pending, 1);
    publisher.close();
  });
});
