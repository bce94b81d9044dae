/** Limits set on real groups of v1, made here and removed again, and what their files show then. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { CgroupFileError, currentLayout } from '../../../src/cgroups/index.js';
import { type Applied, LimitUnavailableError, setV1 } from '../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../src/oci/index.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { TestGroup } from './group.js';
import { assertRow, DISK, HOLD_8_MIB, Limits, MIB, NO_DEVICE, type Row, throttle, title } from './limits.js';

const NAME = `lamina-resources-${process.pid}`;
const CONTROLLERS = ['cpu', 'memory', 'cpuset', 'blkio', 'pids', 'devices', 'hugetlb', 'net_cls', 'net_prio', 'rdma'];
const V1_UNLIMITED = '9223372036854771712';

const V1_ROWS: readonly Row[] = [
  { update: { pids: { limit: 7 } }, shows: { 'pids.max': '7' } },
  { update: { pids: { limit: 0 } }, shows: { 'pids.max': '1' } },
  { update: { pids: { limit: -1 } }, shows: { 'pids.max': 'max' } },
  { update: { memory: { limit: 64 * MIB } }, shows: { 'memory.limit_in_bytes': String(64 * MIB) } },
  { update: { memory: { limit: -1 } }, shows: { 'memory.limit_in_bytes': V1_UNLIMITED } },
  { update: { memory: { reservation: 32 * MIB } }, shows: { 'memory.soft_limit_in_bytes': String(32 * MIB) } },
  {
    update: { memory: { limit: 64 * MIB, swap: 96 * MIB } },
    shows: { 'memory.limit_in_bytes': String(64 * MIB), 'memory.memsw.limit_in_bytes': String(96 * MIB) },
  },
  { update: { memory: { kernelTCP: 16 * MIB } }, shows: { 'memory.kmem.tcp.limit_in_bytes': String(16 * MIB) } },
  { update: { memory: { swappiness: 7 } }, shows: { 'memory.swappiness': '7' } },
  { update: { cpu: { shares: 512 } }, shows: { 'cpu.shares': '512' } },
  {
    update: { cpu: { quota: 5000, period: 50_000 } },
    shows: { 'cpu.cfs_quota_us': '5000', 'cpu.cfs_period_us': '50000' },
  },
  { update: { cpu: { quota: 5000, burst: 2000 } }, shows: { 'cpu.cfs_quota_us': '5000', 'cpu.cfs_burst_us': '2000' } },
  { update: { cpu: { idle: 1 } }, shows: { 'cpu.idle': '1' } },
  {
    update: { cpu: { realtimePeriod: 500_000, realtimeRuntime: 1000 } },
    shows: { 'cpu.rt_period_us': '500000', 'cpu.rt_runtime_us': '1000' },
  },
  { update: { cpu: { cpus: '0', mems: '0' } }, shows: { 'cpuset.cpus': '0', 'cpuset.mems': '0' } },
  { update: { blockIO: { weight: 300 } }, shows: { 'blkio.bfq.weight': '300' } },
  {
    update: { blockIO: { throttleReadBpsDevice: throttle(MIB) } },
    shows: { 'blkio.throttle.read_bps_device': `${DISK} ${MIB}` },
  },
  {
    update: { blockIO: { throttleWriteBpsDevice: throttle(MIB) } },
    shows: { 'blkio.throttle.write_bps_device': `${DISK} ${MIB}` },
  },
  {
    update: { blockIO: { throttleReadIOPSDevice: throttle(100) } },
    shows: { 'blkio.throttle.read_iops_device': `${DISK} 100` },
  },
  {
    update: { blockIO: { throttleWriteIOPSDevice: throttle(100) } },
    shows: { 'blkio.throttle.write_iops_device': `${DISK} 100` },
  },
  {
    update: { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MIB }] },
    shows: { 'hugetlb.2MB.limit_in_bytes': String(4 * MIB) },
  },
  { update: { network: { classID: 1_048_577 } }, shows: { 'net_cls.classid': '1048577' } },
];

const missing = requires({ root: true });
const layout = missing === false ? currentLayout() : undefined;
const mounts = layout === undefined || layout.mode === 'unified' ? new Map() : layout.controllers;
const v1Dirs = new Map(
  CONTROLLERS.flatMap((name) => (mounts.has(name) ? [[name, `${mounts.get(name).mountPoint}/${NAME}`] as const] : [])),
);
const noV1 = mounts.size === 0 && 'no v1 controllers are mounted';

describe('limits on v1', { skip: missing === false ? noV1 : missing }, () => {
  let group: TestGroup;
  const limits = new Limits([...v1Dirs.values()]);
  const present = missing === false ? Limits.probe(limits.dirs) : new Set<string>();
  const lacks = (...files: string[]) => Limits.lacks(present, ...files);

  function set(update: LinuxResources, saved: LinuxResources = {}): Promise<Applied> {
    return setV1(v1Dirs, saved, update);
  }

  beforeEach(() => {
    group = new TestGroup([...new Set(v1Dirs.values())]);
  });
  afterEach(() => group.remove());

  for (const row of V1_ROWS) {
    it(`sets ${title(row)}, and takes it back`, { skip: lacks(...Object.keys(row.shows)) }, async () => {
      await assertRow(limits, row, () => set(row.update));
    });
  }

  it('moves memory and swap together, up and down', async () => {
    let saved: LinuxResources = {};
    for (const [limit, swap] of [
      [64, 96],
      [128, 256],
      [200, 220],
      [16, 32],
      [32, 32],
    ] as const) {
      saved = (await set({ memory: { limit: limit * MIB, swap: swap * MIB } }, saved)).resources;
      assert.equal(limits.read('memory.limit_in_bytes'), String(limit * MIB));
      assert.equal(limits.read('memory.memsw.limit_in_bytes'), String(swap * MIB));
    }
    await set({ memory: { limit: -1 } }, saved);
    assert.equal(limits.read('memory.memsw.limit_in_bytes'), V1_UNLIMITED);
  });

  it('refuses a limit below what is in use, saying how much that is, and puts everything back', async () => {
    // A cpuset has to have both before a process can enter.
    if (present.has('cpuset.cpus')) await set({ cpu: { cpus: '0', mems: '0' } });
    await group.run(HOLD_8_MIB);
    await until('8 MiB in use', () => Number(limits.read('memory.usage_in_bytes')) > 8 * MIB);
    const before = limits.all();
    await assert.rejects(
      set({ pids: { limit: 7 }, cpu: { shares: 2 }, memory: { reservation: MIB, limit: MIB } }),
      (error) =>
        error instanceof CgroupFileError &&
        error.errno === 'EBUSY' &&
        error.data === String(MIB) &&
        /memory\.limit_in_bytes.*usage \d{7,}, peak \d{7,}/.test(error.message),
    );
    assert.deepEqual(limits.all(), before);
  });

  it('puts everything back when the last file is refused', async () => {
    const saved = await set({
      blockIO: { throttleReadBpsDevice: throttle(5), weight: 200 },
      cpu: { idle: 0, shares: 100 },
      memory: { disableOOMKiller: true },
    });
    const before = limits.all();
    const update: LinuxResources = {
      pids: { limit: 7 },
      memory: { limit: 64 * MIB, swap: 64 * MIB, swappiness: 3, disableOOMKiller: false },
      blockIO: { weight: 300, throttleReadBpsDevice: throttle(0), throttleWriteBpsDevice: throttle(9) },
      cpu: { quota: 5000, burst: 1000, idle: 1, cpus: '1000' },
    };
    await assert.rejects(
      set(update, saved.resources),
      (error) => error instanceof CgroupFileError && /cpuset\.cpus "1000"/.test(error.message),
    );
    assert.deepEqual(limits.all(), before);
  });

  it('raises quota and burst together, and lowers them', async () => {
    await set({ cpu: { quota: 5000, period: 100_000 } });
    await set({ cpu: { quota: 80_000, burst: 60_000 } });
    assert.equal(limits.read('cpu.cfs_burst_us'), '60000');
    await set({ cpu: { quota: 5000, burst: 1000 } });
    assert.equal(limits.read('cpu.cfs_quota_us'), '5000');
    await assert.rejects(set({ cpu: { burst: 6000 } }), { errno: 'EINVAL' });
  });

  it('lowers a period that only the new quota allows', async () => {
    // A parent with half a CPU: 50/100 ms. 40 ms of 50 would be more than that.
    const cpu = v1Dirs.get('cpu') as string;
    await setV1(new Map([['cpu', cpu]]), {}, { cpu: { quota: 50_000, period: 100_000 } });
    fs.mkdirSync(`${cpu}/below`);
    const below = new Map([['cpu', `${cpu}/below`]]);
    await setV1(below, {}, { cpu: { quota: 40_000, period: 100_000 } });
    await setV1(below, {}, { cpu: { quota: 20_000, period: 50_000 } });
    assert.equal(fs.readFileSync(`${cpu}/below/cpu.cfs_period_us`, 'utf8'), '50000\n');
  });

  it('allows and denies devices, and takes that back', async () => {
    const devices = [
      { allow: false },
      { allow: true, type: 'c', major: 1, minor: 3, access: 'rw' },
      { allow: true, type: 'b', major: 8 },
    ];
    const list = limits.read('devices.list');
    const applied = await setV1(v1Dirs, {}, { devices }, { devices: true });
    assert.equal(limits.read('devices.list'), 'c 1:3 rw\nb 8:* rwm');
    const more = await setV1(
      v1Dirs,
      {},
      {
        devices: [
          { allow: true, type: 'c', major: 1, minor: 3 },
          { allow: false, type: 'b', major: 8, access: 'w' },
        ],
      },
      { devices: true },
    );
    assert.equal(limits.read('devices.list'), 'c 1:3 rwm\nb 8:* rm');
    await more.undo();
    assert.equal(limits.read('devices.list'), 'c 1:3 rw\nb 8:* rwm');
    await applied.undo();
    assert.equal(limits.read('devices.list'), list);
  });

  it('says that there is no such device', { skip: lacks('blkio.throttle.read_bps_device') }, async () => {
    await assert.rejects(
      set({ blockIO: { throttleReadBpsDevice: [{ ...NO_DEVICE, rate: 5 }] } }),
      (error) => error instanceof LimitUnavailableError && error.errno === 'ENODEV',
    );
  });
});
