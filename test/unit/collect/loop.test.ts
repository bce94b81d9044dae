import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Code, createDeferred } from '../../../src/base/index.js';
import { type Clock, Loop, type LoopOptions } from '../../../src/collect/index.js';

interface Outcome {
  readonly pauseMs: number;
  readonly nextExpiry: number | undefined;
  readonly isPartial: boolean;
}
const DONE: Outcome = { pauseMs: 10, nextExpiry: undefined, isPartial: false };

/** A clock that stands still between two steps; both of its times begin at 0. */
class FakeClock implements Clock {
  now = 0;
  /** What the wall clock was set forward by. */
  setMs = 0;
  wakeUps = 0;
  readonly #timers = new Map<number, { readonly at: number; readonly work: () => void }>();
  #next = 0;

  monotonic(): number {
    return this.now;
  }

  wall(): number {
    return this.now + this.setMs;
  }

  after(ms: number, work: () => void): () => void {
    assert.ok(ms >= 1 && ms <= 60_000, `a timer of ${ms} ms`);
    const id = this.#next++;
    this.#timers.set(id, { at: this.now + ms, work });
    return () => void this.#timers.delete(id);
  }

  /** Runs the timers up to a time, and what they begin. */
  async to(ms: number): Promise<void> {
    for (;;) {
      const due = [...this.#timers].sort(([, a], [, b]) => a.at - b.at)[0];
      if (due === undefined || due[1].at > ms) break;
      this.#timers.delete(due[0]);
      this.now = Math.max(this.now, due[1].at);
      this.wakeUps += 1;
      due[1].work();
      await settled();
    }
    this.now = Math.max(this.now, ms);
  }
}

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function begin(options: Partial<LoopOptions<Outcome>> = {}) {
  const clock = new FakeClock();
  const at: number[] = [];
  const loop = new Loop<Outcome>({
    clock,
    random: () => 0,
    ...options,
    collect: async () => {
      at.push(clock.now);
      return await (options.collect?.() ?? Promise.resolve(DONE));
    },
  });
  return { clock, at, loop };
}

describe('housekeeping loop', () => {
  test('collects at the start, after deletions, and not without a cause', async () => {
    const { clock, at, loop } = begin();
    await clock.to(10_000);
    assert.deepEqual(at, [100]);
    loop.mutated(true);
    await clock.to(20_000);
    assert.equal(at.length, 2);
    await loop.close();
  });

  test('collectNow waits for a collection that begins after the call', async () => {
    const first = createDeferred<Outcome>();
    const results = [first.promise, Promise.resolve({ ...DONE, pauseMs: 7 })];
    const { clock, at, loop } = begin({ collect: () => results.shift() ?? Promise.resolve(DONE) });
    await clock.to(100);
    assert.deepEqual(at, [100]);
    const waited = loop.collectNow();
    first.resolve(DONE);
    await settled();
    await clock.to(200);
    assert.equal((await waited).pauseMs, 7);
    assert.equal(at.length, 2);
    await loop.close();
  });

  test('many who wait share one collection', async () => {
    const { clock, at, loop } = begin();
    const all = [loop.collectNow(), loop.collectNow(), loop.collectNow()];
    await clock.to(50);
    assert.deepEqual(await Promise.all(all), [DONE, DONE, DONE]);
    assert.equal(at.length, 1);
    await loop.close();
  });

  test('a failure reaches those who wait and the call-back, and asking again brings an attempt soon', async () => {
    let isBroken = true;
    const failures: unknown[] = [];
    const { clock, at, loop } = begin({
      collect: () => (isBroken ? Promise.reject(new Error('broken')) : Promise.resolve(DONE)),
      onFailure: (error) => failures.push(error),
    });
    const waited = assert.rejects(loop.collectNow(), /broken/);
    await clock.to(100);
    await waited;
    for (let n = 0; n < 6; n += 1) await clock.to(clock.now + 200_000);
    const tries = at.length;
    assert.ok(tries < 20, `${tries} attempts`);
    assert.equal(failures.length, tries);
    isBroken = false;
    const asked = clock.now;
    const result = loop.collectNow();
    await clock.to(asked + 1_000);
    assert.deepEqual(await result, DONE);
    await loop.close();
  });

  test('an expiry is collected when it comes, also when the wall clock is set', async () => {
    const { clock, at, loop } = begin({ collect: () => Promise.resolve(DONE) });
    await clock.to(1_000);
    loop.expires(500_000);
    await clock.to(499_000);
    assert.equal(at.length, 1);
    await clock.to(501_000);
    assert.equal(at.length, 2);
    loop.expires(9_000_000);
    clock.setMs = 8_000_000;
    await clock.to(clock.now + 600_000);
    assert.equal(at.length, 3);
    await loop.close();
  });

  test('an expiry years ahead is no timer of that length, and no busy loop', async () => {
    const { clock, at, loop } = begin();
    await clock.to(1_000);
    loop.expires(10 * 365 * 86_400_000);
    clock.wakeUps = 0;
    await clock.to(3_600_000);
    assert.equal(at.length, 1);
    assert.ok(clock.wakeUps <= 3_600_000 / 490 + 60, `${clock.wakeUps} wake-ups`);
    await loop.close();
  });

  test('what a budget has cut short is gone on with at the next tick', async () => {
    const results = [{ ...DONE, isPartial: true }, { ...DONE, isPartial: true }, DONE];
    const { clock, at, loop } = begin({ collect: () => Promise.resolve(results.shift() ?? DONE) });
    await clock.to(60_000);
    assert.deepEqual(at, [100, 590, 1_080]);
    await loop.close();
  });

  test('closing refuses those who wait and lets the collection under way end', async () => {
    const first = createDeferred<Outcome>();
    const { clock, loop } = begin({ collect: () => first.promise });
    await clock.to(100);
    const refused = assert.rejects(loop.collectNow(), { code: Code.Unavailable });
    let isClosed = false;
    const closing = loop.close().then(() => {
      isClosed = true;
    });
    await refused;
    assert.ok(!isClosed);
    first.resolve(DONE);
    await closing;
    await assert.rejects(loop.collectNow(), { code: Code.Unavailable });
  });

  test('no parameters, results and events make it spin', async () => {
    const parameters = fc.record({
      pauseThreshold: fc.double({ min: -1, max: 2, noNaN: true }),
      deletionThreshold: fc.integer({ min: -1, max: 5 }),
      mutationThreshold: fc.integer({ min: -1, max: 5 }),
      scheduleDelayMs: fc.integer({ min: -1, max: 50 }),
      startupDelayMs: fc.integer({ min: -1, max: 200 }),
    });
    const outcome = fc.constantFrom('done', 'fast', 'partial', 'fails', 'expired');
    const event = fc.constantFrom('add', 'delete', 'expired', 'nothing');
    await fc.assert(
      fc.asyncProperty(
        parameters,
        fc.array(outcome, { minLength: 1, maxLength: 8 }),
        fc.array(event, { minLength: 1, maxLength: 8 }),
        async (given, outcomes, events) => {
          let count = 0;
          const clock = new FakeClock();
          const loop = new Loop<Outcome>({
            clock,
            random: () => 0,
            parameters: { ...given, deletionThreshold: Math.min(given.deletionThreshold, 0) },
            collect: () => {
              const kind = outcomes[count++ % outcomes.length];
              if (kind === 'fails') return Promise.reject(new Error('broken'));
              const nextExpiry = kind === 'expired' ? clock.wall() - 1 : undefined;
              return Promise.resolve({ pauseMs: kind === 'fast' ? 0 : 3, nextExpiry, isPartial: kind === 'partial' });
            },
          });
          for (let n = 0; n < 600; n += 1) {
            const kind = events[n % events.length];
            if (kind === 'add' || kind === 'delete') loop.mutated(kind === 'delete');
            if (kind === 'expired') loop.expires(clock.wall() - 1);
            await clock.to(clock.now + 100);
          }
          await loop.close();
          // 5 ms at the largest threshold, 0.5, is one each 5 ms; a timer takes 1 ms at the least.
          assert.ok(count <= 60_000 / 5 + 1, `${count} collections in a minute`);
          assert.ok(clock.wakeUps <= 60_000 / 5 + 700, `${clock.wakeUps} wake-ups in a minute`);
        },
      ),
      { numRuns: 40 },
    );
  });
});
