import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { simplifyDeviceRules } from '../../../../src/cgroups/devices/index.js';
import { U64_MAX } from '../../../../src/cgroups/parse.js';
import { overlayResources, RESOURCE_FIELDS, ResourceError } from '../../../../src/cgroups/resources/index.js';
import { asSystemdHolds, type PropertyOptions, unitProperties } from '../../../../src/cgroups/systemd/properties.js';
import type { LinuxResources } from '../../../../src/oci/index.js';

const NEW: PropertyOptions = { version: 262, kind: 'scope', atCreation: false };

/** What an update sets, where `saved` was: name → value, without types. */
function set(update: LinuxResources, saved: LinuxResources = {}, options: Partial<PropertyOptions> = {}): object {
  const properties = unitProperties(overlayResources(saved, update), update, { ...NEW, ...options });
  return Object.fromEntries(properties.map(({ name, value }) => [name, value]));
}

const MAX = U64_MAX;
const MIB = 1 << 20;

describe('typed fields as properties', () => {
  const table: [LinuxResources, object][] = [
    [{}, {}],
    [{ memory: { limit: 64 * MIB } }, { MemoryMax: 67108864n }],
    [{ memory: { limit: 0, reservation: 0, swap: 0 } }, {}],
    [{ memory: { limit: -1 } }, { MemoryMax: MAX, MemorySwapMax: MAX }],
    [{ memory: { reservation: MIB } }, { MemoryLow: 1048576n }],
    [{ memory: { reservation: -1 } }, { MemoryLow: MAX }],
    [{ memory: { limit: MIB, swap: 3 * MIB } }, { MemoryMax: 1048576n, MemorySwapMax: 2097152n }],
    // Swap switched off: said, so that a daemon-reload does not switch it on (moby#51446).
    [{ memory: { limit: MIB, swap: MIB } }, { MemoryMax: 1048576n, MemorySwapMax: 0n }],
    [{ memory: { limit: MIB, swap: -1 } }, { MemoryMax: 1048576n, MemorySwapMax: MAX }],
    [{ cpu: { shares: 1024 } }, { CPUWeight: 100n }],
    [{ cpu: { shares: 0 } }, {}],
    [{ cpu: { idle: 1 } }, { CPUWeight: 0n }],
    [{ cpu: { idle: 1, shares: 512 } }, { CPUWeight: 0n }],
    [{ cpu: { idle: 0 } }, { CPUWeight: MAX }],
    [{ cpu: { idle: 0, shares: 512 } }, { CPUWeight: 59n }],
    [{ cpu: { quota: 50_000 } }, { CPUQuotaPeriodUSec: MAX, CPUQuotaPerSecUSec: 500_000n }],
    [{ cpu: { quota: 500_000, period: 1_000_000 } }, { CPUQuotaPeriodUSec: 1_000_000n, CPUQuotaPerSecUSec: 500_000n }],
    [{ cpu: { quota: 123_456 } }, { CPUQuotaPeriodUSec: MAX, CPUQuotaPerSecUSec: 1_240_000n }],
    [{ cpu: { quota: 500_000, period: 900_000 } }, { CPUQuotaPeriodUSec: 900_000n, CPUQuotaPerSecUSec: 560_000n }],
    [
      { cpu: { quota: 9_000_000_000_000, period: 1000 } },
      { CPUQuotaPeriodUSec: 1000n, CPUQuotaPerSecUSec: 9_000_000_000_000_000n },
    ],
    [{ cpu: { quota: -1 } }, { CPUQuotaPeriodUSec: MAX, CPUQuotaPerSecUSec: MAX }],
    [{ cpu: { period: 50_000 } }, { CPUQuotaPeriodUSec: 50_000n, CPUQuotaPerSecUSec: MAX }],
    [{ cpu: { burst: 1000 } }, {}],
    [{ cpu: { cpus: '0-3,32-33' } }, { AllowedCPUs: Buffer.from([0x0f, 0, 0, 0, 0x03]) }],
    [
      { cpu: { cpus: '5-8', mems: '0' } },
      { AllowedCPUs: Buffer.from([0xe0, 1]), AllowedMemoryNodes: Buffer.from([1]) },
    ],
    [{ pids: { limit: 20 } }, { TasksMax: 20n }],
    [{ pids: { limit: 0 } }, { TasksMax: 1n }],
    [{ pids: { limit: -1 } }, { TasksMax: MAX }],
    [{ blockIO: { weight: 500 } }, { IOWeight: 4950n }],
    [{ blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1 }] } }, {}],
    [{ hugepageLimits: [{ pageSize: '2MB', limit: 1 }], rdma: { mlx: { hcaHandles: 1 } } }, {}],
  ];
  for (const [update, expected] of table) {
    it(JSON.stringify(update), () => assert.deepEqual(set(update), expected));
  }

  it('depend on what is in force', () => {
    assert.deepEqual(set({ memory: { limit: 2 * MIB } }, { memory: { limit: MIB, swap: 3 * MIB } }), {
      MemoryMax: 2097152n,
      MemorySwapMax: 1048576n,
    });
    assert.deepEqual(set({ cpu: { period: 50_000 } }, { cpu: { quota: 20_000 } }), {
      CPUQuotaPeriodUSec: 50_000n,
      CPUQuotaPerSecUSec: 400_000n,
    });
    assert.deepEqual(set({ cpu: { quota: -1 } }, { cpu: { quota: 20_000, period: 50_000 } }), {
      CPUQuotaPeriodUSec: 50_000n,
      CPUQuotaPerSecUSec: MAX,
    });
  });

  it('with BFQ, say the weight that systemd makes the asked one of', () => {
    for (const weight of [10, 100, 101, 500, 750, 1000]) {
      const { IOWeight } = set({ blockIO: { weight } }, {}, { hasBfq: true }) as { IOWeight: bigint };
      // As systemd counts: 1 to 100 stay, 100 to 10000 become 100 to 1000.
      const bfq = IOWeight <= 100n ? IOWeight : 100n + ((IOWeight - 100n) * 900n) / 9900n;
      assert.equal(bfq, BigInt(weight));
    }
  });
});

describe('unified files as properties', () => {
  const table: [Record<string, string>, object][] = [
    [{ 'memory.max': '41943040' }, { MemoryMax: 41943040n }],
    [{ 'memory.max': ' max\n' }, { MemoryMax: MAX }],
    [
      { 'memory.high': '20M', 'memory.low': '524288', 'memory.min': '131072' },
      { MemoryHigh: 20971520n, MemoryLow: 524288n, MemoryMin: 131072n },
    ],
    [{ 'memory.swap.max': '0' }, { MemorySwapMax: 0n }],
    [
      { 'memory.zswap.max': '65536', 'memory.zswap.writeback': '0' },
      { MemoryZSwapMax: 65536n, MemoryZSwapWriteback: false },
    ],
    [{ 'memory.swap.high': '1', 'misc.max': 'x 1', 'hugetlb.2MB.max': '0', 'io.latency': '8:0 target=1' }, {}],
    [{ 'pids.max': '99' }, { TasksMax: 99n }],
    [{ 'pids.max': '0' }, { TasksMax: 1n }],
    [{ 'pids.max': 'max' }, { TasksMax: MAX }],
    [{ 'cpu.max': '10000 100000' }, { CPUQuotaPeriodUSec: 100_000n, CPUQuotaPerSecUSec: 100_000n }],
    [{ 'cpu.max': '25000 50000' }, { CPUQuotaPeriodUSec: 50_000n, CPUQuotaPerSecUSec: 500_000n }],
    [{ 'cpu.max': 'max' }, { CPUQuotaPeriodUSec: 100_000n, CPUQuotaPerSecUSec: MAX }],
    [{ 'cpu.weight': '42' }, { CPUWeight: 42n }],
    [{ 'cpu.weight': '42', 'cpu.idle': '1' }, { CPUWeight: 0n }],
    [{ 'cpu.idle': '1', 'cpu.weight': '42' }, { CPUWeight: 0n }],
    [{ 'cpu.idle': '0' }, { CPUWeight: MAX }],
    [{ 'cpuset.cpus': '1' }, { AllowedCPUs: Buffer.from([2]) }],
    [{ 'cpuset.cpus': '' }, { AllowedCPUs: Buffer.from([]) }],
    [{ 'io.weight': 'default 300' }, { IOWeight: 300n }],
    [{ 'io.weight': '8:0 200' }, {}],
    [{ 'io.weight': '8:0 200\ndefault 50' }, { IOWeight: 50n }],
    [{ 'io.bfq.weight': '550' }, { IOWeight: 5050n }],
    // Only when the unit is made.
    [{ 'memory.oom.group': '1' }, {}],
  ];
  for (const [unified, expected] of table) {
    it(JSON.stringify(unified), () => assert.deepEqual(set({ unified }), expected));
  }

  it('win over typed fields', () => {
    const both = { memory: { limit: MIB }, pids: { limit: 5 }, unified: { 'memory.max': '2M', 'pids.max': '6' } };
    assert.deepEqual(set(both), { MemoryMax: 2097152n, TasksMax: 6n });
  });

  it('say what the kernel is to do when its memory runs out, at creation', () => {
    const unified = { 'memory.oom.group': '1' };
    assert.deepEqual(set({ unified }, {}, { atCreation: true }), { OOMPolicy: 'kill' });
    assert.deepEqual(set({ unified: { 'memory.oom.group': '0' } }, {}, { atCreation: true }), {
      OOMPolicy: 'continue',
    });
    assert.deepEqual(set({ unified }, {}, { atCreation: true, kind: 'slice' }), {});
    assert.deepEqual(set({ unified }, {}, { atCreation: true, version: 252 }), {});
  });

  it('are refused, with the field, when they are no numbers', () => {
    for (const unified of [
      { 'memory.max': 'lots' },
      { 'pids.max': '-1' },
      { 'cpu.max': '1 2 3' },
      { 'cpu.max': '1000 0' },
      { 'cpu.weight': '' },
      { 'io.weight': 'heavy' },
      { 'cpuset.cpus': '3-1' },
      { 'memory.max': '99999999999999999999' },
    ]) {
      const [file] = Object.keys(unified);
      const names = (error: unknown): boolean =>
        error instanceof ResourceError && error.field === `resources.unified.${file}`;
      assert.throws(() => set({ unified }), names, JSON.stringify(unified));
    }
  });

  it('are refused or set, whatever they are', () => {
    const files = ['cpu.max', 'cpu.weight', 'cpu.idle', 'memory.max', 'pids.max', 'cpuset.cpus', 'io.weight'];
    const value = fc.oneof(fc.string(), fc.stringMatching(/^(max|default)?[ \d:,-]*$/));
    fc.assert(
      fc.property(fc.dictionary(fc.constantFrom(...files), value), (unified) => {
        try {
          set({ unified });
        } catch (error) {
          if (!(error instanceof ResourceError)) throw error;
        }
      }),
    );
  });
});

describe('an older systemd', () => {
  const everything: LinuxResources = {
    cpu: { quota: 50_000, period: 50_000, cpus: '0', mems: '0', idle: 1 },
    unified: { 'memory.zswap.max': '1', 'memory.zswap.writeback': '0', 'memory.oom.group': '1' },
  };
  const at = (version: number): string[] =>
    Object.keys(set(everything, {}, { version, atCreation: true })).sort((a, b) => (a < b ? -1 : 1));

  it('is told only what it knows', () => {
    const names = at(262);
    assert.deepEqual(at(256), names);
    assert.deepEqual(
      at(255),
      names.filter((name) => name !== 'MemoryZSwapWriteback'),
    );
    assert.deepEqual(at(252), [
      'AllowedCPUs',
      'AllowedMemoryNodes',
      'CPUQuotaPerSecUSec',
      'CPUQuotaPeriodUSec',
      'CPUWeight',
    ]);
    assert.deepEqual(at(251), ['AllowedCPUs', 'AllowedMemoryNodes', 'CPUQuotaPerSecUSec', 'CPUQuotaPeriodUSec']);
    assert.deepEqual(at(243), ['CPUQuotaPerSecUSec', 'CPUQuotaPeriodUSec']);
    assert.deepEqual(at(241), ['CPUQuotaPerSecUSec']);
  });
});

describe('devices as properties', () => {
  const all = { allow: false, access: 'rwm' };
  const properties = (rules: LinuxResources['devices'], version = 262): [string, unknown][] =>
    unitProperties({}, {}, { ...NEW, version, devices: simplifyDeviceRules(rules ?? []) }).map(({ name, value }) => [
      name,
      value,
    ]);

  it('are a list under a strict policy, and the list is cleared before', () => {
    const rules = [
      all,
      { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
      { allow: true, type: 'b', major: 8, access: 'r' },
      { allow: true, type: 'c', access: 'm' },
    ];
    const [clear, policy, allow] = properties(rules);
    assert.deepEqual(clear, ['DeviceAllow', []]);
    assert.deepEqual(policy, ['DevicePolicy', 'strict']);
    assert.deepEqual(
      new Map(allow?.[1] as [string, string][]),
      new Map([
        ['/dev/char/1:3', 'rwm'],
        ['block-8', 'r'],
        ['char-*', 'm'],
      ]),
    );
  });
  it('that are forbidden one by one, or by minor number alone, are left to the program', () => {
    const auto = [
      ['DeviceAllow', []],
      ['DevicePolicy', 'auto'],
    ];
    assert.deepEqual(
      properties([
        { allow: true, access: 'rwm' },
        { allow: false, type: 'c', major: 1, minor: 3, access: 'w' },
      ]),
      auto,
    );
    assert.deepEqual(properties([all, { allow: true, type: 'c', minor: 3, access: 'r' }]), auto);
    assert.deepEqual(properties([{ allow: true, access: 'rwm' }]), auto);
  });
  it('are kept from a systemd that needs their nodes', () => assert.deepEqual(properties([all], 239), []));
});

describe('what systemd can hold', () => {
  const cpuOf = (saved: LinuxResources, update: LinuxResources): unknown => asSystemdHolds(saved, update).cpu;

  it('rounds a quota up to whole percents', () => {
    assert.deepEqual(cpuOf({}, { cpu: { quota: 123_456 } }), { quota: 124_000 });
    assert.deepEqual(cpuOf({}, { cpu: { quota: 500_000, period: 900_000 } }), { quota: 504_000, period: 900_000 });
    assert.deepEqual(cpuOf({ cpu: { quota: 30_000 } }, { cpu: { period: 70_000 } }), { quota: 30_100, period: 70_000 });
    assert.deepEqual(cpuOf({}, { cpu: { quota: 50_000 } }), { quota: 50_000 });
    assert.deepEqual(cpuOf({}, { cpu: { quota: -1 } }), { quota: -1 });
    assert.equal(cpuOf({}, { pids: { limit: 1 } }), undefined);
    assert.deepEqual(asSystemdHolds({}, { unified: { 'cpu.max': '12345', 'pids.max': '5' } }).unified, {
      'cpu.max': '13000 100000',
      'pids.max': '5',
    });
    assert.deepEqual(asSystemdHolds({}, { unified: { 'cpu.max': 'max 50000' } }).unified, { 'cpu.max': 'max 50000' });
  });

  it('is never below what was asked, and less than a percent of a CPU above', () => {
    const quota = fc.integer({ min: 1000, max: 10 ** 12 });
    fc.assert(
      fc.property(quota, fc.integer({ min: 1000, max: 1_000_000 }), (asked, period) => {
        const held = asSystemdHolds({}, { cpu: { quota: asked, period } }).cpu?.quota ?? 0;
        assert.ok(held >= asked - 1, `${held} for ${asked}`);
        assert.ok((held - asked) / period < 0.01 + 1e-9);
        assert.equal(asSystemdHolds({}, { cpu: { quota: held, period } }).cpu?.quota, held, 'it stays');
      }),
    );
  });
});

it('the table of fields names the property that is set', () => {
  const samples: Record<string, LinuxResources> = {
    'memory.limit': { memory: { limit: MIB } },
    'memory.reservation': { memory: { reservation: MIB } },
    'memory.swap': { memory: { limit: MIB, swap: MIB } },
    'cpu.shares': { cpu: { shares: 5 } },
    'cpu.quota': { cpu: { quota: 5000 } },
    'cpu.period': { cpu: { period: 50_000 } },
    'cpu.idle': { cpu: { idle: 1 } },
    'cpu.cpus': { cpu: { cpus: '0' } },
    'cpu.mems': { cpu: { mems: '0' } },
    'pids.limit': { pids: { limit: 5 } },
    'blockIO.weight': { blockIO: { weight: 50 } },
  };
  for (const { field, systemd } of RESOURCE_FIELDS) {
    const sample = samples[field];
    if (sample === undefined) assert.equal(systemd, undefined, field);
    else assert.ok(Object.hasOwn(set(sample), systemd ?? 'none'), `${field}: ${systemd}`);
  }
});
