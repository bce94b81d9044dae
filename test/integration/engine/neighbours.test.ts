import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Box, LAMINA } from '../../lib/box.js';
import { Containerd } from '../../lib/containerd.js';
import { EventLog } from '../../lib/events.js';
import { Leaks } from '../../lib/leaks.js';
import { isAlive, terminate } from '../../lib/proc.js';
import { engines, keeperOf, stateDir, theEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';

const skip = requires({ root: true, runc: '1.1', containerd: '1.6', programs: ['ctr'] }) || LAMINA.skip;

const WAIT_FOR_TERM = (code: number): string[] => [
  'sh',
  '-c',
  `trap "exit ${code}" TERM; while :; do sleep 0.05; done`,
];

/** One daemon of several on the node. */
interface Neighbour {
  readonly daemon: Containerd;
  readonly leaks: Leaks;
  readonly events: EventLog;
}

async function moveIn(sharedWith?: Containerd): Promise<Neighbour> {
  const daemon = await Containerd.start();
  const leaks = new Leaks(daemon);
  if (sharedWith !== undefined) {
    for (const name of ['LAMINA_STATE_DIR', 'LAMINA_CONFIG']) daemon.env[name] = sharedWith.env[name];
    await daemon.restart();
  }
  return { daemon, leaks, events: await EventLog.start(daemon) };
}

async function moveOut({ daemon, leaks, events }: Neighbour): Promise<void> {
  await events.stop();
  await daemon.stop();
  leaks.find();
  leaks.sweep();
}

async function boxIn({ daemon, events }: Neighbour, name: string): Promise<Box> {
  const namespace = await daemon.namespace(name);
  return new Box(LAMINA, daemon, { namespace, events, snapshotter: await daemon.snapshotter() });
}

/** Starts a container with a name that others use too. */
async function startAs(box: Box, id: string, argv: readonly string[]): Promise<void> {
  box.daemon.track(box.namespace, id);
  await box.must(box.runArgs(id, argv, { flags: ['-d', '--null-io'] }));
}

/** Kills the container and tells its whole story, as the events of its own daemon have it. */
async function end(box: Box, id: string): Promise<string[]> {
  await box.terminate(id);
  await box.must(['tasks', 'rm', id]);
  await box.must(['containers', 'rm', id]);
  const events = await box.events.waitFor({ namespace: box.namespace, id }, '/tasks/delete');
  return events.map(({ topic, fields }) => {
    const name = topic.replace('/tasks/', '');
    return name === 'exit' ? `exit:init=${fields['exit_status'] ?? 0}` : name;
  });
}

for (const shared of [true, false]) {
  describe(`two daemons with ${shared ? 'one engine' : 'an engine each'}`, { skip }, () => {
    let first: Neighbour;
    let second: Neighbour;
    let boxes: Box[];

    before(async () => {
      first = await moveIn();
      second = await moveIn(shared ? first.daemon : undefined);
      boxes = [await boxIn(first, 'x'), await boxIn(first, 'y'), await boxIn(second, 'x'), await boxIn(second, 'y')];
    });

    after(async () => {
      await moveOut(first);
      await moveOut(second);
      first.daemon.removeFolder();
      second.daemon.removeFolder();
    });

    it('shares engines as the state directory says', async () => {
      const ids = [];
      for (const box of boxes) ids.push(await box.start(['sleep', '1000']));
      const [own, other] = [await theEngine(first.daemon), await theEngine(second.daemon)];
      assert.equal(own === other, shared);
      assert.equal(stateDir(first.daemon) === stateDir(second.daemon), shared);
      for (const [index, box] of boxes.entries()) await box.remove(ids[index] ?? '');
    });

    it('keeps containers of the same name apart: output, pids, exits, events', async () => {
      const id = `same-${first.daemon.marker}`;
      await Promise.all(boxes.map((box, index) => startAs(box, id, WAIT_FOR_TERM(10 + index))));
      const pids = await Promise.all(boxes.map((box) => box.pidOf(id)));
      assert.equal(new Set(pids).size, boxes.length);
      const execs = await Promise.all(
        boxes.map((box) => box.exec(id, ['sh', '-c', `echo ${box.namespace}; hostname`])),
      );
      for (const [index, { stdout }] of execs.entries()) assert.equal(stdout.split('\n')[0], boxes[index]?.namespace);

      for (const [index, box] of boxes.entries()) {
        assert.deepEqual(await end(box, id), [
          'create',
          'start',
          'exec-added',
          'exec-started',
          'exit:init=0',
          `exit:init=${10 + index}`,
          'delete',
        ]);
        const others = boxes.slice(index + 1);
        for (const other of others)
          assert.equal(await other.status(id), 'RUNNING', `killed with that of ${box.namespace}`);
      }
      for (const [index, box] of boxes.entries()) {
        const exits = box.events.all().filter((event) => event.fields['id'] === id && event.topic === '/tasks/exit');
        const own = exits.filter((event) => event.namespace === box.namespace);
        assert.deepEqual(
          own.map((event) => event.fields['pid']),
          [pids[index]],
        );
      }
    });

    it('runs many of the same name at once, each with its own exit code', async () => {
      const codes = await Promise.all(
        boxes.map(async (box, index) => {
          const seen: number[] = [];
          for (let round = 0; round < 4; round += 1) {
            const id = `again${round}-${first.daemon.marker}`;
            box.daemon.track(box.namespace, id);
            const code = 40 + 10 * index + round;
            const result = await box.ctr(
              box.runArgs(id, ['sh', '-c', `echo ${code}; exit ${code}`], { flags: ['--rm'] }),
            );
            assert.equal(result.stdout, `${code}\n`);
            seen.push(result.code - round);
          }
          return seen;
        }),
      );
      assert.deepEqual(
        codes,
        boxes.map((_, index) => Array.from({ length: 4 }, () => 40 + 10 * index)),
      );
    });

    it('lets one daemon die without disturbing the other, and find its own again', async () => {
      const [box, , neighbour] = boxes;
      assert.ok(box !== undefined && neighbour !== undefined);
      const id = `stays-${first.daemon.marker}`;
      await startAs(box, id, WAIT_FOR_TERM(21));
      await startAs(neighbour, id, WAIT_FOR_TERM(22));
      const keeper = await keeperOf(neighbour, id);
      const pid = await box.pidOf(id);
      const { command, id: talking } = neighbour.spawnRun(['sh', '-c', 'echo up; read x; echo "[$x]"; exit 23']);
      await command.output(/up\n/);

      await box.daemon.killHard();
      const result = await neighbour.run(['sh', '-c', 'echo meanwhile; exit 24']);
      assert.deepEqual(result, { stdout: 'meanwhile\n', stderr: '', code: 24 });
      assert.equal((await neighbour.exec(id, ['echo', 'x'])).stdout, 'x\n');
      command.write('still\n');
      assert.deepEqual(await command.result(), { stdout: 'up\n[still]\n', stderr: '', code: 23 });
      assert.equal(await keeperOf(neighbour, id), keeper);
      const talked = await neighbour.events.waitFor({ namespace: neighbour.namespace, id: talking }, '/tasks/delete');
      assert.deepEqual(
        talked.map(({ topic }) => topic.replace('/tasks/', '')),
        ['create', 'start', 'exit', 'delete'],
      );
      assert.ok(isAlive(pid));

      await box.daemon.restart();
      await box.events.resubscribe();
      assert.equal(await box.status(id), 'RUNNING');
      assert.deepEqual((await end(box, id)).slice(-2), ['exit:init=21', 'delete']);
      assert.deepEqual((await end(neighbour, id)).slice(-2), ['exit:init=22', 'delete']);
    });

    it('has events of a container wait for its own daemon only', async () => {
      const [box, , neighbour] = boxes;
      assert.ok(box !== undefined && neighbour !== undefined);
      const id = `waits-${first.daemon.marker}`;
      await startAs(box, id, WAIT_FOR_TERM(31));
      const pid = await box.pidOf(id);
      await box.daemon.killHard();
      await terminate(pid);
      assert.equal((await neighbour.run(['true'])).code, 0);
      await box.daemon.restart();
      await box.events.resubscribe();
      await box.waitForStatus(id, 'STOPPED');
      await box.must(['tasks', 'rm', id]);
      await box.must(['containers', 'rm', id]);
      assert.equal(neighbour.events.of(box.namespace, id).length, 0);
      const events = await box.events.waitFor({ namespace: box.namespace, id }, '/tasks/delete');
      assert.equal(events.findLast(({ topic }) => topic === '/tasks/delete')?.fields['exit_status'], 31);
    });

    it('leaves nothing behind', async () => {
      for (const { events, daemon } of [first, second]) {
        await events.stop();
        await daemon.stop();
      }
      await first.leaks.check();
      await second.leaks.check();
      assert.deepEqual([...engines(first.daemon), ...engines(second.daemon)], []);
    });
  });
}
