/**
 * What the suites about limits share: a limit as it is set, the files of a group that show it, and
 * the disk that limits are for.
 */
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import { type Applied, RESOURCE_FIELDS } from '../../../src/cgroups/resources/index.js';
import type { LinuxResources } from '../../../src/oci/index.js';

export const MIB = 1 << 20;
/** Holds a buffer of so much, as nobody reads what is in it. */
export const HOLD_8_MIB = 'dd if=/dev/zero bs=8M count=1 2>/dev/null | sleep 60';
export const NO_DEVICE = { major: 4095, minor: 7 };

/** A whole disk; throttling refuses partitions. */
function findDisk(): { major: number; minor: number } | undefined {
  const names = fs.existsSync('/sys/block') ? fs.readdirSync('/sys/block') : [];
  const name = names.find((each) => /^([sv]d|ubd|nvme|loop)/.test(each));
  if (name === undefined) return undefined;
  const [major = 0, minor = 0] = fs.readFileSync(`/sys/block/${name}/dev`, 'utf8').split(':').map(Number);
  return { major, minor };
}

const disk = findDisk();
export const DISK = `${disk?.major}:${disk?.minor}`;

export function throttle(rate: number): { major: number; minor: number; rate: number }[] {
  return disk === undefined ? [] : [{ ...disk, rate }];
}

/** One limit as it is set, and what the files show then. */
export interface Row {
  readonly update: LinuxResources;
  readonly shows: Readonly<Record<string, string>>;
}

/** The files of a group that limits go to. */
export class Limits {
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

  /**
   * Why a row cannot be tried. A test that skips itself would leave its group: its hooks are not
   * run.
   */
  static lacks(present: ReadonlySet<string>, ...files: string[]): string | false {
    const file = files.find((each) => !present.has(each));
    if (file !== undefined) return `there is no ${file} here`;
    return disk === undefined && files.some((each) => /throttle|io\.max/.test(each)) && 'there is no disk here';
  }
}

/** Sets a row on a fresh group, compares, undoes it, compares again. */
export async function assertRow(limits: Limits, { shows }: Row, set: () => Promise<Applied>): Promise<void> {
  const before = limits.all();
  const applied = await set();
  for (const [file, content] of Object.entries(shows)) assert.equal(limits.read(file), content, file);
  await applied.undo();
  assert.deepEqual(limits.all(), before);
}

export function title({ update }: Row): string {
  return JSON.stringify(update);
}
