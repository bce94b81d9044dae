import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bareRun } from '../../lib/bare.js';
import type { Box } from '../../lib/box.js';
import type { CommandResult } from '../../lib/command.js';
import { shimSuite } from '../../lib/parity.js';
import { bareSpec } from '../../lib/spec.js';

/** `ctr run` that must fail with a text that names the cause; leaves no container. */
async function failingRun(box: Box, argv: readonly string[], flags: readonly string[] = []): Promise<CommandResult> {
  const id = box.id();
  const result = await box.ctr(box.runArgs(id, argv, { flags: ['--rm', ...flags] }));
  await box.remove(id);
  assert.notEqual(result.code, 0);
  return result;
}

/**
 * Runs ctr commands against a container in a certain state; the results are compared with stock's.
 */
type Attempt = readonly [title: string, args: (id: string, box: Box) => string[], expected: RegExp];

const ON_STOPPED: readonly Attempt[] = [
  ['pause', (id) => ['tasks', 'pause', id], /cannot pause a stopped container/],
  ['resume', (id) => ['tasks', 'resume', id], /cannot resume a stopped container/],
  ['kill', (id) => ['tasks', 'kill', id], /process already finished: not found/],
  ['exec in', (id, box) => box.execArgs(id, ['true']), /init process is not running|cannot exec in a stopped state/],
  ['start', (id) => ['tasks', 'start', '--null-io', id], /already exists/],
];

const ON_RUNNING: readonly Attempt[] = [
  ['delete', (id) => ['tasks', 'rm', id], /must be stopped before deletion/],
  ['resume', (id) => ['tasks', 'resume', id], /cannot resume a running process/],
  ['start', (id) => ['tasks', 'start', '--null-io', id], /already exists/],
  ['send an unknown signal to', (id) => ['tasks', 'kill', '-s', 'SIGNONE', id], /invalid signal/],
  ['kill an unknown exec of', (id) => ['tasks', 'kill', '--exec-id', 'none', id], /not found/],
  ['delete an unknown exec of', (id) => ['tasks', 'rm', '--exec-id', 'none', id], /not found/],
];

const ON_PAUSED: readonly Attempt[] = [
  ['pause', (id) => ['tasks', 'pause', id], /cannot pause a paused container/],
  ['exec in', (id, box) => box.execArgs(id, ['true']), /cannot exec in a paused state/],
  ['delete', (id) => ['tasks', 'rm', id], /must be stopped before deletion|cannot delete a paused process/],
];

const ON_NOTHING: readonly Attempt[] = [
  ['pause', (id) => ['tasks', 'pause', id], /not found/],
  ['kill', (id) => ['tasks', 'kill', id], /not found/],
  ['exec in', (id, box) => box.execArgs(id, ['true']), /not found/],
  ['list processes of', (id) => ['tasks', 'ps', id], /not found/],
  ['measure', (id) => ['tasks', 'metrics', id], /not found/],
];

shimSuite('bad input', ({ scenario }) => {
  const attempts = (state: string, list: readonly Attempt[], prepare: (box: Box) => Promise<string>): void => {
    for (const [title, args, expected] of list) {
      scenario(`refuses to ${title} a ${state} container`, async (box) => {
        const id = await prepare(box);
        const result = await box.ctr(args(id, box));
        await box.remove(id);
        assert.notEqual(result.code, 0);
        assert.match(result.stderr, expected);
        return result;
      });
    }
  };

  attempts('stopped', ON_STOPPED, async (box) => {
    const id = await box.start(['true']);
    await box.waitForStatus(id, 'STOPPED');
    return id;
  });
  attempts('running', ON_RUNNING, (box) => box.start(['sleep', '1000']));
  attempts('paused', ON_PAUSED, async (box) => {
    const id = await box.start(['sleep', '1000']);
    await box.must(['tasks', 'pause', id]);
    return id;
  });
  attempts('missing', ON_NOTHING, (box) => Promise.resolve(box.id()));

  for (const program of ['/no/such/program', 'nosuchprogram', '/bin/not-a-program', '/tmp']) {
    scenario(`names a program that cannot be run: ${program}`, async (box) => {
      const result = await failingRun(box, [program]);
      assert.match(result.stderr, /OCI runtime create failed: runc create failed: unable to start container process/);
      return result;
    });
  }

  scenario('names a working directory that cannot be entered', async (box) => {
    const result = await failingRun(box, ['true'], ['--cwd', '/bin/busybox']);
    assert.match(result.stderr, /not a directory/);
    return result;
  });

  scenario('names a mount that cannot be made', async (box) => {
    const result = await failingRun(
      box,
      ['true'],
      ['--mount', 'type=bind,src=/no/such/source,dst=/mnt,options=rbind:ro'],
    );
    assert.match(result.stderr, /no such file or directory/);
    return result;
  });

  scenario('names a namespace that does not exist', async (box) => {
    const result = await failingRun(box, ['true'], ['--with-ns', 'network:/no/such/namespace']);
    assert.match(result.stderr, /no such file or directory|lstat/);
    return result;
  });

  scenario('names a spec with an unknown capability or namespace type', async (box) => {
    const file = join(box.daemon.dir, 'work', `broken-${box.runtime.label}.json`);
    const spec = bareSpec({ args: ['true'], rootfs: '/no/such/rootfs', cgroupsPath: `/${box.namespace}/broken` });
    writeFileSync(file, JSON.stringify(spec));
    const id = box.id();
    const result = await box.ctr(box.runArgs(id, [], { flags: ['--rm', '--config', file], image: null }));
    await box.remove(id);
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, /rootfs|no such file/);
    return result;
  });

  scenario('refuses an id that is in use', async (box) => {
    const id = await box.start(['sleep', '1000']);
    const result = await box.ctr(box.runArgs(id, ['true'], { flags: ['-d', '--null-io'] }));
    assert.match(result.stderr, /already exists/);
    assert.equal(await box.status(id), 'RUNNING');
    await box.remove(id);
    return result;
  });

  scenario('says what an OCI hook said when it fails', async (box) => {
    const hook = join(box.daemon.dir, 'work', `hook-${box.runtime.label}`);
    writeFileSync(hook, '#!/bin/sh\necho hook says no >&2\nexit 3\n');
    chmodSync(hook, 0o755);
    const { args, options } = bareRun(box, 'hooked', { args: ['/bin/true'], hooks: { prestart: [{ path: hook }] } });
    const id = box.id();
    const result = await box.ctr(box.runArgs(id, args, { ...options, flags: ['--rm', ...(options.flags ?? [])] }));
    await box.remove(id);
    assert.notEqual(result.code, 0);
    assert.match(result.stderr, /hook says no/);
    return result;
  });
});
