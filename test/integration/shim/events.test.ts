import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { Box } from '../../lib/box.js';
import { shimSuite } from '../../lib/parity.js';

function topics(events: readonly unknown[]): string[] {
  return events.map((event) => String((event as { topic: string }).topic).replace('/tasks/', ''));
}

/** Runs a container to its end and returns its events. */
async function eventsOfRun(box: Box, argv: readonly string[], flags: readonly string[] = []): Promise<unknown[]> {
  const id = box.id();
  await box.ctr(box.runArgs(id, argv, { flags: ['--rm', ...flags] }));
  return await box.eventsOf(id);
}

shimSuite('events', ({ scenario }) => {
  scenario('come in order for a short container, with its exit status', async (box) => {
    const events = await eventsOfRun(box, ['sh', '-c', 'exit 42']);
    assert.deepEqual(topics(events), ['create', 'start', 'exit', 'delete']);
    return events;
  });

  scenario('come in order for containers that end at once', async (box) => {
    const seen = [];
    for (let round = 0; round < 10; round += 1) seen.push(topics(await eventsOfRun(box, ['true'])));
    assert.deepEqual(
      seen,
      seen.map(() => ['create', 'start', 'exit', 'delete']),
    );
  });

  scenario('name execs, and put their exits before init’s', async (box) => {
    const id = await box.start(['sleep', '1000']);
    const execId = `x-${box.daemon.marker}`;
    const killed = `y-${box.daemon.marker}`;
    await box.exec(id, ['sh', '-c', 'exit 3'], { flags: ['--exec-id', execId] });
    const command = box.spawn(
      box.execArgs(id, ['sh', '-c', 'echo ready; sleep 1000'], { flags: ['--exec-id', killed] }),
    );
    await command.output(/ready/);
    await box.must(['tasks', 'kill', '-s', 'SIGKILL', id]);
    await command.result();
    await box.waitForStatus(id, 'STOPPED');
    await box.must(['tasks', 'rm', id]);
    const events = await box.eventsOf(id);
    await box.remove(id);
    const exec = ['exec-added', 'exec-started', 'exit'];
    assert.deepEqual(topics(events), ['create', 'start', ...exec, ...exec, 'exit', 'delete']);
    return events;
  });

  scenario('say nothing of an exec that could not start', async (box) => {
    const id = await box.start(['sleep', '1000']);
    await box.exec(id, ['/no/such/program'], { flags: ['--exec-id', `x-${box.daemon.marker}`] });
    await box.remove(id);
    const events = await box.eventsOf(id);
    assert.deepEqual(topics(events), ['create', 'start', 'exec-added', 'exit', 'delete']);
    return events;
  });

  scenario('tell of pause and resume', async (box) => {
    const id = await box.start(['sleep', '1000']);
    await box.must(['tasks', 'pause', id]);
    await box.must(['tasks', 'resume', id]);
    await box.remove(id);
    const events = await box.eventsOf(id);
    assert.deepEqual(topics(events), ['create', 'start', 'paused', 'resumed', 'exit', 'delete']);
    return events;
  });

  scenario('carry the stdio paths', async (box) => {
    const log = `file://${join(box.daemon.dir, 'work', `events-${box.runtime.label}.log`)}`;
    const id = box.id();
    await box.must(box.runArgs(id, ['true'], { flags: ['-d', '--log-uri', log] }));
    await box.waitForStatus(id, 'STOPPED');
    await box.remove(id);
    const events = await box.eventsOf(id);
    return topics(events);
  });

  scenario('tell of memory running out, before the exit', async (box) => {
    const id = box.id();
    const flags = ['--rm', '--memory-limit', '16777216'];
    const result = await box.ctr(box.runArgs(id, ['probe', 'hog', '67108864'], { flags }));
    const events = await box.eventsOf(id);
    assert.equal(result.code, 137);
    const order = topics(events);
    assert.deepEqual(
      order.filter((topic) => topic !== 'oom'),
      ['create', 'start', 'exit', 'delete'],
    );
    // The stock shim of 1.6 reports it from another goroutine than the exit: before that, after it,
    // or, as it is about to end, never.
    if (!box.isStock) assert.deepEqual(order, ['create', 'start', 'oom', 'exit', 'delete']);
    return { result, topics: order.filter((topic) => topic !== 'oom') };
  });

  scenario('say nothing when a start fails, except what the daemon cleans up', async (box) => {
    const id = box.id();
    const result = await box.ctr(box.runArgs(id, ['/no/such/program'], { flags: ['--rm'] }));
    assert.equal(result.code, 1);
    await box.ctr(['containers', 'rm', id]);
    await box.events.settle();
    return { result, events: box.normaliseEvents(box.events.of(box.namespace, id)) };
  });
});
