/**
 * The engine runs out of memory: of its control group's, so that the kernel kills it, and of V8's
 * heap, so that it aborts.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FaultyAddon } from '../../faults/faulty-addon.js';
import { Bustle } from '../../lib/bustle.js';
import { shimSuite } from '../../lib/parity.js';
import { isAlive } from '../../lib/proc.js';
import { engineLog, theEngine } from '../../lib/processes.js';
import { cgroupMode } from '../../lib/requires.js';
import { laminaOnly } from '../../lib/survive.js';
import { until } from '../../lib/wait.js';

const LIMIT = 48 << 20;
const HEAP_MB = 48;

const addon = new FaultyAddon();
const folder = mkdtempSync(join(tmpdir(), 'lamina-oom-'));
const smallNode = join(folder, 'node');
// What an administrator does who wants the engine to have less.
writeFileSync(smallNode, `#!/bin/sh\nexec ${process.execPath} --max-old-space-size=${HEAP_MB} "$@"\n`, { mode: 0o755 });
// Not `after`: an interrupted run ends without.
process.on('exit', () => {
  addon.remove();
  rmSync(folder, { recursive: true, force: true });
});

/** A control group of our own with little memory. */
class TightGroup {
  readonly #dir: string;
  readonly #isV2 = cgroupMode() === 'v2';

  constructor(name: string) {
    const root = this.#isV2 ? '/sys/fs/cgroup' : '/sys/fs/cgroup/memory';
    this.#dir = join(root, name);
    mkdirSync(this.#dir);
    if (this.#isV2) writeFileSync(join(root, 'cgroup.subtree_control'), '+memory');
    writeFileSync(join(this.#dir, this.#isV2 ? 'memory.max' : 'memory.limit_in_bytes'), String(LIMIT));
  }

  add(pid: number): void {
    writeFileSync(join(this.#dir, 'cgroup.procs'), String(pid));
  }

  /** Processes that the kernel has killed for want of memory. */
  get kills(): number {
    const text = readFileSync(join(this.#dir, this.#isV2 ? 'memory.events' : 'memory.oom_control'), 'utf8');
    return Number(/^oom_kill (\d+)$/m.exec(text)?.[1]);
  }

  remove(): void {
    rmdirSync(this.#dir);
  }
}

shimSuite(
  'the engine has no memory left',
  (suite) => {
    const scenario = laminaOnly(suite, { timeoutMs: 120_000 });

    scenario('in its control group: it is killed, and nobody notices', async (box) => {
      const bustle = await Bustle.begin(box);
      const engine = await theEngine(box.daemon);
      const group = new TightGroup(`${box.daemon.marker}-engine`);
      try {
        group.add(engine);
        addon.arm(3, 'hoard');
        await Promise.all([bustle.goesOn(), until('it is killed', () => group.kills > 0)]);
        assert.equal(group.kills, 1);
        assert.notEqual(await theEngine(box.daemon), engine);
      } finally {
        await until('the group is empty', () => !isAlive(engine)).catch(() => process.kill(engine, 'SIGKILL'));
        group.remove();
      }
      await bustle.finish();
    });

    scenario("in V8's heap: it aborts and says why, and nobody notices", async (box) => {
      const bustle = await Bustle.begin(box);
      const engine = await theEngine(box.daemon);
      addon.arm(3, 'heap');
      await Promise.all([bustle.goesOn(), until('it is gone', () => !isAlive(engine))]);
      assert.match(engineLog(box.daemon), /heap out of memory|heap limit/);
      await bustle.finish();
    });
  },
  { env: { LAMINA_ADDON: addon.path, LAMINA_NODE: smallNode } },
);
