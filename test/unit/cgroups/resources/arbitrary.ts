/**
 * Valid resources for properties; they may contradict each other where only saved and given values
 * together do.
 */
import fc from 'fast-check';
import type { LinuxResources } from '../../../../src/oci/index.js';

/** Some of the members, never as undefined. */
function some<T extends object>(members: { [K in keyof T]-?: fc.Arbitrary<NonNullable<T[K]>> }): fc.Arbitrary<T> {
  return fc.record(members, { requiredKeys: [] }) as fc.Arbitrary<T>;
}

const bytes = fc.oneof(fc.constantFrom(-1, 0), fc.integer({ min: 4096, max: 2 ** 40 }));
const minor = fc.constantFrom(0, 16, 32);
const throttle = fc.array(fc.record({ major: fc.constant(8), minor, rate: fc.oneof(fc.constant(0), fc.nat()) }), {
  maxLength: 3,
});
const weight = fc.oneof(fc.constant(0), fc.integer({ min: 10, max: 1000 }));
const list = fc.constantFrom('', '0', '0-3', '1,5-8');

export const resources: fc.Arbitrary<LinuxResources> = some<Omit<LinuxResources, 'devices' | 'network'>>({
  memory: some({
    limit: bytes,
    reservation: bytes,
    swap: bytes,
    kernel: bytes,
    kernelTCP: bytes,
    swappiness: fc.nat(100),
    disableOOMKiller: fc.boolean(),
    useHierarchy: fc.boolean(),
    checkBeforeUpdate: fc.boolean(),
  }),
  cpu: some({
    shares: fc.oneof(fc.constant(0), fc.integer({ min: 2, max: 262_144 })),
    quota: fc.oneof(fc.constantFrom(-1, 0), fc.integer({ min: 1000, max: 1_000_000 })),
    burst: fc.nat(50_000),
    period: fc.oneof(fc.constant(0), fc.integer({ min: 1000, max: 1_000_000 })),
    realtimeRuntime: fc.nat(1000),
    realtimePeriod: fc.nat(1000),
    cpus: list,
    mems: list,
    idle: fc.constantFrom(0, 1),
  }),
  pids: some({ limit: fc.integer({ min: -2, max: 1000 }) }),
  blockIO: some({
    weight,
    leafWeight: weight,
    weightDevice: fc.array(fc.record({ major: fc.constant(8), minor, weight, leafWeight: weight }), { maxLength: 2 }),
    throttleReadBpsDevice: throttle,
    throttleWriteBpsDevice: throttle,
    throttleReadIOPSDevice: throttle,
    throttleWriteIOPSDevice: throttle,
  }),
  hugepageLimits: fc.array(fc.record({ pageSize: fc.constantFrom('2MB', '1GB'), limit: fc.nat() }), { maxLength: 2 }),
  rdma: fc.dictionary(fc.constantFrom('mlx5_0', 'mlx5_1'), some({ hcaHandles: fc.nat(), hcaObjects: fc.nat() })),
  unified: fc.dictionary(
    fc.constantFrom(
      'memory.high',
      'memory.min',
      'memory.oom.group',
      'cpu.weight',
      'cpu.max',
      'cpu.max.burst',
      'cgroup.freeze',
      'pids.max',
      'cpu.idle',
    ),
    fc.constantFrom('0', '1', '100', '5000'),
  ),
});

const anyValue = fc.oneof(
  fc.anything({ withBigInt: false, withDate: false, withMap: false, withSet: false }),
  fc.constantFrom(-1, 0, 1, 5000, 2 ** 53, '', '0', 'max', null),
);
const MEMBERS = [
  'limit',
  'swap',
  'swappiness',
  'quota',
  'period',
  'shares',
  'idle',
  'cpus',
  'weight',
  'weightDevice',
  'rate',
  'priorities',
  'a.b',
];
const SECTIONS = ['memory', 'cpu', 'pids', 'blockIO', 'hugepageLimits', 'rdma', 'network', 'unified', 'devices'];

/** What JSON, or a careless caller, may bring. */
export const anyResources: fc.Arbitrary<unknown> = fc.oneof(
  anyValue,
  fc.dictionary(fc.constantFrom(...SECTIONS), fc.oneof(anyValue, fc.dictionary(fc.constantFrom(...MEMBERS), anyValue))),
);
