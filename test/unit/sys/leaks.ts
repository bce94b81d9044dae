import assert from 'node:assert/strict';
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before } from 'node:test';
import { readMountInfo, sharedPoller, workerProgram } from '../../../src/sys/index.js';

/** Every open descriptor and what it is. */
function openFds(): Map<number, string> {
  const fds = new Map<number, string>();
  for (const name of readdirSync('/proc/self/fd')) {
    try {
      fds.set(Number(name), readlinkSync(`/proc/self/fd/${name}`));
    } catch {
      // The directory's own descriptor, closed since.
    }
  }
  return fds;
}

/**
 * Where tests mount things: begins the names of folders that no other test process takes, as these
 * run at the same time.
 */
export const MOUNT_PREFIX = join(tmpdir(), `lamina-test-${process.pid}-`);

/**
 * Call at the top of a describe block: it fails when its tests leave a descriptor or a mount
 * behind.
 */
export function expectNoLeaks(): void {
  let fdsBefore = new Map<number, string>();
  before(() => {
    // What is opened once, and stays open.
    sharedPoller();
    workerProgram();
    fdsBefore = openFds();
  });
  after(() => {
    const left = [...openFds()].filter(([fd, target]) => fdsBefore.get(fd) !== target);
    assert.deepEqual(left, [], 'descriptors left open');
    const mounts = readMountInfo().map((info) => info.mountPoint);
    assert.deepEqual(
      mounts.filter((path) => path.includes(basename(MOUNT_PREFIX))),
      [],
      'mounts left behind',
    );
  });
}

/** Closes several descriptors. */
export function closeFds(fds: Iterable<number>): void {
  for (const fd of fds) closeSync(fd);
}
