/**
 * A runtime, a keeper or both are killed while a container or an exec is being made (containerd
 * #10590, #10649): nothing of it stays, no process, no cgroup, no scope, no state. Held in a hook,
 * `runc create` has made the cgroup and started `runc init`, and not written its state yet.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import * as api from '../../src/api/index.js';
import { SIGKILL } from '../../src/sys/index.js';
import { LAMINA } from './box.js';
import { groupsOf, nothingLeft, processesOf } from './leftovers.js';
import { isAlive } from './proc.js';
import { strikeEngines } from './processes.js';
import { FakeDaemon, type ShimHandle } from './shim-client.js';
import { bareProcess } from './spec.js';
import { until } from './wait.js';

export interface HalfMadePlace {
  readonly skip: string | false;
  /** Let systemd make the scopes. */
  readonly systemd?: boolean;
}

export function halfMadeSuite({ skip, systemd = false }: HalfMadePlace): void {
  describe(`what is half made, with ${systemd ? 'systemd' : 'cgroupfs'}`, { skip: skip || LAMINA.skip }, () => {
    let daemon: FakeDaemon;
    let dir: string;
    let shim: ShimHandle;

    before(async () => {
      daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
    });
    after(() => daemon.stop());

    beforeEach(() => {
      dir = join(daemon.dir, `held-${Math.random().toString(36).slice(2)}`);
      mkdirSync(dir);
    });

    /** Whatever is held goes on, and ends. */
    afterEach(() => writeFileSync(join(dir, 'go'), ''));

    const hold = (): string =>
      `echo $$ $PPID >${dir}/held.new; mv ${dir}/held.new ${dir}/held; while [ ! -e ${dir}/go ]; do sleep 0.02; done`;

    /** Pids of what is held and of its parent. */
    const held = async (): Promise<[number, number]> => {
      await until('something is held', () => existsSync(join(dir, 'held')));
      const [own = '', parent = ''] = readFileSync(join(dir, 'held'), 'utf8').trim().split(' ');
      return [Number(own), Number(parent)];
    };

    const launch = async (
      hooks: Readonly<Record<string, readonly object[]>> = {},
      args: readonly string[] = ['/bin/sleep', '1000'],
    ): Promise<void> => {
      const cgroupsPath = systemd ? { cgroupsPath: (id: string) => `system.slice:lamina:${id}` } : {};
      shim = await daemon.launch({ args, hooks, ...cgroupsPath });
    };

    const create = async (binaryName = ''): Promise<number> => {
      const options = api.runc.Options.fromPartial({ systemdCgroup: systemd, binaryName });
      return await daemon.create(shim, { options: api.packMessage(api.runc.Options, options) });
    };

    const keeper = async (): Promise<number> => (await shim.task.connect({ id: shim.id })).shimPid;

    /**
     * @param again what the daemon may call more than once: the delete verb has only so much time
     *   for it
     */
    const assertNothingLeft = (again?: () => Promise<unknown>): Promise<void> =>
      nothingLeft(daemon, shim.id, { systemd, again });

    const hooks = (script = hold()): Readonly<Record<string, readonly object[]>> => ({
      createRuntime: [{ path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/usr/bin:/bin'] }],
    });

    it('of a create whose hook fails is removed', async () => {
      await launch(hooks('exit 1'));
      await assert.rejects(create(), /OCI runtime create failed/);
      await assertNothingLeft();
      await shim.task.shutdown({ id: shim.id, now: false });
    });

    it('of a create whose program is missing is removed', async () => {
      await launch({}, ['/no/such/program']);
      await assert.rejects(create(), /OCI runtime create failed/);
      await assertNothingLeft();
      await shim.task.shutdown({ id: shim.id, now: false });
    });

    it('of a create whose engine is killed is made anew', async () => {
      await launch(hooks());
      const creating = create();
      await held();
      strikeEngines(daemon);
      writeFileSync(join(dir, 'go'), '');
      const init = await creating;
      await shim.task.start({ id: shim.id, execId: '' });
      assert.deepEqual(
        processesOf(shim.id).map((line) => Number.parseInt(line, 10)),
        [init],
      );
      await shim.task.kill({ id: shim.id, execId: '', signal: SIGKILL, all: true });
      await shim.task.wait({ id: shim.id, execId: '' });
      await shim.task.delete({ id: shim.id, execId: '' });
      await assertNothingLeft();
      await shim.task.shutdown({ id: shim.id, now: false });
    });

    it('of a create whose runtime is killed is removed before the create has failed', async () => {
      await launch(hooks());
      const creating = assert.rejects(create(), /OCI runtime create failed/);
      const [, runtime] = await held();
      assert.notDeepEqual(await groupsOf(shim.id), [], 'the runtime has made the cgroup');
      process.kill(runtime, 'SIGKILL');
      await creating;
      await assertNothingLeft();
      await shim.task.shutdown({ id: shim.id, now: false });
    });

    it('of a create whose keeper is killed is removed by the delete verb', async () => {
      await launch(hooks());
      const creating = assert.rejects(create());
      const [, runtime] = await held();
      process.kill(await keeper(), 'SIGKILL');
      await creating;
      await until('the runtime has ended', () => !isAlive(runtime));
      await daemon.deleteVerb(shim);
      await assertNothingLeft(() => daemon.deleteVerb(shim));
    });

    it('of a create whose engine and keeper are killed, too', async () => {
      await launch(hooks());
      const creating = assert.rejects(create());
      await held();
      const pid = await keeper();
      strikeEngines(daemon);
      process.kill(pid, 'SIGKILL');
      await creating;
      await daemon.deleteVerb(shim);
      await assertNothingLeft(() => daemon.deleteVerb(shim));
    });

    it('of an exec whose keeper is killed is removed with its container', async () => {
      const runtime = join(dir, 'runtime');
      const script = `case "$*" in *" exec "*) runc "$@"; ${hold()};; *) exec runc "$@";; esac`;
      writeFileSync(runtime, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
      await launch();
      await create(runtime);
      await shim.task.start({ id: shim.id, execId: '' });
      const spec = api.packJson(api.OCI_TYPE_URL.process, bareProcess(['/bin/sleep', '1001']));
      const exec = { id: shim.id, execId: 'e' };
      await shim.task.exec({ ...exec, terminal: false, stdin: '', stdout: '', stderr: '', spec });
      const starting = assert.rejects(shim.task.start(exec));
      await held();
      assert.equal(processesOf(shim.id).length, 2);
      process.kill(await keeper(), 'SIGKILL');
      await starting;
      await daemon.deleteVerb(shim);
      await assertNothingLeft(() => daemon.deleteVerb(shim));
    });

    it('of a container that leaves children behind is removed with it', async () => {
      await launch();
      const init = await create();
      await shim.task.start({ id: shim.id, execId: '' });
      const spec = api.packJson(api.OCI_TYPE_URL.process, bareProcess(['/bin/probe', 'orphans', '5']));
      const exec = { id: shim.id, execId: 'e' };
      await shim.task.exec({ ...exec, terminal: false, stdin: '', stdout: '', stderr: '', spec });
      await shim.task.start(exec);
      await shim.task.wait(exec);
      assert.equal(processesOf(shim.id).length, 6);
      process.kill(init, 'SIGKILL');
      await shim.task.wait({ id: shim.id, execId: '' });
      await shim.task.delete({ id: shim.id, execId: '' });
      await assertNothingLeft();
      await shim.task.shutdown({ id: shim.id, now: false });
    });
  });
}
