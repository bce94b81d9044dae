/**
 * Sets every field of OCI `linux.resources` through our manager and through runc, and compares all
 * that the kernel and systemd then say of the two groups, before and after a daemon-reload.
 *
 * LAMINA_TEST_CONFORMANCE=rare leaves out what any kernel can do: for the slow machine, after all
 * of it was done on the quick one.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { RESOURCE_FIELDS } from '../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../src/oci/index.js';
import { runCommand } from '../../lib/command.js';
import { requires } from '../../lib/requires.js';
import { type Case, type Disk, NOTHING } from './conformance/case.js';
import { allCases } from './conformance/cases.js';
import { type Row, runCases } from './conformance/compare.js';
import { bfqCases } from './conformance/disk-cases.js';
import { findExpected, missingExpected } from './conformance/expected.js';
import {
  cleanGroups,
  type Driver,
  groupsLeft,
  PARENT_PATH,
  prepareGroups,
  removeParents,
} from './conformance/groups.js';
import { saveRows } from './conformance/results.js';

const ROOT = '/sys/fs/cgroup';
const ONLY_RARE = process.env['LAMINA_TEST_CONFORMANCE'] === 'rare';

const skip = requires({ root: true, cgroup: 'v2', systemd: true, runc: '1.2' });

/** The files of a group for which every controller is enabled. */
function availableFiles(): ReadonlySet<string> {
  const parent = join(ROOT, PARENT_PATH);
  mkdirSync(join(parent, 'probe'), { recursive: true });
  for (const dir of [ROOT, parent]) {
    const controllers = readFileSync(join(dir, 'cgroup.controllers'), 'utf8').trim().split(' ');
    for (const controller of controllers) writeFileSync(join(dir, 'cgroup.subtree_control'), `+${controller}`);
  }
  const files = new Set(readdirSync(join(parent, 'probe')));
  rmdirSync(join(parent, 'probe'));
  return files;
}

/** The device number of a disk, of the machine's first unless one is named. */
function diskOf(path?: string): Disk {
  if (path !== undefined) {
    const { rdev } = statSync(path);
    return { major: rdev >> 8, minor: rdev & 0xff };
  }
  const [, major, minor] = /^ +(\d+) +(\d+) +\d+ \w+$/m.exec(readFileSync('/proc/partitions', 'utf8')) ?? [];
  return { major: Number(major), minor: Number(minor) };
}

/** True if the resources have something at the field, a path as in RESOURCE_FIELDS. */
function touches(value: unknown, [name, ...rest]: readonly string[]): boolean {
  if (name === undefined) return value !== undefined;
  if (typeof value !== 'object' || value === null) return false;
  const member = (value as Record<string, unknown>)[name.replace(/(\[\]|\{\})$/, '')];
  if (!/[\]}]$/.test(name)) return touches(member, rest);
  return Object.values(member ?? {}).some((element) => touches(element, rest));
}

function describeRow(row: Row): string[] {
  const unexpected = row.differences.filter((difference) => findExpected(row, difference) === undefined);
  return [
    ...unexpected.map(({ key, moment, lamina, runc }) => `${moment} ${key}: ours ${lamina}, runc's ${runc}`),
    ...(unexpected.length > 0 ? Object.entries(row.errors).map(([maker, error]) => `${maker} said: ${error}`) : []),
  ];
}

function compare(
  driver: Driver,
  what: string,
  cases: () => readonly Case[],
  disk: () => Disk,
  prepare?: () => Promise<void>,
): void {
  describe(`${what} with the ${driver} driver`, { skip }, () => {
    let rows: Row[] = [];
    let files: ReadonlySet<string> = new Set();
    let ours: string[] = [];

    before(async () => {
      await prepare?.();
      files = availableFiles();
      const possible = cases().filter(({ needs = [] }) => needs.every((file) => files.has(file)));
      if (possible.length > 0) rows = await runCases(driver, possible, disk());
      ours = groupsLeft(driver).filter((dir) => basename(dir).startsWith('lamina-'));
      await saveRows(rows);
    });

    after(removeParents);

    for (const { name, needs = [], steps, refused = [], refusedByFs = [] } of skip === false ? cases() : []) {
      it(name, (t) => {
        const missing = needs.filter((file) => !files.has(file));
        if (missing.length > 0) return t.skip(`this kernel has no ${missing.join(', ')}`);
        const own = rows.filter((row) => row.name === name);
        assert.deepEqual(own.flatMap(describeRow), []);
        const refusals = driver === 'fs' ? [...refused, ...refusedByFs] : refused;
        const expectedRefusals = steps.map((_, step) => refusals.includes(step));
        assert.deepEqual(
          own.map((row) => row.errors.lamina !== undefined),
          expectedRefusals.slice(0, own.length),
        );
        assert.ok(own.length > 0, 'not run');
      });
    }

    it('differs wherever it is said to', () => {
      assert.deepEqual(missingExpected(rows), []);
    });

    it('leaves nothing behind', async () => {
      assert.deepEqual(ours, []);
      await removeParents();
      assert.equal(existsSync(join(ROOT, PARENT_PATH)), false);
      const args = ['--all', '--plain', '--no-legend', '--type=scope,slice', 'lamina*', 'runc*'];
      const { stdout } = await runCommand(['systemctl', 'list-units', ...args]);
      assert.equal(stdout.trim(), '');
    });
  });
}

if (skip === false) {
  before(prepareGroups);
  after(cleanGroups);
}

const disk = skip === false ? diskOf() : { major: 0, minor: 0 };
const swapDisk = (): Disk => diskOf(process.env['LAMINA_TEST_SWAP']);
const wanted = allCases(disk).filter(({ name, needs }) => !ONLY_RARE || needs !== undefined || name === NOTHING);
for (const driver of ['fs', 'systemd'] as const)
  compare(
    driver,
    'limits',
    () => wanted,
    () => disk,
  );

/** BFQ comes as a module, and from then on its file takes the place of io.weight: so it is last. */
async function useBfq(): Promise<void> {
  const name = (process.env['LAMINA_TEST_SWAP'] ?? '').replace('/dev/', '');
  await runCommand(['modprobe', 'bfq']);
  const scheduler = `/sys/block/${name}/queue/scheduler`;
  if (existsSync('/sys/module/bfq') && existsSync(scheduler)) writeFileSync(scheduler, 'bfq');
}
for (const driver of ['fs', 'systemd'] as const) compare(driver, 'BFQ', () => bfqCases(swapDisk()), swapDisk, useBfq);

describe('the cases', () => {
  it('touch every field there is', () => {
    const steps: readonly LinuxResources[] = [...allCases(disk), ...bfqCases(disk)].flatMap((each) => each.steps);
    const untouched = RESOURCE_FIELDS.filter(({ field }) => !steps.some((step) => touches(step, field.split('.'))));
    assert.deepEqual(untouched, []);
  });
});
