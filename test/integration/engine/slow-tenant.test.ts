/** What a tenant makes slow holds up its own calls, and nobody else's. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { LAMINA } from '../../lib/box.js';
import { copyRootfs } from '../../lib/image.js';
import { listProcesses, readProcFile } from '../../lib/proc.js';
import { replaceEngine } from '../../lib/processes.js';
import { cgroupMode, requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { SlowMount } from '../../lib/slow-mount.js';
import { killAndDelete, shutdown } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

const files = { '/dev/fuse': 'a kernel with FUSE' };
const skip = requires({ root: true, runc: '1.1', programs: ['losetup'], files }) || LAMINA.skip;
const SLEEP = ['/bin/sleep', '1000'];
/** One more than libuv has threads. */
const CONTAINERS = 5;
/** A create takes a tenth of a second. */
const NEIGHBOUR_MS = 30_000;
const CACHE_BYTES = 192 << 20;
const LIMIT_BYTES = 16 << 20;

describe('a slow tenant', { skip }, () => {
  let daemon: FakeDaemon;
  let image: string;
  const mounts: SlowMount[] = [];

  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    image = join(daemon.dir, 'image');
    copyRootfs(image);
  });

  after(async () => {
    await release();
    await daemon.stop();
  });

  async function release(): Promise<void> {
    for (const mount of mounts.splice(0)) await mount.release();
  }

  /** Create with an overlay. @returns the pid of init */
  async function createOnOverlay(shim: ShimHandle): Promise<number> {
    const layers = ['upper', 'work'].map((name) => join(daemon.dir, `${shim.id}-${name}`));
    for (const layer of layers) mkdirSync(layer);
    const [upper, work] = layers;
    const options = [`lowerdir=${image}`, `upperdir=${upper}`, `workdir=${work}`];
    return await daemon.create(shim, { rootfs: [{ type: 'overlay', source: 'overlay', target: '', options }] });
  }

  /**
   * A container that has ended, and whose root file system cannot be unmounted before `release`.
   */
  async function slowContainer(): Promise<ShimHandle> {
    const shim = await daemon.launch({ args: SLEEP });
    await createOnOverlay(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    await shim.task.kill({ id: shim.id, execId: '', signal: 9, all: false });
    await shim.task.wait({ id: shim.id, execId: '' });
    mounts.push(await SlowMount.on(join(shim.bundle, 'rootfs/slow'), join(daemon.dir, `${shim.id}-image`)));
    return shim;
  }

  /** The life of another container. */
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
      timer = setTimeout(() => reject(new Error('the neighbour waits for the slow tenant')), NEIGHBOUR_MS);
    });
    try {
      await Promise.race([life, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** How much of a container's memory is used. */
  const usage = (pid: number): number => {
    const [, path = ''] = /^(?:\d+:memory|0:):(.*)$/m.exec(readProcFile(pid, 'cgroup')) ?? [];
    const file = cgroupMode() === 'v1' ? `memory${path}/memory.usage_in_bytes` : `${path}/memory.current`;
    return Number(readFileSync(join('/sys/fs/cgroup', file), 'utf8'));
  };

  const unmounting = (id: string): number =>
    listProcesses().filter(({ commandLine }) => commandLine.includes('unmount') && commandLine.includes(id)).length;

  it('with an unmount that waits holds up its own Delete, however many there are', async () => {
    const slow: ShimHandle[] = [];
    for (let n = 0; n < CONTAINERS; n += 1) slow.push(await slowContainer());
    let deleted = 0;
    const deletes = slow.map(async ({ task, id }) => {
      await task.delete({ id, execId: '' });
      deleted += 1;
    });
    const life = neighbour();
    try {
      await inTime(life);
      assert.equal(deleted, 0, 'the unmount is not slow');
    } finally {
      await release();
    }
    await life;
    await Promise.all(deletes);
    for (const shim of slow) await shutdown(shim);
  });

  it('is waited for by the successor of an engine that dies meanwhile, which unmounts nothing twice at a time', async () => {
    const slow = await slowContainer();
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
      await release();
    }
    await deleted;
    await shutdown(slow);
  });

  it('whose memory limit is lowered below what it uses holds up its own Update', async () => {
    const other = await daemon.launch({ args: SLEEP });
    await daemon.create(other);
    await other.task.start({ id: other.id, execId: '' });
    const write = `dd if=/dev/zero of=/big bs=1M count=${CACHE_BYTES >> 20}; exec sleep 1000`;
    const shim = await daemon.launch({ args: ['/bin/sh', '-c', write] });
    const pid = await createOnOverlay(shim);
    await shim.task.start({ id: shim.id, execId: '' });
    await until('its cache is large', () => usage(pid) > CACHE_BYTES * 0.9, { detail: () => `${usage(pid)}` });
    const resources = api.packJson(api.OCI_TYPE_URL.linuxResources, { memory: { limit: LIMIT_BYTES } });
    let isOver = false;
    // Whether the kernel gives up in the end is its business.
    const update = shim.task
      .update({ id: shim.id, resources, annotations: {} })
      .catch(() => undefined)
      .finally(() => {
        isOver = true;
      });
    let answers = 0;
    for (; !isOver; answers += 1) await other.task.stats({ id: other.id });
    await update;
    // One that came before it began, and one that came with its answer.
    assert.ok(answers > 2, `${answers} calls of a neighbour were answered meanwhile`);
    for (const each of [shim, other]) {
      await killAndDelete(each);
      await shutdown(each);
    }
  });
});
