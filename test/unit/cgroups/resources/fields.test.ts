import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RESOURCE_FIELDS, setV1, setV2 } from '../../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../../src/oci/index.js';
import { DIR, FakeGroup, V1_FILES, V2_FILES } from './fake-group.js';

const SDA = { major: 8, minor: 0 };

/** A value for each field, and what must be in force before. */
const SAMPLES: Readonly<Record<string, LinuxResources>> = {
  'memory.limit': { memory: { limit: 4096 } },
  'memory.reservation': { memory: { reservation: 4096 } },
  'memory.swap': { memory: { swap: 8192 } },
  'memory.kernel': { memory: { kernel: 5 } },
  'memory.kernelTCP': { memory: { kernelTCP: 5 } },
  'memory.swappiness': { memory: { swappiness: 5 } },
  'memory.disableOOMKiller': { memory: { disableOOMKiller: true } },
  'memory.useHierarchy': { memory: { useHierarchy: true } },
  'cpu.shares': { cpu: { shares: 512 } },
  'cpu.quota': { cpu: { quota: 5000 } },
  'cpu.period': { cpu: { period: 5000 } },
  'cpu.burst': { cpu: { burst: 5 } },
  'cpu.idle': { cpu: { idle: 1 } },
  'cpu.realtimeRuntime': { cpu: { realtimeRuntime: 5 } },
  'cpu.realtimePeriod': { cpu: { realtimePeriod: 5 } },
  'cpu.cpus': { cpu: { cpus: '0' } },
  'cpu.mems': { cpu: { mems: '0' } },
  'pids.limit': { pids: { limit: 5 } },
  'blockIO.weight': { blockIO: { weight: 50 } },
  'blockIO.leafWeight': { blockIO: { leafWeight: 50 } },
  'blockIO.weightDevice[].weight': { blockIO: { weightDevice: [{ ...SDA, weight: 50 }] } },
  'blockIO.weightDevice[].leafWeight': { blockIO: { weightDevice: [{ ...SDA, leafWeight: 50 }] } },
  'blockIO.throttleReadBpsDevice[]': { blockIO: { throttleReadBpsDevice: [{ ...SDA, rate: 5 }] } },
  'blockIO.throttleWriteBpsDevice[]': { blockIO: { throttleWriteBpsDevice: [{ ...SDA, rate: 5 }] } },
  'blockIO.throttleReadIOPSDevice[]': { blockIO: { throttleReadIOPSDevice: [{ ...SDA, rate: 5 }] } },
  'blockIO.throttleWriteIOPSDevice[]': { blockIO: { throttleWriteIOPSDevice: [{ ...SDA, rate: 5 }] } },
  'hugepageLimits[]': { hugepageLimits: [{ pageSize: '2MB', limit: 5 }] },
  'rdma{}': { rdma: { mlx5_0: { hcaHandles: 5 } } },
  'network.classID': { network: { classID: 5 } },
  'network.priorities[]': { network: { priorities: [{ name: 'lo', priority: 5 }] } },
};

const SAVED = { memory: { limit: 4096 } };
const BFQ_V2 = { ...V2_FILES, 'io.bfq.weight': 'default 100\n' };
const CFQ_V1: Readonly<Record<string, string>> = { ...V1_FILES, 'memory.limit_in_bytes': '4096\n' };
const { 'blkio.weight': _, 'blkio.weight_device': __, ...WITHOUT_CFQ } = CFQ_V1;
const BFQ_V1 = { ...WITHOUT_CFQ, 'blkio.bfq.weight': '100\n', 'blkio.bfq.weight_device': '' };
const V1_DIR = { get: () => DIR } as unknown as ReadonlyMap<string, string>;

/** The files written on kernels with and without BFQ. */
async function writtenFiles(
  variants: readonly Readonly<Record<string, string>>[],
  set: (group: FakeGroup) => Promise<unknown>,
): Promise<string[]> {
  const files: string[] = [];
  for (const variant of variants) {
    const group = new FakeGroup(variant);
    await set(group);
    files.push(...group.log.map((line) => (line.split('=', 1)[0] as string).replace('2MB', 'SIZE')));
  }
  return [...new Set(files)].toSorted();
}

describe('RESOURCE_FIELDS', () => {
  it('has every field once', () => {
    assert.deepEqual(
      RESOURCE_FIELDS.map(({ field }) => field),
      Object.keys(SAMPLES),
    );
  });

  for (const { field, v1, v2 } of RESOURCE_FIELDS) {
    const update = SAMPLES[field] as LinuxResources;

    it(`says what ${field} writes`, async () => {
      const onV2 = await writtenFiles([V2_FILES, BFQ_V2], (group) => setV2(DIR, SAVED, update, group));
      assert.deepEqual(onV2, v2.toSorted());
      const onV1 = await writtenFiles([CFQ_V1, BFQ_V1], (group) => setV1(V1_DIR, SAVED, update, { io: group }));
      assert.deepEqual(onV1, v1.toSorted());
    });
  }
});
