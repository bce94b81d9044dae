import assert from 'node:assert/strict';
import { mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { Command, mustRun } from '../../lib/command.js';
import { Containerd } from '../../lib/containerd.js';
import { Leaks } from '../../lib/leaks.js';
import { cgroupMode, requires } from '../../lib/requires.js';

const skip = requires({ root: true, runc: '1.1', containerd: '1.6', programs: ['ctr'] });

const compare = (a: string, b: string): number => (a < b ? -1 : 1);

// Each kind of leak is planted once: a check that finds nothing must not be one that cannot find
// anything.
describe('leak check', { skip }, () => {
  let daemon: Containerd;
  let leaks: Leaks;

  before(async () => {
    daemon = await Containerd.start();
    await daemon.namespace('leaks');
    leaks = new Leaks(daemon);
  });

  after(async () => {
    await daemon.stop();
    daemon.removeFolder();
  });

  const found = (kind: string): string[] => leaks.find().filter((name) => name.startsWith(`${kind}: `));

  it('names the daemon itself and its sockets while it runs', () => {
    assert.match(found('process').join('\n'), /containerd --config/);
    assert.notDeepEqual(found('listening socket'), []);
  });

  it('finds nothing once the daemon has stopped', async () => {
    await daemon.stop();
    await leaks.check();
  });

  it('names a process by its environment', async () => {
    const sleeper = new Command(['sleep', '1000'], { env: { LAMINA_STATE_DIR: join(daemon.dir, 'lamina') } });
    try {
      await assert.rejects(leaks.check(50), /process: \d+ .*sleep 1000/);
    } finally {
      sleeper.kill();
      await sleeper.result();
    }
    await leaks.check();
  });

  it('names a mount', async () => {
    const target = join(daemon.dir, 'mnt');
    mkdirSync(target);
    await mustRun(['mount', '-t', 'tmpfs', 'none', target]);
    try {
      assert.deepEqual(found('mount'), [`mount: ${target}`]);
    } finally {
      await mustRun(['umount', target]);
    }
    await leaks.check();
  });

  it('names a cgroup with something in it, and removes the empty one of a namespace', async () => {
    const root = cgroupMode() === 'v2' ? '/sys/fs/cgroup' : '/sys/fs/cgroup/pids';
    const parent = join(root, `${daemon.marker}-leaks`);
    mkdirSync(join(parent, 'c1'), { recursive: true });
    try {
      assert.deepEqual(found('cgroup').toSorted(compare), [`cgroup: ${parent}`, `cgroup: ${parent}/c1`]);
    } finally {
      rmdirSync(join(parent, 'c1'));
    }
    await leaks.check();
  });

  it('names files in the temporary directory, bundles, FIFOs, state and shim sockets', async () => {
    daemon.track('ns', 'c1');
    const socket = daemon.socketPath('ns', 'c1');
    const bundle = daemon.bundle(`${daemon.marker}-leaks`, 'c1');
    const paths = ['tmp/pty1', 'fifo/1', 'lamina/engine-0.sock'].map((path) => join(daemon.dir, path));
    mkdirSync(join(daemon.dir, 'lamina'), { recursive: true });
    mkdirSync('/run/containerd/s', { recursive: true, mode: 0o700 });
    mkdirSync(bundle, { recursive: true });
    for (const path of [...paths, socket]) writeFileSync(path, '');
    try {
      const expected = [
        `FIFO: ${daemon.dir}/fifo/1`,
        `bundle: ${bundle}`,
        `socket file: ${socket}`,
        `state file: ${daemon.dir}/lamina/engine-0.sock`,
        `temporary file: ${daemon.dir}/tmp/pty1`,
      ];
      assert.deepEqual(leaks.find().toSorted(compare), expected);
    } finally {
      for (const path of [...paths, socket, bundle]) rmSync(path, { recursive: true });
    }
    await leaks.check();
  });
});
