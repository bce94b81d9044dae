/** What is set per device: limits and weights of disks, and who may use which device. */
import type { LinuxResources } from '../../../../src/oci/index.js';
import { type Case, type Disk, NOTHING } from './case.js';

export function ioCases({ major, minor }: Disk): readonly Case[] {
  const at = (rate: number): { major: number; minor: number; rate: number }[] => [{ major, minor, rate }];
  return [
    {
      name: 'io-read-bps',
      steps: [
        { blockIO: { throttleReadBpsDevice: at(1_048_576) } },
        { blockIO: { throttleReadBpsDevice: at(2_097_152) } },
      ],
    },
    {
      name: 'io-write-bps',
      steps: [
        { blockIO: { throttleWriteBpsDevice: at(1_048_576) } },
        { blockIO: { throttleWriteBpsDevice: at(2_097_152) } },
      ],
    },
    {
      name: 'io-read-iops',
      steps: [{ blockIO: { throttleReadIOPSDevice: at(100) } }, { blockIO: { throttleReadIOPSDevice: at(200) } }],
    },
    {
      name: 'io-write-iops',
      steps: [{ blockIO: { throttleWriteIOPSDevice: at(100) } }, { blockIO: { throttleWriteIOPSDevice: at(200) } }],
    },
    {
      name: 'io-added-up',
      steps: [{ blockIO: { throttleReadBpsDevice: at(1_048_576) } }, { blockIO: { throttleWriteIOPSDevice: at(50) } }],
    },
    {
      name: 'io-rate-zero',
      steps: [{ blockIO: { throttleReadBpsDevice: at(1_048_576) } }, { blockIO: { throttleReadBpsDevice: at(0) } }],
    },
    {
      name: 'io-no-such-device-refused',
      steps: [{}, { blockIO: { throttleReadBpsDevice: [{ major: 1023, minor: 7, rate: 1000 }] } }],
      refused: [1],
    },
    {
      name: 'unified-io-max',
      steps: [
        { unified: { 'io.max': `${major}:${minor} rbps=1048576 wiops=50` } },
        { unified: { 'io.max': `${major}:${minor} rbps=max\n${major}:${minor} wbps=2097152` } },
      ],
    },
    {
      name: 'io-weight',
      steps: [
        { blockIO: { weight: 500, leafWeight: 300 } },
        { blockIO: { weight: 10 } },
        { blockIO: { weight: 1000 } },
      ],
      needs: ['io.weight'],
    },
  ];
}

/** Set when the kernel has BFQ, whose file takes the place of io.weight. */
export function bfqCases({ major, minor }: Disk): readonly Case[] {
  const weightDevice = (weight: number, leafWeight?: number): object[] => [
    { major, minor, weight, ...(leafWeight === undefined ? {} : { leafWeight }) },
  ];
  return [
    { name: NOTHING, steps: [{}] },
    { name: 'bfq-weight', steps: [{ blockIO: { weight: 750 } }, { blockIO: { weight: 10 } }] },
    {
      name: 'bfq-weight-device',
      steps: [
        { blockIO: { weight: 200, weightDevice: weightDevice(300) } },
        { blockIO: { weight: 200, weightDevice: weightDevice(400, 7) } },
      ] as LinuxResources[],
    },
  ].map((each) => ({ ...each, needs: ['io.bfq.weight'] }));
}

const ALLOW = (type: string, access: string, major?: number, minor?: number): object => ({
  allow: true,
  type,
  access,
  ...(major === undefined ? {} : { major }),
  ...(minor === undefined ? {} : { minor }),
});

const DENY_ALL = { allow: false, access: 'rwm' };

export function deviceCases({ major, minor }: Disk): readonly Case[] {
  const rules = (...devices: object[]): LinuxResources => ({ devices }) as LinuxResources;
  return [
    { name: 'devices-deny-all', steps: [rules(DENY_ALL)] },
    { name: 'devices-allow-all', steps: [rules({ allow: true, access: 'rwm' })] },
    { name: 'devices-allow-some', steps: [rules(DENY_ALL, ALLOW('c', 'rw', 10, 229), ALLOW('b', 'r', major, minor))] },
    { name: 'devices-allow-kinds', steps: [rules(DENY_ALL, ALLOW('c', 'r', 1), ALLOW('b', 'rwm'))] },
    {
      name: 'devices-deny-some',
      steps: [rules({ allow: true, access: 'rwm' }, { allow: false, type: 'c', major: 10, minor: 229, access: 'rwm' })],
    },
    {
      name: 'devices-stay-on-update',
      steps: [rules(DENY_ALL, ALLOW('c', 'rwm', 10, 229)), { pids: { limit: 77 } }],
    },
  ];
}
