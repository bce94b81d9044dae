import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { overlayResources } from '../../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { resources } from './arbitrary.js';

const ROWS: readonly [what: string, saved: LinuxResources, update: LinuxResources, result: LinuxResources][] = [
  [
    'drops of unified a swap that moves with the limit',
    { memory: { limit: 5, swap: 9 }, unified: { 'memory.swap.max': '1' } },
    { memory: { limit: 6 } },
    { memory: { limit: 6, swap: 9 }, unified: {} },
  ],
  [
    'keeps of unified a swap that does not',
    { unified: { 'memory.swap.max': '1' } },
    { memory: { limit: 6 } },
    { memory: { limit: 6 }, unified: { 'memory.swap.max': '1' } },
  ],
  [
    'leaves a swappiness of unsigned -1',
    { memory: { swappiness: 5 } },
    { memory: { swappiness: 2 ** 64 } },
    { memory: { swappiness: 5 } },
  ],
  [
    'keeps what is not given',
    { pids: { limit: 5 }, cpu: { burst: 7, cpus: '0' } },
    { cpu: { quota: 5000 } },
    { pids: { limit: 5 }, cpu: { burst: 7, cpus: '0', quota: 5000 } },
  ],
  [
    'takes 0 for "not given" where runc does',
    { memory: { limit: 5, swap: 9, reservation: 3 }, cpu: { shares: 7 } },
    { memory: { limit: 0, swap: 0, reservation: 0 }, cpu: { shares: 0 } },
    { memory: { limit: 5, swap: 9, reservation: 3 }, cpu: { shares: 7 } },
  ],
  [
    'takes 0 for a value elsewhere',
    { pids: { limit: 5 }, cpu: { burst: 7, idle: 1 } },
    { pids: { limit: 0 }, cpu: { burst: 0, idle: 0 } },
    { pids: { limit: 0 }, cpu: { burst: 0, idle: 0 } },
  ],
  [
    'takes the limit off swap with that of memory',
    { memory: { limit: 5, swap: 9 } },
    { memory: { limit: -1 } },
    { memory: { limit: -1, swap: -1 } },
  ],
  [
    'leaves a swap given with it',
    { memory: { limit: 5 } },
    { memory: { limit: -1, swap: 9 } },
    { memory: { limit: -1, swap: 9 } },
  ],
  [
    'joins quota and period',
    { cpu: { period: 50_000 } },
    { cpu: { quota: 5000 } },
    { cpu: { period: 50_000, quota: 5000 } },
  ],
  [
    'keeps a quota when given 0, as Docker does to change the period alone',
    { cpu: { period: 50_000, quota: 9000 } },
    { cpu: { quota: 0, period: 60_000 } },
    { cpu: { period: 60_000, quota: 9000 } },
  ],
  [
    'keeps a quota if nothing would be written',
    { cpu: { quota: 9000 } },
    { cpu: { quota: 0, period: 0 } },
    { cpu: { quota: 9000 } },
  ],
  ['drops the shares of an idle group', { cpu: { shares: 7 } }, { cpu: { idle: 1 } }, { cpu: { idle: 1 } }],
  ['drops idle when shares are given', { cpu: { idle: 1 } }, { cpu: { shares: 7 } }, { cpu: { shares: 7 } }],
  [
    'has one entry per device',
    {
      blockIO: {
        throttleReadBpsDevice: [
          { major: 8, minor: 0, rate: 1 },
          { major: 8, minor: 16, rate: 2 },
        ],
      },
    },
    {
      blockIO: {
        throttleReadBpsDevice: [
          { major: 8, minor: 0, rate: 3 },
          { major: 8, minor: 0, rate: 4 },
        ],
      },
    },
    {
      blockIO: {
        throttleReadBpsDevice: [
          { major: 8, minor: 0, rate: 4 },
          { major: 8, minor: 16, rate: 2 },
        ],
      },
    },
  ],
  [
    'merges the weights of a device',
    { blockIO: { weightDevice: [{ major: 8, minor: 0, weight: 100 }] } },
    { blockIO: { weightDevice: [{ major: 8, minor: 0, weight: 0, leafWeight: 200 }] } },
    { blockIO: { weightDevice: [{ major: 8, minor: 0, weight: 100, leafWeight: 200 }] } },
  ],
  [
    'has one entry per page size',
    {
      hugepageLimits: [
        { pageSize: '2MB', limit: 1 },
        { pageSize: '1GB', limit: 2 },
      ],
    },
    { hugepageLimits: [{ pageSize: '2MB', limit: 3 }] },
    {
      hugepageLimits: [
        { pageSize: '2MB', limit: 3 },
        { pageSize: '1GB', limit: 2 },
      ],
    },
  ],
  [
    'merges the limits of an rdma device',
    { rdma: { a: { hcaHandles: 1 }, b: {} } },
    { rdma: { a: { hcaObjects: 2 } } },
    { rdma: { a: { hcaHandles: 1, hcaObjects: 2 }, b: {} } },
  ],
  [
    'merges unified by file',
    { unified: { 'memory.high': '1', 'memory.min': '2' } },
    { unified: { 'memory.high': '3' } },
    { unified: { 'memory.high': '3', 'memory.min': '2' } },
  ],
  [
    'drops of unified what a typed field now says',
    { unified: { 'memory.max': '1', 'memory.min': '2' } },
    { memory: { limit: 5 } },
    { memory: { limit: 5 }, unified: { 'memory.min': '2' } },
  ],
  [
    'lets unified win within one update',
    { unified: { 'pids.max': '1' } },
    { pids: { limit: 5 }, unified: { 'pids.max': '7' } },
    { pids: { limit: 5 }, unified: { 'pids.max': '7' } },
  ],
  [
    'replaces the devices',
    { devices: [{ allow: false }] },
    { devices: [{ allow: true }] },
    { devices: [{ allow: true }] },
  ],
  [
    'has one priority per interface',
    { network: { classID: 5, priorities: [{ name: 'lo', priority: 1 }] } },
    { network: { priorities: [{ name: 'lo', priority: 2 }] } },
    { network: { classID: 5, priorities: [{ name: 'lo', priority: 2 }] } },
  ],
];

describe('overlayResources', () => {
  for (const [what, saved, update, result] of ROWS) {
    it(what, () => assert.deepEqual(overlayResources(saved, update), result));
  }

  it('changes neither of the two, and shares nothing with the update', () => {
    const saved = { cpu: { shares: 7 }, blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 1 }] } };
    const update = {
      cpu: { idle: 1 },
      blockIO: { throttleReadBpsDevice: [{ major: 8, minor: 0, rate: 2 }] },
      devices: [{ allow: true }],
    };
    const before = structuredClone([saved, update]);
    const result = overlayResources(saved, update);
    assert.deepEqual([saved, update], before);
    const copy = structuredClone(result);
    update.cpu.idle = 5;
    for (const entry of update.blockIO.throttleReadBpsDevice) entry.rate = 9;
    for (const rule of update.devices) rule.allow = false;
    assert.deepEqual(result, copy);
  });

  it('is the same when done twice', () => {
    fc.assert(
      fc.property(resources, resources, (saved, update) => {
        const once = overlayResources(saved, update);
        assert.deepEqual(overlayResources(once, update), once);
      }),
    );
  });
});
