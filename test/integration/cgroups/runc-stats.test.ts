/** Our statistics in runc's shape against those of the real runc, for the same container. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Cgroup, runcStatsLine } from '../../../src/cgroups/index.js';
import { withArgs, withMemoryLimit } from '../../../src/oci/index.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { OciFixture } from '../oci/fixture.js';

/** Averages go down while nothing happens; what they are made of stays. */
function withoutAverages(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value, (key, each) => (key.startsWith('avg') ? undefined : each)));
}

describe('runc’s statistics', { skip: requires({ root: true, runc: '1.1', programs: ['busybox'] }) }, () => {
  let fixture: OciFixture;

  beforeEach(() => {
    fixture = new OciFixture();
  });

  afterEach(async () => {
    assert.deepEqual(await fixture.close(), []);
  });

  it('are the same as ours, field by field', async () => {
    const runc = fixture.runc();
    const work =
      'i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; cat /bin/busybox >/dev/null; echo x >/tmp/file; echo done';
    fixture.configure(withArgs('sh', '-c', `${work}; exec sleep 1000`), withMemoryLimit(64 << 20));
    const pid = await runc.create('c', { bundle: fixture.bundle });
    using cgroup = Cgroup.loadFromPid(pid);
    await runc.start('c');
    await cgroup.set({ pids: { limit: 100 }, cpu: { quota: 50_000, period: 100_000 } });
    const total = (): bigint => {
      const stats = cgroup.stats();
      return stats.version === 2 ? stats.cpu.usageUsec : stats.cpu.usage.total;
    };
    await until('some work', () => total() > 0n);
    await cgroup.freeze();
    // Nothing runs any more; a period that was under way is still counted at its end.
    const { ours, theirs } = await until('the same twice', async () => {
      const before = runcStatsLine('c', cgroup.stats({ raw: true }));
      const theirs = await runc.events('c');
      const ours = runcStatsLine('c', cgroup.stats({ raw: true }));
      return before === ours && { ours, theirs };
    });
    await cgroup.thaw();
    await runc.kill('c', 9);
    await fixture.ended(pid);
    await runc.delete('c');
    assert.deepEqual(withoutAverages(JSON.parse(ours)), withoutAverages(theirs));
    assert.deepEqual(Object.keys(JSON.parse(ours).data), Object.keys((theirs as { data: object }).data));
    assert.match(ours, /"pids":\{"current":\d+,"limit":100\}/);
  });
});
