/** A tenant's disk is slow. Its own Delete waits for it; nobody else does. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { LAMINA } from '../../lib/box.js';
import { copyRootfs } from '../../lib/image.js';
import { listProcesses } from '../../lib/proc.js';
import { replaceEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { SlowDisk } from '../../lib/slow-disk.js';
import { killAndDelete, shutdown } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1', programs: ['mke2fs', 'fsfreeze'] }) || LAMINA.skip;
const SLEEP = ['/bin/sleep', '1000'];
/** One more than libuv has threads. */
const CONTAINERS = 5;
/** A create takes a tenth of a second. */
const NEIGHBOUR_MS = 30_000;

describe('a slow disk below a root file system', { skip }, () => {
  let daemon: FakeDaemon;
  let disk: SlowDisk;
  let image: string;

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    disk = await SlowDisk.mount(join(daemon.dir, 'slow'));
    image = join(daemon.dir, 'image');
    copyRootfs(image);
  });

  after(async () => {
    await disk.unmount();
    await daemon.stop();
  });

  /** A container that has ended, with its root file system on the disk. */
  async function endedContainer(): Promise<ShimHandle> {
    const shim = await daemon.launch({ args: SLEEP });
    const layers = ['upper', 'work'].map((name) => join(disk.dir, `${shim.id}-${name}`));
    for (const layer of layers) mkdirSync(layer);
    const [upper, work] = layers;
    const options = [`lowerdir=${image}`, `upperdir=${upper}`, `workdir=${work}`];
    await daemon.create(shim, { rootfs: [{ type: 'overlay', source: 'overlay', target: '', options }] });
    await shim.task.start({ id: shim.id, execId: '' });
    await shim.task.kill({ id: shim.id, execId: '', signal: 9, all: false });
    await shim.task.wait({ id: shim.id, execId: '' });
    return shim;
  }

  /** Leaves something unwritten in each root file system, which the disk does not take. */
  async function freezeBelow(shims: readonly ShimHandle[]): Promise<void> {
    for (const { bundle } of shims) writeFileSync(join(bundle, 'rootfs', 'unwritten'), Buffer.alloc(1 << 20));
    await disk.freeze();
  }

  /** The life of a container whose disk is fast. */
  async function neighbour(): Promise<void> {
    const shim = await daemon.launch({ args: SLEEP });
    await daemon.create(shim, { rootfs: [{ type: 'bind', source: image, target: '', options: ['rbind', 'rw'] }] });
    await shim.task.start({ id: shim.id, execId: '' });
    await killAndDelete(shim);
    await shutdown(shim);
  }

  async function inTime(life: Promise<void>): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('the neighbour waits for the slow disk')), NEIGHBOUR_MS);
    });
    try {
      await Promise.race([life, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  const unmounting = (id: string): number =>
    listProcesses().filter(({ commandLine }) => commandLine.includes(`unmount`) && commandLine.includes(id)).length;

  it('holds up their own Deletes only, however many', async () => {
    const slow: ShimHandle[] = [];
    for (let n = 0; n < CONTAINERS; n += 1) slow.push(await endedContainer());
    await freezeBelow(slow);
    let deleted = 0;
    const deletes = slow.map(async ({ task, id }) => {
      await task.delete({ id, execId: '' });
      deleted += 1;
    });
    const life = neighbour();
    try {
      await inTime(life);
      assert.equal(deleted, 0, 'the disk is not slow');
    } finally {
      await disk.thaw();
    }
    await life;
    await Promise.all(deletes);
    for (const shim of slow) await shutdown(shim);
  });

  it('is waited for by the successor of an engine that dies meanwhile, which unmounts nothing twice at a time', async () => {
    const slow = await endedContainer();
    await freezeBelow([slow]);
    let isDeleted = false;
    const deleted = slow.task.delete({ id: slow.id, execId: '' }).then(() => {
      isDeleted = true;
    });
    try {
      await until('it is being unmounted', () => unmounting(slow.id) === 1);
      await replaceEngine(daemon);
      await inTime(neighbour());
      assert.equal(unmounting(slow.id), 1);
      assert.equal(isDeleted, false);
    } finally {
      await disk.thaw();
    }
    await deleted;
    await shutdown(slow);
  });
});
