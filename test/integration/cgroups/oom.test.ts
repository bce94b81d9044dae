/**
 * OOM kills whose group has gone before anybody could look, on the real kernel: as under systemd,
 * which removes a scope the moment it is empty. The watch's notifications come through the event
 * loop, which does not run while a group is made, emptied and removed here.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { Cgroup, type CgroupLayout, currentLayout, type InitExit } from '../../../src/cgroups/index.js';
import { requires } from '../../lib/requires.js';

const NAME = `lamina-oom-${process.pid}`;
const LIMIT_BYTES = 8 << 20;
const SIGKILL = 9;

interface Backend {
  readonly title: string;
  readonly skip: string | false;
  readonly layout: CgroupLayout;
  readonly root: string;
  readonly limitFile: string;
  /** For a shell: the group has hit its limit. */
  readonly assertShortage: string;
}

function backends(layout: CgroupLayout): Backend[] {
  const v1 = layout.mode === 'unified' ? undefined : layout.controllers.get('memory')?.mountPoint;
  const v2 = layout.mode === 'unified' ? layout.unified.mountPoint : undefined;
  return [
    {
      title: 'v1',
      skip: v1 === undefined && 'no v1 memory controller',
      layout,
      root: v1 ?? '',
      limitFile: 'memory.limit_in_bytes',
      assertShortage: `[ "$(cat ${v1}/${NAME}/memory.failcnt)" -gt 0 ]`,
    },
    {
      title: 'v2',
      skip: v2 === undefined && 'no v2 memory controller',
      layout,
      root: v2 ?? '',
      limitFile: 'memory.max',
      assertShortage: `! grep -qx 'max 0' ${v2}/${NAME}/memory.events`,
    },
  ];
}

const missing = requires({ root: true });
const layout: CgroupLayout = missing === false ? currentLayout() : { mode: 'legacy', controllers: new Map() };

for (const backend of backends(layout)) {
  describe(`an OOM kill in a group that has gone, on ${backend.title}`, { skip: missing || backend.skip }, () => {
    const dir = `${backend.root}/${NAME}`;
    let seen: bigint[];

    beforeEach(() => {
      seen = [];
      fs.mkdirSync(dir);
      Cgroup.load(`/${NAME}`, backend).enableControllersAlongPath();
      fs.writeFileSync(`${dir}/${backend.limitFile}`, String(LIMIT_BYTES));
    });

    afterEach(() => assert.equal(fs.existsSync(dir), false));

    /**
     * Runs a shell script in the group and removes that; nothing else runs meanwhile. Returns how
     * the shell, or what it became, ended.
     */
    function runToTheEnd(script: string): InitExit {
      const run = spawnSync('sh', ['-c', `echo $$ > ${dir}/cgroup.procs; ${script}`], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      // The kernel takes a moment to see that the group is empty.
      for (;;) {
        try {
          fs.rmdirSync(dir);
          break;
        } catch (error) {
          assert.equal((error as NodeJS.ErrnoException).code, 'EBUSY');
        }
      }
      return { pid: run.pid, wasKilled: run.signal === 'SIGKILL' || run.status === 128 + SIGKILL, wasKillAsked: false };
    }

    it('is reported when init was killed', () => {
      using watch = Cgroup.load(`/${NAME}`, backend).watchOom((kills) => seen.push(kills));
      const exit = runToTheEnd('exec tail /dev/zero');
      assert.equal(exit.wasKilled, true);
      watch.drain(exit);
      watch.drain(exit);
      assert.deepEqual(seen, [1n]);
    });

    it('is reported when a child of init was killed and init has gone on', () => {
      using watch = Cgroup.load(`/${NAME}`, backend).watchOom((kills) => seen.push(kills));
      const exit = runToTheEnd('tail /dev/zero; exit 3');
      assert.equal(exit.wasKilled, false);
      watch.drain(exit);
      assert.deepEqual(seen, [1n]);
    });

    it('is not reported of a group of the same name before', () => {
      const exit = runToTheEnd('exec tail /dev/zero');
      fs.mkdirSync(dir);
      using watch = Cgroup.load(`/${NAME}`, backend).watchOom((kills) => seen.push(kills));
      runToTheEnd('exit 0');
      watch.drain(exit);
      assert.deepEqual(seen, []);
    });

    it('is not made up when somebody kills an init that has run short of memory', () => {
      // Clean page cache of a file on a disk: it counts, and can be reclaimed at any time. What is
      // cached already would not count.
      const file = `/var/tmp/${NAME}`;
      fs.writeFileSync(file, Buffer.alloc(4 * LIMIT_BYTES));
      try {
        spawnSync('dd', [`of=${file}`, 'oflag=nocache', 'conv=notrunc,fdatasync', 'count=0']);
        using watch = Cgroup.load(`/${NAME}`, backend).watchOom((kills) => seen.push(kills));
        const exit = runToTheEnd(`cat ${file} >/dev/null; ${backend.assertShortage} || exit 1; kill -9 $$`);
        assert.equal(exit.wasKilled, true);
        watch.drain(exit);
        assert.deepEqual(seen, []);
      } finally {
        fs.rmSync(file, { force: true });
      }
    });
  });
}
