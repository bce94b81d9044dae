import assert from 'node:assert/strict';
import { closeSync, readdirSync, readlinkSync } from 'node:fs';
import { after, before } from 'node:test';
import { readMountInfo, sharedPoller } from '../../../src/sys/index.js';

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

/** Call at the top of a describe block: it fails when its tests leave a descriptor or a mount behind. */
export function expectNoLeaks(): void {
  let fdsBefore = new Map<number, string>();
  let mountsBefore: string[] = [];
  before(() => {
    sharedPoller();
    fdsBefore = openFds();
    mountsBefore = readMountInfo().map((info) => info.mountPoint);
  });
  after(() => {
    const left = [...openFds()].filter(([fd, target]) => fdsBefore.get(fd) !== target);
    assert.deepEqual(left, [], 'descriptors left open');
    const mounts = readMountInfo().map((info) => info.mountPoint);
    assert.deepEqual(
      mounts.filter((path) => !mountsBefore.includes(path) && path.includes('lamina-test')),
      [],
      'mounts left behind',
    );
  });
}

/** Closes several descriptors. */
export function closeFds(fds: Iterable<number>): void {
  for (const fd of fds) closeSync(fd);
}
