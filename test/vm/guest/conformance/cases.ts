/**
 * What is set: every field of OCI `linux.resources`, in steps. The first step creates the group,
 * the others update it.
 */
import type { LinuxResources } from '../../../../src/oci/index.js';
import { type Case, type Disk, NOTHING } from './case.js';
import { deviceCases, ioCases } from './disk-cases.js';

const MIB = 1024 * 1024;

const cpuCases: readonly Case[] = [
  { name: 'cpu-shares', steps: [{ cpu: { shares: 512 } }, { cpu: { shares: 3333 } }, { cpu: { shares: 2 } }] },
  { name: 'cpu-shares-most', steps: [{ cpu: { shares: 262_144 } }, { cpu: { shares: 0 } }, { cpu: { shares: 1024 } }] },
  {
    name: 'cpu-quota-period',
    steps: [
      { cpu: { quota: 50_000, period: 100_000 } },
      { cpu: { quota: 500_000, period: 1_000_000 } },
      { cpu: { quota: -1, period: 100_000 } },
    ],
  },
  {
    name: 'cpu-quota-alone',
    steps: [{ cpu: { quota: 80_000 } }, { cpu: { quota: 70_000 } }, { cpu: { quota: -1 } }],
  },
  { name: 'cpu-period-alone', steps: [{ cpu: { period: 200_000 } }, { cpu: { period: 50_000 } }] },
  { name: 'cpu-quota-then-period', steps: [{ cpu: { quota: 50_000 } }, { cpu: { period: 500_000 } }] },
  // systemd stores whole percents.
  {
    name: 'cpu-quota-rounded',
    steps: [{ cpu: { quota: 123_456 } }, { cpu: { quota: 500_000, period: 900_000 } }],
  },
  {
    name: 'cpu-burst',
    steps: [
      { cpu: { quota: 50_000, period: 100_000, burst: 20_000 } },
      { cpu: { quota: 80_000, period: 100_000, burst: 70_000 } },
      { cpu: { quota: 80_000, period: 100_000, burst: 0 } },
    ],
  },
  {
    name: 'cpu-burst-over-old-quota',
    steps: [{ cpu: { quota: 20_000, period: 100_000 } }, { cpu: { quota: 90_000, period: 100_000, burst: 80_000 } }],
  },
  {
    name: 'cpu-burst-refused',
    steps: [{ cpu: { quota: 20_000, period: 100_000 } }, { cpu: { quota: 20_000, period: 100_000, burst: 90_000 } }],
    refused: [1],
  },
  { name: 'cpu-idle', steps: [{ cpu: { idle: 1 } }, { cpu: { idle: 0 } }] },
  {
    name: 'cpu-idle-drops-shares',
    steps: [{ cpu: { shares: 500 } }, { cpu: { idle: 1 } }, { cpu: { shares: 600 } }],
    refusedByFs: [2],
  },
  { name: 'cpu-period-refused', steps: [{ cpu: { quota: 50_000 } }, { cpu: { period: 100 } }], refused: [1] },
  { name: 'cpu-realtime', steps: [{ cpu: { realtimeRuntime: 1000, realtimePeriod: 100_000 } }] },
  {
    name: 'cpuset',
    steps: [{ cpu: { cpus: '0', mems: '0' } }, { cpu: { cpus: '0-1' } }, { cpu: { mems: '0-1' } }],
    needs: ['cpuset.cpus'],
  },
  {
    name: 'cpuset-absent-cpus',
    steps: [{}, { cpu: { cpus: '5-8' } }],
    needs: ['cpuset.cpus'],
    refused: [1],
  },
];

const memoryCases: readonly Case[] = [
  { name: 'memory-limit', steps: [{ memory: { limit: 64 * MIB } }, { memory: { limit: 96 * MIB } }] },
  { name: 'memory-limit-odd', steps: [{ memory: { limit: 67_108_865 } }] },
  { name: 'memory-limit-lifted', steps: [{ memory: { limit: 64 * MIB } }, { memory: { limit: -1 } }] },
  { name: 'memory-limit-zero', steps: [{ memory: { limit: 64 * MIB } }, { memory: { limit: 0 } }] },
  {
    name: 'memory-reservation',
    steps: [
      { memory: { reservation: 32 * MIB } },
      { memory: { reservation: 16 * MIB } },
      { memory: { reservation: -1 } },
    ],
  },
  {
    name: 'memory-swap',
    steps: [
      { memory: { limit: 64 * MIB, swap: 96 * MIB } },
      { memory: { limit: 64 * MIB, swap: 128 * MIB } },
      { memory: { limit: 64 * MIB, swap: -1 } },
    ],
  },
  { name: 'memory-swap-none', steps: [{ memory: { limit: 64 * MIB, swap: 64 * MIB } }] },
  {
    name: 'memory-swap-none-later',
    steps: [{ memory: { limit: 64 * MIB } }, { memory: { limit: 64 * MIB, swap: 64 * MIB } }],
  },
  { name: 'memory-swap-alone', steps: [{ memory: { limit: 64 * MIB } }, { memory: { swap: 96 * MIB } }] },
  { name: 'memory-swap-unlimited', steps: [{ memory: { limit: 64 * MIB, swap: -1 } }] },
  {
    name: 'memory-unlimited-swap-follows',
    steps: [{ memory: { limit: 64 * MIB, swap: 96 * MIB } }, { memory: { limit: -1 } }],
  },
  { name: 'memory-unlimited', steps: [{ memory: { limit: -1 } }] },
  { name: 'memory-unlimited-swap-limited', steps: [{ memory: { limit: -1, swap: 96 * MIB } }] },
  {
    name: 'memory-swap-refused',
    steps: [{ memory: { limit: 64 * MIB } }, { memory: { limit: 64 * MIB, swap: 32 * MIB } }],
    refused: [1],
  },
  { name: 'memory-swap-without-limit-refused', steps: [{ memory: { swap: 64 * MIB } }], refused: [0] },
  {
    name: 'memory-check-before-update',
    steps: [{ memory: { limit: 64 * MIB } }, { memory: { limit: 4096, checkBeforeUpdate: true } }],
    refused: [1],
  },
  {
    name: 'memory-check-passes',
    steps: [{ memory: { limit: 64 * MIB } }, { memory: { limit: 48 * MIB, checkBeforeUpdate: true } }],
  },
  {
    name: 'memory-v1-fields',
    steps: [
      {
        memory: {
          limit: 64 * MIB,
          kernel: 32 * MIB,
          kernelTCP: 32 * MIB,
          swappiness: 10,
          disableOOMKiller: true,
          useHierarchy: true,
        },
      },
    ],
  },
];

const pidsCases: readonly Case[] = [
  { name: 'pids', steps: [{ pids: { limit: 100 } }, { pids: { limit: 200 } }, { pids: { limit: -1 } }] },
  { name: 'pids-zero', steps: [{ pids: { limit: 100 } }, { pids: { limit: 0 } }] },
  { name: 'pids-unlimited', steps: [{ pids: { limit: -1 } }] },
];

const hugetlbCases: readonly Case[] = [
  {
    name: 'hugepages',
    steps: [
      { hugepageLimits: [{ pageSize: '2MB', limit: 4 * MIB }] },
      {
        hugepageLimits: [
          { pageSize: '2MB', limit: 8 * MIB },
          { pageSize: '1GB', limit: 0 },
        ],
      },
    ],
    needs: ['hugetlb.2MB.max'],
  },
];

const RDMA: LinuxResources = { rdma: { mlx5_0: { hcaHandles: 3, hcaObjects: 10 } } };

const otherCases: readonly Case[] = [
  { name: NOTHING, steps: [{}, {}] },
  { name: 'network', steps: [{ network: { classID: 65_537, priorities: [{ name: 'lo', priority: 5 }] } }] },
  // There is no other device here.
  { name: 'rdma-no-such-device', steps: [RDMA], needs: ['rdma.max'], refused: [0] },
  { name: 'rdma-no-such-device-later', steps: [{}, RDMA], needs: ['rdma.max'], refused: [1] },
  {
    name: 'everything',
    steps: [
      {
        cpu: { shares: 512, quota: 50_000, period: 100_000, burst: 10_000 },
        memory: { limit: 64 * MIB, reservation: 32 * MIB, swap: 96 * MIB },
        pids: { limit: 64 },
        unified: { 'memory.high': String(56 * MIB) },
      },
      { memory: { limit: 80 * MIB, swap: 112 * MIB } },
      { cpu: { shares: 1024 } },
      { pids: { limit: 32 } },
    ],
  },
];

/** Keys of `unified` with a value to create with and one to change to. */
const UNIFIED: readonly (readonly [file: string, first: string, second: string])[] = [
  ['memory.min', '131072', '262144'],
  ['memory.low', '524288', '1048576'],
  ['memory.high', '50331648', 'max'],
  ['memory.max', '67108864', '83886080'],
  ['memory.swap.max', '33554432', '0'],
  ['memory.swap.high', '16777216', 'max'],
  ['memory.zswap.max', '8388608', 'max'],
  ['memory.oom.group', '1', '0'],
  ['pids.max', '99', 'max'],
  ['cpu.weight', '42', '4200'],
  ['cpu.idle', '1', '0'],
  ['cpu.max', '50000 100000', 'max 100000'],
  ['cpu.max', '30000', '60000'],
  ['cgroup.max.depth', '3', 'max'],
  ['cgroup.max.descendants', '7', 'max'],
];

/** Those that only some kernels have, several to a group: these kernels are slow. */
const UNIFIED_RARE: readonly Case[] = [
  {
    name: 'unified-cpuset',
    steps: [
      { unified: { 'cpuset.cpus': '0', 'cpuset.mems': '0' } },
      { unified: { 'cpuset.cpus': '0-1', 'cpuset.mems': '0-1', 'cpuset.cpus.partition': 'isolated' } },
    ],
    needs: ['cpuset.cpus', 'cpuset.cpus.partition'],
  },
  {
    name: 'unified-uclamp',
    steps: [
      { unified: { 'cpu.uclamp.min': '10.00', 'cpu.uclamp.max': '80.00' } },
      { unified: { 'cpu.uclamp.min': '20.00', 'cpu.uclamp.max': 'max' } },
    ],
    needs: ['cpu.uclamp.min'],
  },
  {
    name: 'unified-hugetlb',
    steps: [
      { unified: { 'hugetlb.2MB.max': '4194304', 'hugetlb.2MB.rsvd.max': '8388608' } },
      { unified: { 'hugetlb.2MB.max': 'max', 'hugetlb.2MB.rsvd.max': 'max' } },
    ],
    needs: ['hugetlb.2MB.rsvd.max'],
  },
  {
    name: 'unified-io-weight',
    steps: [{ unified: { 'io.weight': '200' } }, { unified: { 'io.weight': 'default 300' } }],
    needs: ['io.weight'],
  },
];

const unifiedCases: readonly Case[] = [
  ...UNIFIED.map(([file, first, second], index) => ({
    name: `unified-${file.replaceAll('.', '-')}${index === UNIFIED.findIndex(([name]) => name === file) ? '' : '-short'}`,
    steps: [{ unified: { [file]: first } }, { unified: { [file]: second } }],
  })),
  ...UNIFIED_RARE,
  {
    name: 'unified-burst',
    steps: [
      { cpu: { quota: 50_000, period: 100_000 }, unified: { 'cpu.max.burst': '20000' } },
      { unified: { 'cpu.max.burst': '0' } },
    ],
  },
  {
    name: 'unified-over-typed',
    steps: [
      { memory: { limit: 64 * MIB }, pids: { limit: 50 }, unified: { 'memory.max': '83886080', 'pids.max': '60' } },
      { memory: { limit: 96 * MIB }, unified: { 'memory.max': '100663296' } },
    ],
  },
  { name: 'unified-no-dot-refused', steps: [{}, { unified: { memory: '1' } }], refused: [1] },
  { name: 'unified-slash-refused', steps: [{}, { unified: { '../memory.max': '1' } }], refused: [1] },
  { name: 'unified-no-controller-refused', steps: [{}, { unified: { 'nothing.max': '1' } }], refused: [1] },
  { name: 'unified-bad-value-refused', steps: [{}, { unified: { 'memory.high': 'much' } }], refused: [1] },
];

/** Every case for this machine; which of them it can do, `needs` tells. */
export function allCases(disk: Disk): readonly Case[] {
  return [
    ...otherCases,
    ...cpuCases,
    ...memoryCases,
    ...pidsCases,
    ...ioCases(disk),
    ...hugetlbCases,
    ...unifiedCases,
    ...deviceCases(disk),
  ];
}
