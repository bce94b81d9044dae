import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { restoringWrites } from '../../../../src/cgroups/resources/restore.js';

const ROWS: readonly [file: string, before: string, now: string, writes: string[]][] = [
  ['memory.max', 'max\n', '4096\n', ['max']],
  ['cpu.max', 'max 100000\n', '5000 100000\n', ['max 100000']],
  ['cpuset.cpus', '\n', '0-1\n', ['\n']],
  ['cpuset.cpus', '0-1,3\n', '0\n', ['0-1,3']],
  ['io.max', '', '8:0 rbps=1 wbps=max riops=max wiops=max\n', ['8:0 rbps=max wbps=max riops=max wiops=max']],
  [
    'io.max',
    '8:0 rbps=1 wbps=max riops=max wiops=max\n8:16 rbps=2 wbps=2 riops=2 wiops=2\n',
    '8:16 rbps=2 wbps=2 riops=2 wiops=2\n',
    ['8:0 rbps=1 wbps=max riops=max wiops=max'],
  ],
  ['io.weight', 'default 100\n8:0 50\n', 'default 200\n8:16 60\n', ['8:16 default', 'default 100', '8:0 50']],
  ['io.bfq.weight', '100\n', '200\n', ['100']],
  ['io.latency', '', '8:0 target=100\n', ['8:0 target=max']],
  [
    'rdma.max',
    'mlx5_0 hca_handle=2 hca_object=max\n',
    'mlx5_0 hca_handle=3 hca_object=4\n',
    ['mlx5_0 hca_handle=2 hca_object=max'],
  ],
  ['misc.max', 'a max\nb 5\n', 'a 3\nb 5\n', ['a max']],
  ['memory.oom_control', 'oom_kill_disable 1\nunder_oom 0\noom_kill 3\n', '', ['1']],
  ['net_prio.ifpriomap', 'lo 0\neth0 5\n', 'lo 0\neth0 6\n', ['eth0 5']],
  ['blkio.throttle.read_bps_device', '', '8:0 5\n', ['8:0 0']],
  ['blkio.bfq.weight_device', '', '8:0 500\n', ['8:0 default']],
  ['cgroup.subtree_control', 'cpu io\n', 'io memory\n', ['-memory +cpu']],
  ['cgroup.subtree_control', 'cpu\n', 'cpu\n', []],
  ['cpuset.cpus.partition', 'root invalid (Parent is not a partition root)\n', 'member\n', ['root']],
  ['cgroup.freeze', '0\n', '1\n', ['0']],
  ['cgroup.pressure', '1\n', '0\n', ['1']],
  ['cgroup.procs', '17\n', '', []],
  ['cgroup.kill', '', '', []],
  ['memory.pressure', 'some avg10=0.00\n', '', []],
  ['memory.reclaim', '', '', []],
  ['some.table', 'a 1\nb 2\n', 'a 2\nb 2\n', []],
];

describe('restoringWrites', () => {
  for (const [file, before, now, writes] of ROWS) {
    it(`turns ${file} back to ${JSON.stringify(before)}`, () => {
      assert.deepEqual(
        restoringWrites(file, before, () => now),
        writes,
      );
    });
  }

  it('throws for no file and no content', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.string(), fc.constantFrom(...ROWS.map(([file]) => file))),
        fc.string(),
        fc.string(),
        (file, before, now) => {
          for (const data of restoringWrites(file, before, () => now)) assert.equal(typeof data, 'string');
        },
      ),
    );
  });
});
