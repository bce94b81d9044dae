import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { type CommandOptions, type CommandResult, mustRun, runAtTerminal, runCommand } from '../../lib/command.js';
import { imageFolder } from '../../lib/image.js';
import { requires } from '../../lib/requires.js';
import { until } from '../../lib/wait.js';
import { Leftovers } from './leftovers.js';
import { cgroupOf, missingShim, RUNTIMES, STOCK, waitForSize } from './machine.js';

const MIB = 1024 * 1024;
const IMAGE = 'lamina.test/probe:docker';

async function docker(args: readonly string[], options: CommandOptions = {}): Promise<CommandResult> {
  return await runCommand(['docker', ...args], options);
}

async function must(args: readonly string[]): Promise<string> {
  return (await mustRun(['docker', ...args])).trim();
}

async function inspect(name: string, field: string): Promise<string> {
  return await must(['inspect', '-f', `{{${field}}}`, name]);
}

async function pidOf(name: string): Promise<number> {
  return Number(await inspect(name, '.State.Pid'));
}

for (const runtime of RUNTIMES) {
  const skip =
    requires({ root: true, cgroup: 'v2', systemd: true, containerd: true, runc: true, docker: true }) ||
    missingShim(runtime);
  describe(`Docker with ${runtime}`, { skip }, () => {
    let leftovers: Leftovers;
    let wasRunning = false;
    const names: string[] = [];

    /** Starts a container in the background and returns its name. */
    async function start(name: string, flags: readonly string[], command: readonly string[]): Promise<string> {
      const full = `vm-${name}`;
      names.push(full);
      await must(['run', '-d', '--runtime', runtime, '--name', full, ...flags, IMAGE, ...command]);
      return full;
    }

    before(async () => {
      wasRunning = (await runCommand(['systemctl', 'is-active', '-q', 'docker'])).code === 0;
      await mustRun(['systemctl', 'start', 'docker']);
      const rootfs = join(imageFolder(), 'rootfs');
      await mustRun(['sh', '-c', `tar -C '${rootfs}' -c . | docker import -c 'ENV PATH=/bin' - ${IMAGE}`]);
      leftovers = new Leftovers();
    });

    after(async () => {
      for (const name of names) await docker(['rm', '-f', name]);
      await leftovers.check();
      await docker(['rmi', '-f', IMAGE]);
      if (!wasRunning) await mustRun(['systemctl', 'stop', 'docker.socket', 'docker']);
    });

    it('runs a command in the foreground and passes on its output and its status', async () => {
      const result = await docker([
        'run',
        '--rm',
        '--runtime',
        runtime,
        IMAGE,
        'sh',
        '-c',
        'echo out; echo err >&2; exit 3',
      ]);
      assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', code: 3 });
    });

    it('feeds stdin to a container', async () => {
      const argv = ['run', '--rm', '-i', '--runtime', runtime, IMAGE, 'cat'];
      assert.equal((await docker(argv, { stdin: 'through\n' })).stdout, 'through\n');
    });

    it('gives a container a terminal of the size of the caller', async () => {
      const argv = ['docker', 'run', '--rm', '-it', '--runtime', runtime, IMAGE, 'sh', '-c', waitForSize(33, 99)];
      const command = runAtTerminal(argv, { rows: 33, columns: 99 });
      await command.output(/size is right/);
      assert.equal((await command.result()).code, 9);
    });

    it('says what is wrong with a command that does not exist', async () => {
      const result = await docker(['run', '--rm', '--runtime', runtime, IMAGE, 'no-such-program']);
      assert.equal(result.code, 127);
      assert.match(result.stderr, /no-such-program/);
    });

    it('keeps a container through exec, pause, update, stats, logs, restart and stop', async () => {
      const command = ['sh', '-c', 'trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.1; done'];
      const name = await start('life', ['--network', 'none', '--memory', '64m'], command);
      const pid = await pidOf(name);
      const cgroup = cgroupOf(pid);

      assert.equal(await must(['exec', name, 'echo', 'inside']), 'inside');
      assert.equal((await docker(['exec', name, 'sh', '-c', 'exit 6'])).code, 6);
      assert.match(await must(['top', name]), new RegExp(`\\b${pid}\\b`));

      await must(['pause', name]);
      assert.equal(await inspect(name, '.State.Status'), 'paused');
      assert.match(readFileSync(join(cgroup, 'cgroup.events'), 'utf8'), /^frozen 1$/m);
      await must(['unpause', name]);
      assert.equal(await inspect(name, '.State.Status'), 'running');

      await must(['update', '--memory', '96m', '--memory-swap', '96m', '--pids-limit', '77', name]);
      assert.equal(readFileSync(join(cgroup, 'memory.max'), 'utf8').trim(), String(96 * MIB));
      assert.equal(readFileSync(join(cgroup, 'pids.max'), 'utf8').trim(), '77');

      const stats = JSON.parse(await must(['stats', '--no-stream', '--format', 'json', name]));
      assert.match(stats.MemUsage, /^[1-9].* \/ 96MiB$/);
      assert.ok(Number(stats.PIDs) >= 1, stats.PIDs);

      await until('the container has written', async () => (await must(['logs', name])).includes('up'));
      // By itself it loses patience after ten seconds, and kills.
      await must(['restart', '-t', '100', name]);
      assert.notEqual(await pidOf(name), pid);
      await until('it has written again', async () => (await must(['logs', name])).endsWith('bye\nup'));
      await must(['stop', '-t', '100', name]);
      assert.equal(await inspect(name, '.State.ExitCode'), '0');
      assert.match(await must(['logs', name]), /^up\nbye\nup\nbye$/);
      await must(['rm', name]);
    });

    it('puts a container into a scope that systemd knows', async () => {
      const name = await start('scope', ['--network', 'none', '--memory', '48m'], ['sleep', '1000']);
      const cgroup = cgroupOf(await pidOf(name));
      const unit = `docker-${await inspect(name, '.Id')}.scope`;
      assert.equal(cgroup, `/sys/fs/cgroup/system.slice/${unit}`);
      assert.match(
        await mustRun(['systemctl', 'show', '-p', 'MemoryMax', unit]),
        new RegExp(`^MemoryMax=${48 * MIB}$`, 'm'),
      );
      await must(['update', '--memory', '80m', '--memory-swap', '80m', name]);
      assert.match(
        await mustRun(['systemctl', 'show', '-p', 'MemoryMax', unit]),
        new RegExp(`^MemoryMax=${80 * MIB}$`, 'm'),
      );
      await must(['rm', '-f', name]);
      await until(`${cgroup} is removed`, () => !existsSync(cgroup));
    });

    it('tells that a container ran out of memory', async () => {
      const name = await start(
        'oom',
        ['--network', 'none', '--memory', '16m', '--memory-swap', '16m'],
        ['probe', 'hog', String(256 * MIB)],
      );
      assert.equal(await must(['wait', name]), '137');
      // The stock shim of containerd 2.1 may tell of it too late, or never.
      if (runtime !== STOCK) assert.equal(await inspect(name, '.State.OOMKilled'), 'true');
      await must(['rm', name]);
    });

    it('tells of none for a container that is killed while it runs short of memory', async () => {
      // Page cache of a file larger than the limit: reading it hits the limit again and again, and
      // nobody has to die, as nothing has to be written first.
      const script = 'truncate -s 33554432 /big; while :; do cat /big >/dev/null; done';
      const flags = ['--network', 'none', '--memory', '16m', '--memory-swap', '16m'];
      const name = await start('pressed', flags, ['sh', '-c', script]);
      const events = join(cgroupOf(await pidOf(name)), 'memory.events');
      const read = (counter: string): number =>
        Number(new RegExp(`^${counter} (\\d+)$`, 'm').exec(readFileSync(events, 'utf8'))?.[1]);
      await until('memory is short', () => read('max') > 20);
      const isOom = read('oom_kill') > 0;
      await must(['kill', name]);
      assert.equal(await must(['wait', name]), '137');
      assert.equal(await inspect(name, '.State.OOMKilled'), String(isOom));
      await must(['rm', name]);
    });

    it('kills with the signal asked for', async () => {
      const name = await start('kill', ['--network', 'none'], ['probe', 'signals']);
      await until('it is ready', async () => (await must(['logs', name])).includes('ready'));
      await must(['kill', '-s', 'USR1', name]);
      await until('the signal came', async () => (await must(['logs', name])).includes('USR1'));
      await must(['kill', '-s', 'INT', name]);
      assert.equal(await must(['wait', name]), '7');
      await must(['rm', name]);
    });

    it('uses crun when the runtime is configured so', async (test) => {
      const configured = runtime === STOCK ? 'runc-crun' : 'lamina-crun';
      const known = JSON.parse(await must(['info', '-f', '{{json .Runtimes}}']));
      if (!Object.hasOwn(known, configured)) return test.skip(`daemon.json has no runtime ${configured}`);
      assert.equal(
        await must(['run', '--rm', '--network', 'none', '--runtime', configured, IMAGE, 'echo', 'crun']),
        'crun',
      );
    });

    it('finds its containers in working order after the daemons were restarted', async () => {
      const name = await start('kept', ['--network', 'none', '--restart', 'no'], ['sleep', '1000']);
      const pid = await pidOf(name);
      await mustRun(['systemctl', 'restart', 'containerd']);
      await until('exec works', async () => (await docker(['exec', name, 'true'])).code === 0);
      assert.equal(await pidOf(name), pid);
      await must(['rm', '-f', name]);
    });
  });
}
