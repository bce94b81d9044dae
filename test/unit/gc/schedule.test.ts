import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { Schedule, type ScheduleParameters } from '../../../src/gc/index.js';

const start = (parameters: Partial<ScheduleParameters> = {}): Schedule => new Schedule(0, parameters, () => 0);

/**
 * The first collection, of 10 ms at 100 ms: with the default threshold one every 490 ms follows.
 */
function collected(parameters: Partial<ScheduleParameters> = {}, pauseMs = 10): Schedule {
  const schedule = start(parameters);
  collect(schedule, 100, pauseMs);
  return schedule;
}

function collect(schedule: Schedule, atMs: number, pauseMs = 10): void {
  assert.ok(schedule.tick(atMs), `nothing is due at ${atMs}, but at ${schedule.nextMs}`);
  schedule.began();
  schedule.succeeded(atMs, pauseMs);
}

describe('schedule', () => {
  test('the first collection comes after the startup delay, and at once with none and an event', () => {
    assert.equal(start().nextMs, 100);
    const schedule = start({ startupDelayMs: 0 });
    assert.equal(schedule.nextMs, undefined);
    schedule.mutated(50, true);
    assert.equal(schedule.nextMs, 50);
    assert.ok(schedule.tick(50));
  });

  test('the interval keeps pauses below their share, with 5 ms as the least', () => {
    assert.equal(collected({}, 10).intervalMs, 490);
    assert.equal(collected({}, 1).intervalMs, 245);
    assert.equal(collected({ pauseThreshold: 0.5 }, 10).intervalMs, 10);
    assert.equal(collected({ pauseThreshold: 7 }, 10).intervalMs, 10);
    assert.equal(collected({ pauseThreshold: 0 }).intervalMs, 1_000);
  });

  test('the average is of the last collections, not of a whole life', () => {
    const schedule = collected({}, 1_000);
    let now = 100;
    for (let round = 0; round < 32; round += 1) {
      schedule.triggered(now);
      now += 1;
      collect(schedule, now, 10);
    }
    assert.equal(schedule.intervalMs, 490);
  });

  test('a tick without any event plans the next one and collects nothing', () => {
    const schedule = collected();
    assert.equal(schedule.nextMs, 590);
    assert.ok(!schedule.tick(590));
    assert.equal(schedule.nextMs, 1_080);
  });

  test('a deletion is collected at the next tick', () => {
    const schedule = collected();
    schedule.mutated(200, true);
    assert.equal(schedule.nextMs, 590);
    collect(schedule, 590);
  });

  test('a deletion threshold collects at once when it is reached, and not before', () => {
    const schedule = collected({ deletionThreshold: 3 });
    schedule.mutated(200, true);
    schedule.mutated(201, true);
    assert.equal(schedule.nextMs, 590);
    schedule.mutated(202, true);
    assert.equal(schedule.nextMs, 202);
    collect(schedule, 202);
  });

  test('additions are collected at the next tick from the mutation threshold on', () => {
    const schedule = collected({ mutationThreshold: 3 });
    for (const at of [200, 201]) schedule.mutated(at, false);
    assert.ok(!schedule.tick(590));
    schedule.mutated(600, false);
    collect(schedule, 1_080);
    const never = collected({ mutationThreshold: 0 });
    for (let at = 200; at < 500; at += 1) never.mutated(at, false);
    assert.ok(!never.tick(590));
  });

  test('a trigger collects after the schedule delay, whatever the pause threshold says', () => {
    const schedule = collected({ scheduleDelayMs: 30 });
    schedule.triggered(110);
    assert.equal(schedule.nextMs, 140);
    schedule.triggered(120);
    assert.equal(schedule.nextMs, 140);
    collect(schedule, 140);
  });

  test('a trigger during a collection is for the next one, at once', () => {
    const schedule = collected();
    schedule.triggered(200);
    assert.ok(schedule.tick(200));
    schedule.began();
    schedule.triggered(205);
    schedule.succeeded(210, 10);
    assert.equal(schedule.nextMs, 210);
    assert.ok(schedule.tick(210));
  });

  test('an event of before the end of the last collection was seen by it', () => {
    const schedule = collected();
    schedule.mutated(99, true);
    assert.ok(!schedule.tick(590));
  });

  test('an expiry is collected when it comes, on an idle node too', () => {
    const schedule = collected();
    schedule.expires(5_000);
    assert.ok(!schedule.tick(590));
    assert.equal(schedule.nextMs, 1_080);
    for (let now = 1_080; now < 5_000; now = schedule.nextMs ?? 0) assert.ok(!schedule.tick(now));
    assert.equal(schedule.nextMs, 5_000);
    collect(schedule, 5_000);
  });

  test('what has expired and cannot be removed makes no collections follow each other', () => {
    const schedule = collected();
    schedule.expires(50);
    assert.equal(schedule.nextMs, 590);
    collect(schedule, 590);
    assert.equal(schedule.nextMs, 1_080);
  });

  test('after a failure pauses grow to five minutes, and one success ends them', () => {
    const schedule = start();
    let now = 100;
    const pauses: number[] = [];
    for (let round = 0; round < 11; round += 1) {
      assert.ok(schedule.tick(now));
      schedule.began();
      schedule.failed(now);
      schedule.triggered(now);
      schedule.expires(now);
      const next = schedule.nextMs ?? 0;
      pauses.push(next - now);
      now = next;
    }
    assert.deepEqual(pauses.slice(0, 4), [1_000, 2_000, 4_000, 8_000]);
    assert.equal(pauses.at(-1), 300_000);
    schedule.expires(undefined);
    collect(schedule, now);
    assert.equal(schedule.nextMs, now + 490);
  });

  test('no parameters and no events make it spin', () => {
    const parameters = fc.record({
      pauseThreshold: fc.double({ min: -1, max: 2, noNaN: true }),
      deletionThreshold: fc.integer({ min: -1, max: 5 }),
      mutationThreshold: fc.integer({ min: -1, max: 5 }),
      scheduleDelayMs: fc.integer({ min: -1, max: 50 }),
      startupDelayMs: fc.integer({ min: -1, max: 200 }),
    });
    const events = fc.array(fc.constantFrom('add', 'delete', 'expire', 'fail', 'none'), { maxLength: 40 });
    fc.assert(
      fc.property(parameters, events, (given, happens) => {
        const schedule = new Schedule(0, { ...given, deletionThreshold: 0 });
        let now = 0;
        let rounds = 0;
        let index = 0;
        while (now < 60_000) {
          const event = happens.length === 0 ? 'none' : happens[index++ % happens.length];
          if (event === 'add' || event === 'delete') schedule.mutated(now, event === 'delete');
          if (event === 'expire') schedule.expires(now);
          if (schedule.tick(now)) {
            rounds += 1;
            schedule.began();
            if (event === 'fail') schedule.failed(now);
            else schedule.succeeded(now, 1);
          }
          now = Math.max(now + 1, Math.min(schedule.nextMs ?? 60_000, now + 10));
        }
        // 5 ms at the largest threshold, 0.5, is one each 5 ms.
        assert.ok(rounds <= 60_000 / 5 + 1, `${rounds} collections in a minute`);
      }),
      { numRuns: 60 },
    );
  });
});
