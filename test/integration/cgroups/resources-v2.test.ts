/** Limits set on real groups of v2, made here and removed again, and what their files show then. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Cgroup, CgroupFileError, currentLayout } from '../../../src/cgroups/index.js';
import { type Applied, LimitUnavailableError, ResourceError, setV2 } from '../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../src/oci/index.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { TestGroup } from './group.js';
import { assertRow, DISK, HOLD_8_MIB, Limits, MIB, NO_DEVICE, type Row, throttle, title } from './limits.js';

const NAME = `lamina-resources-${process.pid}`;

const V2_ROWS: readonly Row[] = [
  { update: { pids: { limit: 7 } }, shows: { 'pids.max': '7' } },
  { update: { pids: { limit: 0 } }, shows: { 'pids.max': '1' } },
  { update: { pids: { limit: -1 } }, shows: { 'pids.max': 'max' } },
  { update: { memory: { limit: 64 * MIB } }, shows: { 'memory.max': String(64 * MIB) } },
  { update: { memory: { limit: -1 } }, shows: { 'memory.max': 'max' } },
  { update: { memory: { reservation: 32 * MIB } }, shows: { 'memory.low': String(32 * MIB) } },
  { update: { memory: { reservation: -1 } }, shows: { 'memory.low': 'max' } },
  {
    update: { memory: { limit: 52_428_800, swap: 96_468_992 } },
    shows: { 'memory.max': '52428800', 'memory.swap.max': '44040192' },
  },
  { update: { memory: { limit: 64 * MIB, swap: 64 * MIB } }, shows: { 'memory.swap.max': '0' } },
  { update: { memory: { limit: 64 * MIB, swap: -1 } }, shows: { 'memory.swap.max': 'max' } },
  { update: { cpu: { shares: 1024 } }, shows: { 'cpu.weight': '100' } },
  { update: { cpu: { shares: 2 } }, shows: { 'cpu.weight': '1' } },
  { update: { cpu: { shares: 262_144 } }, shows: { 'cpu.weight': '10000' } },
  { update: { cpu: { quota: 5000 } }, shows: { 'cpu.max': '5000 100000' } },
  { update: { cpu: { quota: 5000, period: 50_000 } }, shows: { 'cpu.max': '5000 50000' } },
  { update: { cpu: { period: 50_000 } }, shows: { 'cpu.max': 'max 50000' } },
  { update: { cpu: { quota: 5000, burst: 2000 } }, shows: { 'cpu.max': '5000 100000', 'cpu.max.burst': '2000' } },
  { update: { cpu: { idle: 1 } }, shows: { 'cpu.idle': '1' } },
  { update: { cpu: { cpus: '0', mems: '0' } }, shows: { 'cpuset.cpus': '0', 'cpuset.mems': '0' } },
  { update: { blockIO: { weight: 750 } }, shows: { 'io.weight': 'default 7475' } },
  { update: { blockIO: { weight: 750 } }, shows: { 'io.bfq.weight': 'default 750' } },
  {
    update: { blockIO: { throttleReadBpsDevice: throttle(MIB) } },
    shows: { 'io.max': `${DISK} rbps=${MIB} wbps=max riops=max wiops=max` },
  },
  {
    update: {
      blockIO: {
        throttleWriteBpsDevice: throttle(MIB),
        throttleReadIOPSDevice: throttle(7),
        throttleWriteIOPSDevice: throttle(8),
      },
    },
    shows: { 'io.max': `${DISK} rbps=max wbps=${MIB} riops=7 wiops=8` },
  },
  {
    update: { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MIB }] },
    shows: { 'hugetlb.2MB.max': String(4 * MIB), 'hugetlb.2MB.rsvd.max': String(4 * MIB) },
  },
  {
    update: {
      unified: { 'memory.min': '131072', 'memory.low': '524288', 'memory.high': '20971520', 'memory.max': '41943040' },
    },
    shows: { 'memory.min': '131072', 'memory.low': '524288', 'memory.high': '20971520', 'memory.max': '41943040' },
  },
  {
    update: { memory: { limit: 64 * MIB }, unified: { 'memory.max': String(32 * MIB), 'memory.oom.group': '1' } },
    shows: { 'memory.max': String(32 * MIB), 'memory.oom.group': '1' },
  },
  {
    update: { unified: { 'cpu.max.burst': '20000', 'cpu.max': '50000 100000', 'cpu.weight': '42', 'pids.max': '99' } },
    shows: { 'cpu.max': '50000 100000', 'cpu.max.burst': '20000', 'cpu.weight': '42', 'pids.max': '99' },
  },
];

const missing = requires({ root: true });
const layout = missing === false ? currentLayout() : undefined;
const mount = layout?.mode === 'unified' ? layout.unified : undefined;
const noV2 = mount === undefined && 'v2 has no controllers here';

describe('limits on v2', { skip: missing === false ? noV2 : missing }, () => {
  const dir = `${mount?.mountPoint}/${NAME}`;
  const limits = new Limits([dir]);
  const enableControllers = (): void => {
    using cgroup = Cgroup.load(`/${NAME}`);
    cgroup.enableControllersAlongPath();
  };
  const present =
    missing === false && noV2 === false ? Limits.probe(limits.dirs, enableControllers) : new Set<string>();
  const lacks = (...files: string[]) => Limits.lacks(present, ...files);
  let group: TestGroup;

  function set(update: LinuxResources, saved: LinuxResources = {}): Promise<Applied> {
    return setV2(dir, saved, update);
  }

  beforeEach(() => {
    group = new TestGroup([dir]);
    enableControllers();
  });
  afterEach(() => group.remove());

  for (const row of V2_ROWS) {
    it(`sets ${title(row)}, and takes it back`, { skip: lacks(...Object.keys(row.shows)) }, async () => {
      await assertRow(limits, row, () => set(row.update));
    });
  }

  it('keeps what an update does not name, and takes from it what it needs', async () => {
    let saved: LinuxResources = {};
    const update = async (changes: LinuxResources, shows: Readonly<Record<string, string>>): Promise<void> => {
      saved = (await set(changes, saved)).resources;
      for (const [file, content] of Object.entries(shows))
        assert.equal(limits.read(file), content, `${file} after ${JSON.stringify(changes)}`);
    };
    await update(
      { cpu: { quota: 500_000, period: 1_000_000, shares: 100 }, pids: { limit: 20 } },
      { 'cpu.max': '500000 1000000' },
    );
    await update({ cpu: { quota: 600_000 } }, { 'cpu.max': '600000 1000000', 'cpu.weight': '17' });
    await update({ cpu: { period: 900_000 } }, { 'cpu.max': '600000 900000' });
    await update({ cpu: { quota: -1 } }, { 'cpu.max': 'max 900000', 'pids.max': '20' });
    await update({ cpu: { shares: 200 } }, { 'cpu.weight': '29', 'cpu.max': 'max 900000' });
    await update({ memory: { limit: 32 * MIB } }, { 'memory.max': String(32 * MIB) });
    await update({ unified: { 'memory.max': String(40 * MIB) } }, { 'memory.max': String(40 * MIB) });
    await update({ memory: { limit: 48 * MIB } }, { 'memory.max': String(48 * MIB) });
    assert.deepEqual(saved.unified, {});
    if (limits.path('memory.swap.max') !== undefined) {
      await update({ memory: { swap: 64 * MIB } }, { 'memory.swap.max': String(16 * MIB) });
      await update({ memory: { limit: 32 * MIB } }, { 'memory.swap.max': String(32 * MIB) });
      await update({ memory: { limit: -1 } }, { 'memory.swap.max': 'max', 'memory.max': 'max' });
    }
  });

  it('raises quota and burst together, lowers them, and keeps the burst under a new quota', async () => {
    let saved = (await set({ cpu: { quota: 5000, period: 100_000 } })).resources;
    saved = (await set({ cpu: { quota: 80_000, burst: 60_000 } }, saved)).resources;
    assert.equal(limits.read('cpu.max.burst'), '60000');
    saved = (await set({ cpu: { quota: 90_000 } }, saved)).resources;
    assert.equal(limits.read('cpu.max.burst'), '60000');
    const before = limits.all();
    const applied = await set({ cpu: { quota: 5000, burst: 1000 } }, saved);
    assert.equal(limits.read('cpu.max'), '5000 100000');
    await assert.rejects(set({ pids: { limit: 9 }, cpu: { burst: 6000 } }, applied.resources), {
      errno: 'EINVAL',
      data: '6000',
    });
    await applied.undo();
    assert.deepEqual(limits.all(), before);
  });

  it('has no weight for an idle group, and gives it back', async () => {
    const saved = (await set({ cpu: { shares: 512 } })).resources;
    const applied = await set({ cpu: { idle: 1 } }, saved);
    assert.equal(applied.resources.cpu?.shares, undefined);
    await assert.rejects(
      set({ pids: { limit: 9 }, cpu: { shares: 100 } }, applied.resources),
      (error) => error instanceof CgroupFileError && error.errno === 'EINVAL' && error.path.endsWith('/cpu.weight'),
    );
    assert.equal(limits.read('pids.max'), 'max');
    await (await set({ cpu: { idle: 0, shares: 100 } }, applied.resources)).undo();
    assert.equal(limits.read('cpu.idle'), '1');
    await applied.undo();
    assert.equal(limits.read('cpu.weight'), '59');
  });

  it('puts everything back when the last file is refused', async () => {
    const saved = await set({
      blockIO: { throttleReadBpsDevice: throttle(4096) },
      cpu: { shares: 100, quota: 50_000, burst: 20_000 },
      unified: { 'memory.high': String(64 * MIB) },
    });
    const before = limits.all();
    const update: LinuxResources = {
      pids: { limit: 7 },
      memory: { limit: 64 * MIB, reservation: MIB },
      blockIO: { throttleReadBpsDevice: throttle(0), throttleWriteBpsDevice: throttle(9) },
      cpu: { quota: 5000, burst: 1000, idle: 1 },
      unified: { 'memory.high': '4096', 'memory.oom.group': '2' },
    };
    await assert.rejects(
      set(update, saved.resources),
      (error) => error instanceof CgroupFileError && /memory\.oom\.group "2"/.test(error.message),
    );
    assert.deepEqual(limits.all(), before);
  });

  it('refuses a limit that is not above the usage, if asked to check', async () => {
    await group.run(HOLD_8_MIB);
    await until('8 MiB in use', () => Number(limits.read('memory.current')) > 8 * MIB);
    const before = limits.all();
    const memory = { limit: 4 * MIB, checkBeforeUpdate: true };
    await assert.rejects(
      set({ pids: { limit: 9 }, memory }),
      (error) => error instanceof ResourceError && /current usage/.test(error.message),
    );
    assert.deepEqual(limits.all(), before);
    await set({ memory: { ...memory, limit: 512 * MIB } });
    assert.equal(limits.read('memory.max'), String(512 * MIB));
    // What the check is for: the kernel kills.
    await set({ memory: { limit: MIB, swap: MIB } });
    assert.match(limits.read('memory.events'), /^oom_kill [1-9]/m);
  });

  it('names the controller a group does not have', async () => {
    fs.mkdirSync(`${dir}/below`);
    for (const [controller, update] of Object.entries<LinuxResources>({
      memory: { memory: { limit: MIB } },
      cpu: { cpu: { shares: 5 } },
      pids: { unified: { 'pids.max': '5' } },
      nonsense: { unified: { 'nonsense.max': '5' } },
    })) {
      await assert.rejects(
        setV2(`${dir}/below`, {}, update),
        (error) =>
          error instanceof LimitUnavailableError &&
          error.controller === controller &&
          /not available/.test(error.message),
        controller,
      );
    }
    await assert.rejects(
      set({ unified: { 'memory.nonsense': '5' } }),
      (error) => error instanceof LimitUnavailableError && /no such file/.test(error.message),
    );
  });

  it('says that there is no such device', { skip: lacks('io.max') }, async () => {
    await assert.rejects(
      set({ blockIO: { throttleReadBpsDevice: [{ ...NO_DEVICE, rate: 5 }] } }),
      (error) => error instanceof LimitUnavailableError && error.errno === 'ENODEV',
    );
  });

  it('knows a group that is not there', async () => {
    await assert.rejects(setV2(`${dir}/gone`, {}, { pids: { limit: 5 } }), { name: 'CgroupNotFoundError' });
  });
});
