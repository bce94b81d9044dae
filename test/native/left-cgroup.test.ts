import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { nestGroups, plainHierarchy, spreadGroups } from '../lib/deep-groups.js';
import { requires } from '../lib/requires.js';
import { Bed, KEEPER, type RunResult, run } from './harness.js';

const MIB = 1 << 20;
/** Together longer than a path may be. */
const NAME = 'n'.repeat(40);
const LEVELS = 2000;

describe('the cgroup that delete finds left', { skip: requires({ root: true }) }, () => {
  const path = `/lamina-left-${process.pid}`;
  const dir = `${plainHierarchy()}${path}`;
  let bed: Bed;

  beforeEach(() => {
    bed = new Bed();
    const runtime = join(bed.dir, 'fake-runc');
    writeFileSync(runtime, '#!/bin/sh\n');
    chmodSync(runtime, 0o755);
    writeFileSync(join(bed.bundle, 'runtime'), runtime);
    writeFileSync(join(bed.bundle, 'options.json'), JSON.stringify({ root: join(bed.dir, 'root') }));
    mkdirSync(join(bed.dir, 'root', 'test', 'one'), { recursive: true });
    mkdirSync(dir);
  });
  afterEach(async () => {
    await bed.close();
    assert.equal(existsSync(dir), false);
  });

  /** @param paddingBytes of an annotation before it */
  function config(paddingBytes: number): void {
    const spec = { annotations: { padding: 'x'.repeat(paddingBytes) }, linux: { cgroupsPath: path } };
    writeFileSync(join(bed.bundle, 'config.json'), JSON.stringify(spec));
  }

  /** With so few descriptors that a walk may not take one for each level. */
  function remove(): Promise<RunResult> {
    const script = 'ulimit -n 24; ulimit -s 256; exec "$KEEPER" -namespace test -id one delete';
    return run('sh', ['-c', script], { cwd: bed.bundle, env: { ...bed.env, KEEPER } });
  }

  it('is found in a config.json of any size that start takes', async () => {
    config(8 * MIB);
    const { code, stderr } = await remove();
    assert.deepEqual([code, stderr], [0, '']);
    assert.equal(existsSync(dir), false);
  });

  it('is removed however deep and wide groups are nested in it', async () => {
    config(0);
    nestGroups(dir, LEVELS, NAME);
    spreadGroups(dir, 300);
    spreadGroups(`${dir}/${NAME}`, 300);
    const { code, stderr } = await remove();
    assert.deepEqual([code, stderr], [0, '']);
    assert.equal(existsSync(dir), false);
  });

  it('is left, and all that is empty in it removed, while there is a process in it', async () => {
    config(0);
    mkdirSync(`${dir}/a/b/c`, { recursive: true });
    mkdirSync(`${dir}/a/d/e`, { recursive: true });
    const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    writeFileSync(`${dir}/a/b/cgroup.procs`, String(child.pid));
    const { code, stderr } = await remove();
    child.kill('SIGKILL');
    await exited;
    assert.equal(code, 0);
    assert.match(stderr, /warning: remove .*: Device or resource busy/);
    const left = readdirSync(dir, { withFileTypes: true, recursive: true }).filter((entry) => entry.isDirectory());
    assert.deepEqual(left.map(({ name }) => name).sort(), ['a', 'b']);
    for (const group of ['a/b', 'a', '.']) rmdirSync(join(dir, group));
  });
});
