/** A time limit counts only the time in which what it limits was allowed to run. */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { Code } from '../../../src/base/index.js';
import { LAMINA } from '../../lib/box.js';
import { groupsOf } from '../../lib/leftovers.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, failureOf, killAndDelete, shutdown } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';
import { FaultyRuntime } from './faulty-runtime.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;
const RUNTIME_MS = 3_000;
/**
 * Is held until the test says so, and then goes on as one that has found the container running a
 * moment before.
 */
const HELD = [
  'touch "$dir/held"; while [ ! -e "$dir/go" ]; do sleep 0.02; done',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: bash
  'all=(); for word in "${args[@]}"; do all+=("$word"); [ "$word" = exec ] && all+=(--ignore-paused); done',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: bash
  'args=("${all[@]}"); real',
].join('\n');

describe('the time limit of a runtime', { skip }, () => {
  let daemon: FakeDaemon;
  let runtime: FaultyRuntime;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    const timeouts = `runtime_ms = ${RUNTIME_MS}\nengine_idle_ms = 1000\nkeeper_idle_ms = 5000\n`;
    writeFileSync(join(daemon.dir, 'lamina.toml'), `[timeouts]\n${timeouts}`);
    runtime = new FaultyRuntime(daemon);
  });
  after(() => daemon.stop());

  const running = async (): Promise<ShimHandle> => {
    for (const name of ['held', 'go']) runtime.remove(name);
    runtime.on('exec', HELD);
    const shim = await daemon.launch({ args: ['/bin/sleep', '1000'] });
    await daemon.create(shim, { options: runtime.options });
    await shim.task.start({ id: shim.id, execId: '' });
    return shim;
  };

  /** Freezes or thaws a container behind the shim's back. */
  const setFrozen = async (id: string, frozen: boolean): Promise<void> => {
    for (const group of await groupsOf(id)) {
      const v1 = join(group, 'freezer.state');
      const v2 = join(group, 'cgroup.freeze');
      if (existsSync(v1)) writeFileSync(v1, frozen ? 'FROZEN' : 'THAWED');
      else if (existsSync(v2)) writeFileSync(v2, frozen ? '1' : '0');
    }
  };

  for (const terminal of [false, true]) {
    it(`stands still while the container is paused${terminal ? ', with a terminal' : ''}`, async () => {
      const shim = await running();
      await addExec(shim, 'x', ['/bin/sh', '-c', 'exit 5'], { terminal });
      const started = shim.task.start({ id: shim.id, execId: 'x' });
      await until('runc exec is to be run', () => runtime.has('held'));
      await shim.task.pause({ id: shim.id });
      runtime.touch('go');
      // The time itself is what is tested.
      await delay(2 * RUNTIME_MS);
      await shim.task.resume({ id: shim.id });
      assert.ok((await started).pid > 0);
      assert.equal((await shim.task.wait({ id: shim.id, execId: 'x' })).exitStatus, 5);
      await killAndDelete(shim);
      await shutdown(shim);
    });
  }

  it('stands still while somebody else has frozen it', async () => {
    const shim = await running();
    await setFrozen(shim.id, true);
    await addExec(shim, 'x', ['/bin/sh', '-c', 'exit 5']);
    runtime.touch('go');
    const started = shim.task.start({ id: shim.id, execId: 'x' });
    await until('runc exec is run', () => runtime.has('held'));
    await delay(2 * RUNTIME_MS);
    await setFrozen(shim.id, false);
    assert.ok((await started).pid > 0);
    assert.equal((await shim.task.wait({ id: shim.id, execId: 'x' })).exitStatus, 5);
    await killAndDelete(shim);
    await shutdown(shim);
  });

  it('goes on when the container does: a runtime that hangs is killed', async () => {
    const shim = await running();
    await addExec(shim, 'x', ['/bin/true']);
    const started = failureOf(shim.task.start({ id: shim.id, execId: 'x' }));
    await until('runc exec is to be run', () => runtime.has('held'));
    await shim.task.pause({ id: shim.id });
    await shim.task.resume({ id: shim.id });
    const { code, message } = await started;
    assert.equal(code, Code.DeadlineExceeded, message);
    await killAndDelete(shim);
    await shutdown(shim);
  });
});
