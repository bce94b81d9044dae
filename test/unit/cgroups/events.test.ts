import assert from 'node:assert/strict';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import fc from 'fast-check';
import { type EventSink, EventStream } from '../../../src/cgroups/event-stream.js';
import { Cgroup, type CgroupEvent } from '../../../src/cgroups/index.js';
import { until } from '../../lib/wait.js';
import { countFds, FakeHierarchy, FakeKernel } from './fake.js';

/** A stream whose events a test pushes. */
function stream(signal?: AbortSignal) {
  let sink: EventSink | undefined;
  let isOpen = true;
  let checks = 0;
  const events = new EventStream((opened) => {
    sink = opened;
    return {
      check: () => {
        checks += 1;
      },
      [Symbol.dispose]: () => {
        isOpen = false;
      },
    };
  }, signal);
  return { events, sink: sink as EventSink, isOpen: () => isOpen, checks: () => checks };
}

const rise = (type: 'high' | 'oom_kill', count: bigint, total: bigint): CgroupEvent => ({ type, count, total });
const frozen = (value: boolean): CgroupEvent => ({ type: 'frozen', frozen: value });
const threshold = { resource: 'memory', kind: 'some', stallUsec: 1000, windowUsec: 1_000_000 } as const;

async function drain(events: AsyncIterable<CgroupEvent>): Promise<CgroupEvent[]> {
  const all: CgroupEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

describe('the queue of events', () => {
  it('adds up the rises a slow reader has not seen, in the order in which they began', async () => {
    const { events, sink } = stream();
    sink.push(rise('high', 2n, 2n));
    sink.push(rise('oom_kill', 1n, 1n));
    sink.push(rise('high', 3n, 5n));
    sink.push({ type: 'pressure', threshold });
    sink.push({ type: 'pressure', threshold: { ...threshold, kind: 'full' } });
    sink.push({ type: 'pressure', threshold });
    sink.end();
    assert.deepEqual(await drain(events), [
      rise('high', 5n, 5n),
      rise('oom_kill', 1n, 1n),
      { type: 'pressure', threshold },
      { type: 'pressure', threshold: { ...threshold, kind: 'full' } },
    ]);
  });

  it('gives an event to whoever waits, in turn', async () => {
    const { events, sink } = stream();
    const [first, second] = [events.next(), events.next()];
    sink.push(rise('high', 1n, 1n));
    sink.push(rise('high', 1n, 2n));
    assert.deepEqual([(await first).value, (await second).value], [rise('high', 1n, 1n), rise('high', 1n, 2n)]);
    await events.return();
  });

  it('loses no rise, stays bounded, and tells of states what is true, whatever happens', async () => {
    const action = fc.oneof(
      fc.record({ do: fc.constant('rise' as const), by: fc.bigInt(1n, 5n) }),
      fc.record({ do: fc.constant('toggle' as const) }),
      fc.record({ do: fc.constant('read' as const) }),
    );
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 40 }), async (actions) => {
        const { events, sink } = stream();
        let [total, isFrozen] = [0n, false];
        const seen: CgroupEvent[] = [];
        let pending = 0;
        for (const each of actions) {
          if (each.do === 'rise') {
            total += each.by;
            sink.push(rise('high', each.by, total));
          } else if (each.do === 'toggle') {
            isFrozen = !isFrozen;
            sink.push(frozen(isFrozen));
          }
          if (each.do === 'read' && pending > 0) seen.push((await events.next()).value as CgroupEvent);
          pending = each.do === 'read' ? Math.max(0, pending - 1) : Math.min(1, pending + 1);
        }
        sink.end();
        const rest = await drain(events);
        assert.ok(rest.length <= 3);
        seen.push(...rest);
        const states = seen.flatMap((event) => (event.type === 'frozen' ? [event.frozen] : []));
        assert.equal(
          seen.reduce((sum, event) => sum + ('count' in event ? event.count : 0n), 0n),
          total,
        );
        assert.deepEqual(
          states,
          Array.from(states, (_, index) => index % 2 === 0),
          'each is a change',
        );
        assert.equal(states.at(-1) ?? false, isFrozen);
      }),
    );
  });

  it('ends once, for everybody, and lets go of its source', async () => {
    const { events, sink, isOpen } = stream();
    const waiting = [events.next(), events.next()];
    sink.end();
    sink.end();
    sink.push(rise('high', 1n, 1n));
    for (const each of [...waiting, events.next()]) assert.equal((await each).done, true);
    assert.equal(isOpen(), false);
  });

  it('ends at once when it is aborted, now or before', async () => {
    const abort = new AbortController();
    const { events, sink, isOpen } = stream(abort.signal);
    sink.push(rise('high', 1n, 1n));
    abort.abort();
    assert.deepEqual(await drain(events), []);
    assert.equal(isOpen(), false);
    assert.equal(stream(AbortSignal.abort()).isOpen(), false);
  });

  it('looks by itself while somebody waits', async () => {
    const { events, sink, checks } = stream();
    const waiting = events.next();
    await until('a look', () => checks() > 0);
    sink.end();
    await waiting;
  });
});

describe('events of a v2 group', () => {
  let fake: FakeHierarchy;
  let kernel: FakeKernel;
  let cgroup: Cgroup;
  let fds: number;
  const memory = (high: number, kills: number): void =>
    fake.write({ 'web/memory.events': `low 0\nhigh ${high}\nmax 0\noom 0\noom_kill ${kills}\n` });
  const group = (populated: number): void => fake.write({ 'web/cgroup.events': `populated ${populated}\nfrozen 0\n` });
  const path = (file: string): string => join(fake.root, 'web', file);

  beforeEach(() => {
    fds = countFds();
    fake = new FakeHierarchy();
    kernel = new FakeKernel();
    memory(5, 1);
    group(1);
    cgroup = Cgroup.load('/web', { layout: fake.unified, kernel });
  });

  afterEach(() => {
    fake[Symbol.dispose]();
    assert.equal(kernel.open.size + kernel.priority.size, 0, 'everything that was watched is released');
    assert.equal(countFds(), fds, 'no descriptor is left');
  });

  it('begin with the call, not with the first question', async () => {
    const events = cgroup.events();
    memory(7, 1);
    kernel.notify([path('memory.events')]);
    memory(8, 1);
    assert.deepEqual((await events.next()).value, rise('high', 2n, 7n));
    kernel.notify([path('memory.events')]);
    assert.deepEqual((await events.next()).value, rise('high', 1n, 8n));
    await events.return?.();
  });

  it('find a rise whose notification never came', async () => {
    const events = cgroup.events();
    memory(5, 2);
    assert.deepEqual((await events.next()).value, rise('oom_kill', 1n, 2n));
    await events.return?.();
  });

  it('read the counters when the last process has gone, before they say so', async () => {
    const events = cgroup.events();
    memory(5, 2);
    group(0);
    kernel.notify([path('cgroup.events')]);
    assert.deepEqual((await events.next()).value, rise('oom_kill', 1n, 2n));
    assert.deepEqual((await events.next()).value, { type: 'populated', populated: false });
    await events.return?.();
  });

  it('go without the memory controller', async () => {
    fake.remove('web/memory.events');
    const events = cgroup.events();
    group(0);
    kernel.notify([path('cgroup.events')]);
    assert.deepEqual((await events.next()).value, { type: 'populated', populated: false });
    await events.return?.();
  });

  it('ask the kernel for what it shall tell of pressure, and end that with the group', async () => {
    fake.write({ 'web/memory.pressure': '' });
    const events = cgroup.events({ pressure: [threshold] });
    assert.equal(fake.read('web/memory.pressure'), 'some 1000 1000000\n');
    const [onEvent] = kernel.priority.values();
    onEvent?.(true);
    onEvent?.(true);
    assert.deepEqual((await events.next()).value, { type: 'pressure', threshold });
    onEvent?.(false);
    assert.equal(kernel.priority.size, 0);
    await events.return?.();
  });

  it('leave nothing open when they are refused', () => {
    fake.write({ 'web/memory.pressure': '' });
    const bad = { ...threshold, resource: 'io' } as const;
    assert.throws(() => cgroup.events({ pressure: [threshold, bad] }), { code: 12 });
    assert.throws(() => cgroup.events({ pressure: [{ ...threshold, stallUsec: 0 }] }), {
      code: 3,
      subject: 'pressure.stallUsec',
    });
  });
});
