import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { cgroupsV1, cgroupsV2, unpackMessage } from '../../../src/api/index.js';
import { Cgroup } from '../../../src/cgroups/index.js';
import { packMetrics } from '../../../src/shim/metrics.js';
import { FakeHierarchy } from './fake.js';

describe('packMetrics', () => {
  it('sends v2 statistics whole, under the bare name', () => {
    using fake = new FakeHierarchy();
    fake.write({
      'web/cgroup.controllers': '',
      'web/pids.max': 'max\n',
      'web/cpu.pressure': 'some avg10=1.50 avg60=0.00 avg300=0.00 total=9\n',
      'web/io.stat': '8:0 rbytes=1 wbytes=2 rios=3 wios=4\n',
      'web/memory.events': 'oom_kill 2\n',
    });
    using cgroup = Cgroup.load('/web', { layout: fake.unified });
    const stats = cgroup.stats();
    const any = packMetrics(stats);
    assert.equal(any.typeUrl, 'io.containerd.cgroups.v2.Metrics');
    const { version, ...fields } = stats;
    assert.equal(version, 2);
    assert.deepEqual(unpackMessage(cgroupsV2.Metrics, any), { ...fields, network: [] });
  });

  it('sends v1 statistics whole, under the bare name', () => {
    using fake = new FakeHierarchy();
    fake.write({
      'memory/web/memory.stat': 'rss 5\n',
      'cpuacct/web/cpuacct.usage_percpu': '1 2\n',
      'blkio/web/blkio.throttle.io_serviced': '8:0 Read 1\n',
    });
    using cgroup = Cgroup.load('/web', { layout: fake.legacy('memory', 'cpuacct', 'blkio') });
    const stats = cgroup.stats();
    const any = packMetrics(stats);
    assert.equal(any.typeUrl, 'io.containerd.cgroups.v1.Metrics');
    const { version, ...fields } = stats;
    assert.equal(version, 1);
    assert.deepEqual(unpackMessage(cgroupsV1.Metrics, any), { ...fields, network: [], cgroupStats: undefined });
  });
});
