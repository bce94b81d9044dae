import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code } from '../../../../src/base/index.js';
import type { CgroupMode } from '../../../../src/cgroups/index.js';
import { checkResources, ResourceError } from '../../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { anyResources } from './arbitrary.js';

type Json = Readonly<Record<string, unknown>>;

function check(update: Json, mode: CgroupMode = 'unified', saved: LinuxResources = {}): void {
  checkResources(update as LinuxResources, saved, mode);
}

const BAD: readonly [field: string, update: Json][] = [
  ['memory', { memory: 5 }],
  ['memory', { memory: null }],
  ['memory', { memory: [] }],
  ['memory.limit', { memory: { limit: '64m' } }],
  ['memory.limit', { memory: { limit: 1.5 } }],
  ['memory.limit', { memory: { limit: Number.NaN } }],
  ['memory.limit', { memory: { limit: Number.POSITIVE_INFINITY } }],
  ['memory.limit', { memory: { limit: 2 ** 64 } }],
  ['memory.limit', { memory: { limit: -2 } }],
  ['memory.limit', { memory: { limit: null } }],
  ['memory.reservation', { memory: { reservation: -3 } }],
  ['memory.swap', { memory: { limit: 100, swap: -2 } }],
  ['memory.swap', { memory: { limit: 100, swap: 99 } }],
  ['memory.swap', { memory: { swap: 100 } }],
  ['memory.swap', { memory: { limit: 0, swap: 100 } }],
  ['memory.checkBeforeUpdate', { memory: { checkBeforeUpdate: 1 } }],
  ['cpu.shares', { cpu: { shares: -1 } }],
  ['cpu.quota', { cpu: { quota: 999 } }],
  ['cpu.quota', { cpu: { quota: 1000.5 } }],
  ['cpu.period', { cpu: { period: 999 } }],
  ['cpu.period', { cpu: { period: 1_000_001 } }],
  ['cpu.period', { cpu: { period: -1 } }],
  ['cpu.burst', { cpu: { burst: -1 } }],
  ['cpu.idle', { cpu: { idle: 2 } }],
  ['cpu.idle', { cpu: { idle: -1 } }],
  ['cpu.idle', { cpu: { idle: true } }],
  ['cpu.cpus', { cpu: { cpus: '0-' } }],
  ['cpu.cpus', { cpu: { cpus: 3 } }],
  ['cpu.mems', { cpu: { mems: '1-0' } }],
  ['pids.limit', { pids: { limit: '5' } }],
  ['pids.limit', { pids: { limit: 0.5 } }],
  ['blockIO.weight', { blockIO: { weight: 9 } }],
  ['blockIO.weight', { blockIO: { weight: 1001 } }],
  ['blockIO.weightDevice', { blockIO: { weightDevice: {} } }],
  ['blockIO.weightDevice.0', { blockIO: { weightDevice: [7] } }],
  ['blockIO.weightDevice.0.minor', { blockIO: { weightDevice: [{ major: 8, weight: 100 }] } }],
  [
    'blockIO.weightDevice.1.weight',
    {
      blockIO: {
        weightDevice: [
          { major: 8, minor: 0 },
          { major: 8, minor: 1, weight: 5 },
        ],
      },
    },
  ],
  ['blockIO.throttleReadBpsDevice.0.rate', { blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0 }] } }],
  [
    'blockIO.throttleWriteBpsDevice.0.rate',
    { blockIO: { throttleWriteBpsDevice: [{ major: 8, minor: 0, rate: -1 }] } },
  ],
  [
    'blockIO.throttleReadIOPSDevice.0.major',
    { blockIO: { throttleReadIOPSDevice: [{ major: -1, minor: 0, rate: 1 }] } },
  ],
  ['blockIO.throttleWriteIOPSDevice', { blockIO: { throttleWriteIOPSDevice: 'all' } }],
  ['hugepageLimits.0.pageSize', { hugepageLimits: [{ limit: 5 }] }],
  ['hugepageLimits.0.pageSize', { hugepageLimits: [{ pageSize: '', limit: 5 }] }],
  ['hugepageLimits.0.pageSize', { hugepageLimits: [{ pageSize: '../../x', limit: 5 }] }],
  ['hugepageLimits.0.limit', { hugepageLimits: [{ pageSize: '2MB', limit: -1 }] }],
  ['rdma.mlx5_0', { rdma: { mlx5_0: 5 } }],
  ['rdma.a b', { rdma: { 'a b': {} } }],
  ['rdma.mlx5_0.hcaHandles', { rdma: { mlx5_0: { hcaHandles: -1 } } }],
  ['rdma.mlx5_0.hcaObjects', { rdma: { mlx5_0: { hcaObjects: 2 ** 32 } } }],
  ['unified', { unified: ['memory.max'] }],
  ['unified.memory.max', { unified: { 'memory.max': 5 } }],
  ['unified.', { unified: { '': '5' } }],
  ['unified.memory', { unified: { memory: '5' } }],
  ['unified..max', { unified: { '.max': '5' } }],
  ['unified...', { unified: { '..': '5' } }],
  ['unified.../memory.max', { unified: { '../memory.max': '5' } }],
  ['unified.below/memory.max', { unified: { 'below/memory.max': '5' } }],
  ['unified.memory.max\0', { unified: { 'memory.max\0': '5' } }],
];

const BAD_V1: readonly [field: string, update: Json][] = [
  ['memory.swappiness', { memory: { swappiness: 101 } }],
  ['memory.swappiness', { memory: { swappiness: -1 } }],
  ['memory.swappiness', { memory: { swappiness: 2 ** 63 } }],
  ['memory.kernelTCP', { memory: { kernelTCP: -2 } }],
  ['memory.disableOOMKiller', { memory: { disableOOMKiller: 'yes' } }],
  ['memory.swap', { memory: { limit: 100, swap: 99 } }],
  ['cpu.shares', { cpu: { shares: 1 } }],
  ['cpu.shares', { cpu: { shares: 262_145 } }],
  ['cpu.realtimeRuntime', { cpu: { realtimeRuntime: 0.1 } }],
  ['cpu.realtimePeriod', { cpu: { realtimePeriod: -1 } }],
  ['blockIO.leafWeight', { blockIO: { leafWeight: 5 } }],
  ['blockIO.weightDevice.0.leafWeight', { blockIO: { weightDevice: [{ major: 8, minor: 0, leafWeight: 5 }] } }],
  ['network.classID', { network: { classID: 2 ** 32 } }],
  ['network.priorities.0.priority', { network: { priorities: [{ name: 'lo' }] } }],
  ['network.priorities.0.name', { network: { priorities: [{ name: 'l o', priority: 1 }] } }],
  ['unified', { unified: { 'memory.max': '5' } }],
];

describe('checkResources', () => {
  for (const [field, update] of BAD) {
    it(`refuses ${field} in ${JSON.stringify(update)}`, () => {
      assert.throws(() => check(update), {
        name: 'ResourceError',
        code: Code.InvalidArgument,
        field: `resources.${field}`,
      });
    });
  }

  for (const [field, update] of BAD_V1) {
    it(`refuses ${field} in ${JSON.stringify(update)} on v1`, () => {
      for (const mode of ['legacy', 'hybrid'] as const) {
        assert.throws(() => check(update, mode), { name: 'ResourceError', field: `resources.${field}` });
      }
    });
  }

  it('does not look at the fields of v1 on v2, as runc does not', () => {
    const memory = { swappiness: 500, kernel: -9, kernelTCP: 'x', disableOOMKiller: 3, useHierarchy: 0 };
    check({
      memory,
      cpu: { realtimeRuntime: 'x', realtimePeriod: -1 },
      blockIO: { leafWeight: 1 },
      network: { classID: -1 },
    });
  });

  it('takes every bound', () => {
    check({ cpu: { quota: 1000, period: 1000, burst: 0, idle: 0 } });
    check({ cpu: { quota: -1, period: 1_000_000, idle: 1, cpus: '', mems: '' } });
    check({ memory: { limit: Number.MAX_SAFE_INTEGER, swap: Number.MAX_SAFE_INTEGER, reservation: -1 } });
    check({ blockIO: { weight: 10 } });
    check({ blockIO: { weight: 1000, weightDevice: [{ major: 0, minor: 0, weight: 0 }] } });
    check({
      pids: { limit: -1 },
      rdma: { a: { hcaHandles: 2 ** 32 - 1 } },
      unified: { 'hugetlb.2MB.max': '', 'a.b': 'x' },
    });
    check({ cpu: { shares: 262_144 }, memory: { swappiness: 100 }, unified: {} }, 'legacy');
    check({ memory: { swappiness: 2 ** 64 } }, 'legacy');
  });

  it('compares swap with the limit in force', () => {
    const saved = { memory: { limit: 100, swap: 200 } };
    check({ memory: { limit: 200 } }, 'unified', saved);
    check({ memory: { swap: 100 } }, 'unified', saved);
    check({ memory: { limit: -1 } }, 'unified', saved);
    for (const mode of ['unified', 'legacy'] as const) {
      assert.throws(() => check({ memory: { limit: 201 } }, mode, saved), { field: 'resources.memory.swap' });
      assert.throws(() => check({ memory: { swap: 99 } }, mode, saved), { field: 'resources.memory.swap' });
    }
  });

  it('does not judge what the update leaves alone', () => {
    check({ pids: { limit: 5 }, memory: { reservation: 5 } }, 'unified', { memory: { limit: 100, swap: 50 } });
    check({ memory: { swap: 500 } }, 'legacy');
  });

  it('throws nothing but ResourceError, whatever the JSON', () => {
    fc.assert(
      fc.property(anyResources, fc.constantFrom('unified' as const, 'legacy' as const), (json, mode) => {
        try {
          checkResources(json as LinuxResources, {}, mode);
        } catch (error) {
          assert.ok(error instanceof ResourceError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });
});
