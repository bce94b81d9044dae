/** Limits set on real groups, made here and removed again, and what their files show then: v1 and v2, where the machine has them. */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Cgroup, CgroupFileError, type CgroupLayout, currentLayout } from '../../../src/cgroups/index.js';
import {
  type Applied,
  LimitUnavailableError,
  RESOURCE_FIELDS,
  ResourceError,
  setV1,
  setV2,
} from '../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../src/oci/index.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { TestGroup } from './group.js';

const NAME = `lamina-resources-${process.pid}`;
const CONTROLLERS = ['cpu', 'memory', 'cpuset', 'blkio', 'pids', 'devices', 'hugetlb', 'net_cls', 'net_prio', 'rdma'];
const MIB = 1 << 20;
/** Holds a buffer of so much, as nobody reads what is in it. */
const HOLD_8_MIB = 'dd if=/dev/zero bs=8M count=1 2>/dev/null | sleep 60';
const NO_DEVICE = { major: 4095, minor: 7 };

const missing = requires({ root: true });
const layout: CgroupLayout = missing === false ? currentLayout() : { mode: 'legacy', controllers: new Map() };

/** A whole disk; throttling refuses partitions. */
function findDisk(): { major: number; minor: number } | undefined {
  const names = fs.existsSync('/sys/block') ? fs.readdirSync('/sys/block') : [];
  const name = names.find((each) => /^([sv]d|ubd|nvme|loop)/.test(each));
  if (name === undefined) return undefined;
  const [major = 0, minor = 0] = fs.readFileSync(`/sys/block/${name}/dev`, 'utf8').split(':').map(Number);
  return { major, minor };
}

const disk = findDisk();
const DISK = `${disk?.major}:${disk?.minor}`;

function throttle(rate: number): { major: number; minor: number; rate: number }[] {
  return disk === undefined ? [] : [{ ...disk, rate }];
}

/** One limit as it is set, and what the files show then. */
interface Row {
  readonly update: LinuxResources;
  readonly shows: Readonly<Record<string, string>>;
}

/** The files of a group that limits go to. */
class Limits {
  readonly dirs: readonly string[];

  constructor(dirs: readonly string[]) {
    this.dirs = dirs;
  }

  path(file: string): string | undefined {
    return this.dirs.map((dir) => `${dir}/${file}`).find((path) => fs.existsSync(path));
  }

  read(file: string): string {
    return fs.readFileSync(this.path(file) ?? file, 'utf8').trim();
  }

  write(file: string, value: string): void {
    fs.writeFileSync(this.path(file) ?? file, value);
  }

  /** What all of them show. */
  all(): Record<string, string> {
    const files = RESOURCE_FIELDS.flatMap(({ v1, v2 }) => [
      ...v1,
      ...v2,
      'memory.high',
      'memory.oom.group',
      'devices.list',
    ]);
    const present = [...new Set(files)].filter((file) => this.path(file) !== undefined);
    return Object.fromEntries(present.map((file) => [file, this.read(file)]));
  }

  /** The files there are, found out in a group that is removed again. */
  static probe(dirs: readonly string[], prepare: () => void = () => undefined): Set<string> {
    const made = [...new Set(dirs)];
    for (const dir of made) fs.mkdirSync(dir);
    prepare();
    const files = made.flatMap((dir) => fs.readdirSync(dir));
    for (const dir of made) fs.rmdirSync(dir);
    return new Set(files);
  }

  /** Why a row cannot be tried. A test that skips itself would leave its group: its hooks are not run. */
  static lacks(present: ReadonlySet<string>, ...files: string[]): string | false {
    const file = files.find((each) => !present.has(each));
    if (file !== undefined) return `there is no ${file} here`;
    return disk === undefined && files.some((each) => /throttle|io\.max/.test(each)) && 'there is no disk here';
  }
}

/** Sets a row on a fresh group, compares, undoes it, compares again. */
function assertRow(limits: Limits, { shows }: Row, set: () => Applied): void {
  const before = limits.all();
  const applied = set();
  for (const [file, content] of Object.entries(shows)) assert.equal(limits.read(file), content, file);
  applied.undo();
  assert.deepEqual(limits.all(), before);
}

function title({ update }: Row): string {
  return JSON.stringify(update);
}

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

const mounts = layout.mode === 'unified' ? new Map() : layout.controllers;
const v1Dirs = new Map(
  CONTROLLERS.flatMap((name) => (mounts.has(name) ? [[name, `${mounts.get(name).mountPoint}/${NAME}`] as const] : [])),
);
const noV1 = mounts.size === 0 && 'no v1 controllers are mounted';

describe('limits on v1', { skip: missing === false ? noV1 : missing }, () => {
  let group: TestGroup;
  const limits = new Limits([...v1Dirs.values()]);
  const present = missing === false ? Limits.probe(limits.dirs) : new Set<string>();
  const lacks = (...files: string[]) => Limits.lacks(present, ...files);

  function set(update: LinuxResources, saved: LinuxResources = {}): Applied {
    return setV1(v1Dirs, saved, update);
  }

  beforeEach(() => {
    group = new TestGroup([...new Set(v1Dirs.values())]);
  });
  afterEach(() => group.remove());

  for (const row of V1_ROWS) {
    it(`sets ${title(row)}, and takes it back`, { skip: lacks(...Object.keys(row.shows)) }, () => {
      assertRow(limits, row, () => set(row.update));
    });
  }

  it('moves memory and swap together, up and down', () => {
    let saved: LinuxResources = {};
    for (const [limit, swap] of [
      [64, 96],
      [128, 256],
      [200, 220],
      [16, 32],
      [32, 32],
    ] as const) {
      saved = set({ memory: { limit: limit * MIB, swap: swap * MIB } }, saved).resources;
      assert.equal(limits.read('memory.limit_in_bytes'), String(limit * MIB));
      assert.equal(limits.read('memory.memsw.limit_in_bytes'), String(swap * MIB));
    }
    set({ memory: { limit: -1 } }, saved);
    assert.equal(limits.read('memory.memsw.limit_in_bytes'), V1_UNLIMITED);
  });

  it('refuses a limit below what is in use, saying how much that is, and puts everything back', async () => {
    // A cpuset has to have both before a process can enter.
    if (present.has('cpuset.cpus')) set({ cpu: { cpus: '0', mems: '0' } });
    await group.run(HOLD_8_MIB);
    await until('8 MiB in use', () => Number(limits.read('memory.usage_in_bytes')) > 8 * MIB);
    const before = limits.all();
    assert.throws(
      () => set({ pids: { limit: 7 }, cpu: { shares: 2 }, memory: { reservation: MIB, limit: MIB } }),
      (error) =>
        error instanceof CgroupFileError &&
        error.errno === 'EBUSY' &&
        error.data === String(MIB) &&
        /memory\.limit_in_bytes.*usage \d{7,}, peak \d{7,}/.test(error.message),
    );
    assert.deepEqual(limits.all(), before);
  });

  it('puts everything back when the last file is refused', () => {
    const saved = set({
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
    assert.throws(
      () => set(update, saved.resources),
      (error) => error instanceof CgroupFileError && /cpuset\.cpus "1000"/.test(error.message),
    );
    assert.deepEqual(limits.all(), before);
  });

  it('raises quota and burst together, and lowers them', () => {
    set({ cpu: { quota: 5000, period: 100_000 } });
    set({ cpu: { quota: 80_000, burst: 60_000 } });
    assert.equal(limits.read('cpu.cfs_burst_us'), '60000');
    set({ cpu: { quota: 5000, burst: 1000 } });
    assert.equal(limits.read('cpu.cfs_quota_us'), '5000');
    assert.throws(() => set({ cpu: { burst: 6000 } }), { errno: 'EINVAL' });
  });

  it('lowers a period that only the new quota allows', () => {
    // A parent with half a CPU: 50/100 ms. 40 ms of 50 would be more than that.
    const cpu = v1Dirs.get('cpu') as string;
    setV1(new Map([['cpu', cpu]]), {}, { cpu: { quota: 50_000, period: 100_000 } });
    fs.mkdirSync(`${cpu}/below`);
    const below = new Map([['cpu', `${cpu}/below`]]);
    setV1(below, {}, { cpu: { quota: 40_000, period: 100_000 } });
    setV1(below, {}, { cpu: { quota: 20_000, period: 50_000 } });
    assert.equal(fs.readFileSync(`${cpu}/below/cpu.cfs_period_us`, 'utf8'), '50000\n');
  });

  it('allows and denies devices, and takes that back', () => {
    const devices = [
      { allow: false },
      { allow: true, type: 'c', major: 1, minor: 3, access: 'rw' },
      { allow: true, type: 'b', major: 8 },
    ];
    const list = limits.read('devices.list');
    const applied = setV1(v1Dirs, {}, { devices }, { devices: true });
    assert.equal(limits.read('devices.list'), 'c 1:3 rw\nb 8:* rwm');
    const more = setV1(
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
    more.undo();
    assert.equal(limits.read('devices.list'), 'c 1:3 rw\nb 8:* rwm');
    applied.undo();
    assert.equal(limits.read('devices.list'), list);
  });

  it('says that there is no such device', { skip: lacks('blkio.throttle.read_bps_device') }, () => {
    assert.throws(
      () => set({ blockIO: { throttleReadBpsDevice: [{ ...NO_DEVICE, rate: 5 }] } }),
      (error) => error instanceof LimitUnavailableError && error.errno === 'ENODEV',
    );
  });
});

const mount = layout.mode === 'unified' ? layout.unified : undefined;
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

  function set(update: LinuxResources, saved: LinuxResources = {}): Applied {
    return setV2(dir, saved, update);
  }

  beforeEach(() => {
    group = new TestGroup([dir]);
    enableControllers();
  });
  afterEach(() => group.remove());

  for (const row of V2_ROWS) {
    it(`sets ${title(row)}, and takes it back`, { skip: lacks(...Object.keys(row.shows)) }, () => {
      assertRow(limits, row, () => set(row.update));
    });
  }

  it('keeps what an update does not name, and takes from it what it needs', () => {
    let saved: LinuxResources = {};
    const update = (changes: LinuxResources, shows: Readonly<Record<string, string>>): void => {
      saved = set(changes, saved).resources;
      for (const [file, content] of Object.entries(shows))
        assert.equal(limits.read(file), content, `${file} after ${JSON.stringify(changes)}`);
    };
    update(
      { cpu: { quota: 500_000, period: 1_000_000, shares: 100 }, pids: { limit: 20 } },
      { 'cpu.max': '500000 1000000' },
    );
    update({ cpu: { quota: 600_000 } }, { 'cpu.max': '600000 1000000', 'cpu.weight': '17' });
    update({ cpu: { period: 900_000 } }, { 'cpu.max': '600000 900000' });
    update({ cpu: { quota: -1 } }, { 'cpu.max': 'max 900000', 'pids.max': '20' });
    update({ cpu: { shares: 200 } }, { 'cpu.weight': '29', 'cpu.max': 'max 900000' });
    update({ memory: { limit: 32 * MIB } }, { 'memory.max': String(32 * MIB) });
    update({ unified: { 'memory.max': String(40 * MIB) } }, { 'memory.max': String(40 * MIB) });
    update({ memory: { limit: 48 * MIB } }, { 'memory.max': String(48 * MIB) });
    assert.deepEqual(saved.unified, {});
    if (limits.path('memory.swap.max') !== undefined) {
      update({ memory: { swap: 64 * MIB } }, { 'memory.swap.max': String(16 * MIB) });
      update({ memory: { limit: 32 * MIB } }, { 'memory.swap.max': String(32 * MIB) });
      update({ memory: { limit: -1 } }, { 'memory.swap.max': 'max', 'memory.max': 'max' });
    }
  });

  it('raises quota and burst together, lowers them, and keeps the burst under a new quota', () => {
    let saved = set({ cpu: { quota: 5000, period: 100_000 } }).resources;
    saved = set({ cpu: { quota: 80_000, burst: 60_000 } }, saved).resources;
    assert.equal(limits.read('cpu.max.burst'), '60000');
    saved = set({ cpu: { quota: 90_000 } }, saved).resources;
    assert.equal(limits.read('cpu.max.burst'), '60000');
    const before = limits.all();
    const applied = set({ cpu: { quota: 5000, burst: 1000 } }, saved);
    assert.equal(limits.read('cpu.max'), '5000 100000');
    assert.throws(() => set({ pids: { limit: 9 }, cpu: { burst: 6000 } }, applied.resources), {
      errno: 'EINVAL',
      data: '6000',
    });
    applied.undo();
    assert.deepEqual(limits.all(), before);
  });

  it('has no weight for an idle group, and gives it back', () => {
    const saved = set({ cpu: { shares: 512 } }).resources;
    const applied = set({ cpu: { idle: 1 } }, saved);
    assert.equal(applied.resources.cpu?.shares, undefined);
    assert.throws(
      () => set({ pids: { limit: 9 }, cpu: { shares: 100 } }, applied.resources),
      (error) => error instanceof CgroupFileError && error.errno === 'EINVAL' && error.path.endsWith('/cpu.weight'),
    );
    assert.equal(limits.read('pids.max'), 'max');
    set({ cpu: { idle: 0, shares: 100 } }, applied.resources).undo();
    assert.equal(limits.read('cpu.idle'), '1');
    applied.undo();
    assert.equal(limits.read('cpu.weight'), '59');
  });

  it('puts everything back when the last file is refused', () => {
    const saved = set({
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
    assert.throws(
      () => set(update, saved.resources),
      (error) => error instanceof CgroupFileError && /memory\.oom\.group "2"/.test(error.message),
    );
    assert.deepEqual(limits.all(), before);
  });

  it('refuses a limit that is not above the usage, if asked to check', async () => {
    await group.run(HOLD_8_MIB);
    await until('8 MiB in use', () => Number(limits.read('memory.current')) > 8 * MIB);
    const before = limits.all();
    const memory = { limit: 4 * MIB, checkBeforeUpdate: true };
    assert.throws(
      () => set({ pids: { limit: 9 }, memory }),
      (error) => error instanceof ResourceError && /current usage/.test(error.message),
    );
    assert.deepEqual(limits.all(), before);
    set({ memory: { ...memory, limit: 512 * MIB } });
    assert.equal(limits.read('memory.max'), String(512 * MIB));
    // What the check is for: the kernel kills.
    set({ memory: { limit: MIB, swap: MIB } });
    assert.match(limits.read('memory.events'), /^oom_kill [1-9]/m);
  });

  it('names the controller a group does not have', () => {
    fs.mkdirSync(`${dir}/below`);
    for (const [controller, update] of Object.entries<LinuxResources>({
      memory: { memory: { limit: MIB } },
      cpu: { cpu: { shares: 5 } },
      pids: { unified: { 'pids.max': '5' } },
      nonsense: { unified: { 'nonsense.max': '5' } },
    })) {
      assert.throws(
        () => setV2(`${dir}/below`, {}, update),
        (error) =>
          error instanceof LimitUnavailableError &&
          error.controller === controller &&
          /not available/.test(error.message),
        controller,
      );
    }
    assert.throws(
      () => set({ unified: { 'memory.nonsense': '5' } }),
      (error) => error instanceof LimitUnavailableError && /no such file/.test(error.message),
    );
  });

  it('says that there is no such device', { skip: lacks('io.max') }, () => {
    assert.throws(
      () => set({ blockIO: { throttleReadBpsDevice: [{ ...NO_DEVICE, rate: 5 }] } }),
      (error) => error instanceof LimitUnavailableError && error.errno === 'ENODEV',
    );
  });

  it('knows a group that is not there', () => {
    assert.throws(() => setV2(`${dir}/gone`, {}, { pids: { limit: 5 } }), { name: 'CgroupNotFoundError' });
  });
});
