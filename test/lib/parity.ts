/**
 * Suites of scenarios that run with the stock shim and with Lamina's, on one private containerd.
 *
 * A scenario checks what it must, and returns what it saw: output, errors, exit codes, events. What
 * it returns must be the same for both runtimes. The last test of each suite stops the daemon and
 * looks for anything left behind.
 */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Box, type Runtime, testRuntimes } from './box.js';
import { Containerd, type ContainerdOptions } from './containerd.js';
import { EventLog } from './events.js';
import { Leaks } from './leaks.js';
import { requires } from './requires.js';
import { LATE_MS } from './wait.js';

export type Scenario = (box: Box) => Promise<unknown>;

export interface ScenarioOptions {
  /** Why what the two runtimes show is not compared; each is still checked by itself. */
  readonly differs?: string;
  readonly skip?: string | false;
  /** Runs only with this runtime. */
  readonly only?: Runtime['label'];
  /** Default: time for any one wait to fail, and say what for. */
  readonly timeoutMs?: number;
}

export interface Suite {
  scenario(title: string, run: Scenario, options?: ScenarioOptions): void;
}

function comparable(box: Box, value: unknown): unknown {
  return value === undefined ? undefined : JSON.parse(box.normalise(JSON.stringify(value)));
}

/** Everything one suite shares; made before its first test. */
interface Stage {
  readonly daemon: Containerd;
  readonly leaks: Leaks;
  readonly events: EventLog;
  readonly boxes: ReadonlyMap<Runtime, Box>;
}

async function prepare(runtimes: readonly Runtime[], options: ContainerdOptions): Promise<Stage> {
  const daemon = await Containerd.start(options);
  try {
    return await prepareWith(daemon, runtimes);
  } catch (error) {
    await daemon.stop();
    daemon.removeFolder();
    throw error;
  }
}

async function prepareWith(daemon: Containerd, runtimes: readonly Runtime[]): Promise<Stage> {
  const events = await EventLog.start(daemon);
  const boxes = new Map<Runtime, Box>();
  for (const runtime of runtimes) {
    const namespace = await daemon.namespace(runtime.label);
    const snapshotter = await daemon.snapshotter();
    boxes.set(runtime, new Box(runtime, daemon, { namespace, events, snapshotter }));
  }
  return { daemon, leaks: new Leaks(daemon), events, boxes };
}

/**
 * Runs one scenario; on failure the daemon's log is shown; a container left behind is a failure.
 */
async function play(stage: Stage, box: Box, run: Scenario): Promise<unknown> {
  try {
    const seen = comparable(box, await run(box));
    const left = await box.removeAll();
    assert.deepEqual(left, [], 'the scenario leaves containers behind');
    return seen;
  } catch (error) {
    await box.removeAll().catch(() => undefined);
    console.error(`--- containerd's log, last lines ---\n${stage.daemon.logTail()}\n---`);
    throw error;
  }
}

/** Declares a suite; `declare` adds its scenarios. */
export function shimSuite(title: string, declare: (suite: Suite) => void, options: ContainerdOptions = {}): void {
  const skip = requires({ root: true, runc: '1.1', containerd: '1.6', programs: ['ctr', 'script'] });
  describe(title, { skip }, () => {
    const runtimes = testRuntimes();
    const usable = runtimes.filter((runtime) => runtime.skip === false);
    let stage: Stage | undefined;

    // Told to end, by the runner's time limit or by Ctrl-C: take everything along.
    const end = (): void => {
      stage?.leaks.sweep();
      stage?.daemon.removeFolder();
      process.exit(1);
    };

    before(async () => {
      stage = await prepare(usable, options);
      // not once: a second signal, to the whole process group say, must not end this half way
      process.on('SIGTERM', end).on('SIGINT', end);
    });

    const scenario = (name: string, run: Scenario, settings: ScenarioOptions = {}): void => {
      const seen = new Map<string, unknown>();
      const mine = runtimes.filter((runtime) => settings.only === undefined || settings.only === runtime.label);
      for (const runtime of mine) {
        const timeout = settings.timeoutMs ?? 3 * LATE_MS;
        it(`${name} [${runtime.label}]`, { skip: settings.skip || runtime.skip, timeout }, async () => {
          const box = stage?.boxes.get(runtime);
          assert.ok(stage !== undefined && box !== undefined);
          seen.set(runtime.label, await play(stage, box, run));
        });
      }
      const reason = settings.skip || mine.find((runtime) => runtime.skip !== false)?.skip || false;
      if (mine.length < 2 || settings.differs !== undefined) return;
      it(`${name} [same]`, { skip: reason }, () => {
        assert.equal(seen.size, 2, 'the scenario has failed with one of the runtimes');
        assert.deepEqual(seen.get('lamina'), seen.get('stock'));
      });
    };
    declare({ scenario });

    it('leaves nothing behind', async () => {
      assert.ok(stage !== undefined);
      await stage.events.stop();
      await stage.daemon.stop();
      await stage.leaks.check();
    });

    after(async () => {
      if (stage === undefined) return;
      await stage.events.stop();
      await stage.daemon.stop();
      stage.leaks.find();
      stage.leaks.sweep();
      stage.daemon.removeFolder();
      process.off('SIGTERM', end).off('SIGINT', end);
    });
  });
}
