/**
 * Where we differ from runc on purpose, or runc from itself. What is not listed here, and what is
 * listed and does not occur, fails the test.
 */
import type { Difference, Row } from './compare.js';
import type { Driver } from './groups.js';

export interface Expected {
  readonly cases: RegExp;
  readonly key: RegExp;
  readonly driver?: Driver;
  readonly steps?: readonly number[];
  readonly moment?: Difference['moment'];
  readonly reason: string;
}

export const EXPECTED: readonly Expected[] = [
  {
    cases: /^pids-zero$/,
    key: /^(pids\.max|TasksMax)$/,
    reason: 'runc before 1.4 takes a pids limit of 0 for "not given"; since then it sets 1, as we do',
  },
  {
    cases: /^io-rate-zero$/,
    key: /^(outcome|io\.max)$/,
    reason: 'a rate of 0 takes the limit off, as it did on v1; runc writes it as 0, which the kernel refuses',
  },
  {
    cases: /^hugepages$/,
    key: /^hugetlb\./,
    steps: [1],
    reason: 'runc update reads no hugepageLimits',
  },
  {
    cases: /^rdma-no-such-device-later$/,
    key: /^outcome$/,
    reason: 'runc update reads no rdma',
  },
  {
    cases: /^memory-swap-none(-later)?$/,
    key: /^(MemorySwapMax|memory\.swap\.max)$/,
    driver: 'systemd',
    reason: 'runc does not tell systemd that swap is off, so a daemon-reload allows it again (moby#51446)',
  },
  {
    cases: /^unified-memory-zswap-max$/,
    key: /^(MemoryZSwapMax|memory\.zswap\.max)$/,
    driver: 'systemd',
    reason: 'runc does not tell systemd of memory.zswap.max, so a daemon-reload takes it off',
  },
  {
    cases: /^unified-memory-oom-group$/,
    key: /^OOMPolicy$/,
    driver: 'systemd',
    reason: 'runc 1.3 does not tell systemd of memory.oom.group',
  },
  {
    cases: /^unified-memory-oom-group$/,
    key: /^memory\.oom\.group$/,
    driver: 'systemd',
    moment: 'reload',
    reason: 'runc 1.3 does not tell systemd of memory.oom.group, so a daemon-reload takes it off',
  },
  {
    cases: /^unified-memory-oom-group$/,
    key: /^memory\.oom\.group$/,
    driver: 'systemd',
    steps: [1],
    moment: 'undone',
    reason:
      'systemd takes an OOMPolicy only when it makes the unit, so a daemon-reload brings back the value of that time',
  },
  {
    cases: /^devices-deny-some$/,
    key: /^(DevicePolicy|devices )/,
    driver: 'systemd',
    reason:
      'systemd knows no list of denied devices. runc tells it to deny all, which a daemon-reload makes true; we leave it out of it',
  },
  {
    cases: /^(unified-)?cpu-idle$/,
    key: /^(CPUWeight|cpu\.idle|cpu\.weight)$/,
    driver: 'systemd',
    steps: [1],
    reason: 'runc does not tell systemd that a group is idle no longer, so a daemon-reload makes it idle again',
  },
  {
    cases: /^(unified-)?io-weight$/,
    key: /^(IOWeight|io\.weight)$/,
    driver: 'systemd',
    reason: 'runc does not tell systemd of io weights, so a daemon-reload brings back the usual one',
  },
  {
    cases: /^bfq-weight(-device)?$/,
    key: /^(IO(Device)?Weight|io\.weight)$/,
    driver: 'systemd',
    reason:
      'runc does not tell systemd of io weights. What we tell it is the IOWeight that it makes the asked BFQ weight of',
  },
  {
    cases: /^bfq-weight(-device)?$/,
    key: /^io\.bfq\.weight$/,
    driver: 'systemd',
    moment: 'reload',
    reason: 'runc does not tell systemd of io weights, so a daemon-reload brings back the usual one',
  },
  {
    cases: /^bfq-weight-device$/,
    key: /^io\.bfq\.weight$/,
    driver: 'systemd',
    moment: 'undone',
    reason: 'systemd writes the weight of the group, with which BFQ forgets those per device; it is not told of them',
  },
  {
    cases: /^cpuset-absent-cpus$/,
    key: /^AllowedCPUs$/,
    driver: 'systemd',
    steps: [1],
    reason: 'runc tells systemd before the kernel refuses, and does not take it back',
  },
  {
    cases: /^cpu-period-alone$/,
    key: /^cpu\.max$/,
    driver: 'systemd',
    moment: 'undone',
    reason: 'without a quota systemd writes the default period, to no effect; with runc too',
  },
  {
    cases: /^cpu-period-refused$/,
    key: /^(cpu\.max|CPUQuota.*)$/,
    driver: 'systemd',
    reason: 'runc tells systemd before the kernel refuses, and then fails to take it back',
  },
];

function matches(expected: Expected, row: Pick<Row, 'name' | 'driver' | 'step'>, difference: Difference): boolean {
  return (
    expected.cases.test(row.name) &&
    expected.key.test(difference.key) &&
    (expected.driver ?? row.driver) === row.driver &&
    (expected.steps ?? [row.step]).includes(row.step) &&
    (expected.moment ?? difference.moment) === difference.moment
  );
}

/** Why a difference was to be expected, or undefined. */
export function findExpected(row: Row, difference: Difference): Expected | undefined {
  return EXPECTED.find((each) => matches(each, row, difference));
}

/**
 * Those that should have occurred among the rows and did not. One whose cases were not run is not
 * asked for.
 */
export function missingExpected(rows: readonly Row[]): Expected[] {
  const found = new Set(rows.flatMap((row) => row.differences.map((difference) => findExpected(row, difference))));
  return EXPECTED.filter((each) => {
    const isRun = rows.some((row) => each.cases.test(row.name) && (each.driver ?? row.driver) === row.driver);
    return isRun && !found.has(each);
  });
}
