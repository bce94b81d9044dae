import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bareRun } from '../../lib/bare.js';
import { copyRootfs } from '../../lib/image.js';
import { shimSuite } from '../../lib/parity.js';

shimSuite('ctr run', ({ scenario }) => {
  scenario('shows the output and returns success', async (box) => {
    const result = await box.run(['sh', '-c', 'echo out; echo err >&2']);
    assert.deepEqual(result, { stdout: 'out\n', stderr: 'err\n', code: 0 });
    return result;
  });

  for (const code of [1, 42, 255]) {
    scenario(`returns exit code ${code}`, async (box) => {
      const result = await box.run(['sh', '-c', `exit ${code}`]);
      assert.equal(result.code, code);
      return result;
    });
  }

  for (const [signal, code] of [
    ['KILL', 137],
    ['TERM', 143],
  ] as const) {
    scenario(`returns ${code} when SIG${signal} ends the container`, async (box) => {
      // The init of a pid namespace has no default actions, one in the host's namespace has.
      const { args, options } = bareRun(box, signal, { args: ['/bin/sleep', '1000'], hostPid: true });
      const { id, command } = box.spawnRun(args, options);
      await box.waitForStatus(id, 'RUNNING');
      await box.must(['tasks', 'kill', '-s', `SIG${signal}`, id]);
      const result = await command.result();
      assert.equal(result.code, code);
      return result;
    });
  }

  scenario('passes on what a shell reports of a child that died', async (box) => {
    const result = await box.run(['sh', '-c', "sh -c 'kill -SEGV $$'; exit $?"]);
    assert.equal(result.code, 139);
    return result;
  });

  scenario('gives environment, working directory and arguments', async (box) => {
    const flags = ['--env', 'A=1 2', '--cwd', '/tmp'];
    const result = await box.run(['sh', '-c', 'echo "$A|$PWD|$1|$PATH"', 'x', 'é ü'], { flags });
    assert.equal(result.stdout, '1 2|/tmp|é ü|/bin\n');
    return result;
  });

  // ctr loses an end of stdin that comes before its task is started, so these wait until it is.
  scenario('hands stdin over and ends it', async (box) => {
    const { command } = box.spawnRun(['sh', '-c', 'cat; echo end']);
    command.write('one\ntwo\n');
    await command.output(/two\n/);
    command.closeStdin();
    const result = await command.result();
    assert.deepEqual(result, { stdout: 'one\ntwo\nend\n', stderr: '', code: 0 });
    return result;
  });

  scenario('sees the end of an empty stdin', async (box) => {
    const { command } = box.spawnRun(['sh', '-c', 'echo ready; cat | wc -c']);
    await command.output(/ready/);
    command.closeStdin();
    const result = await command.result();
    assert.deepEqual(result, { stdout: 'ready\n0\n', stderr: '', code: 0 });
    return result;
  });

  scenario('answers line by line while stdin is open', async (box) => {
    const { command } = box.spawnRun(['sh', '-c', 'while read line; do echo "got $line"; done']);
    for (const word of ['a', 'b', 'c']) {
      command.write(`${word}\n`);
      await command.output(new RegExp(`got ${word}\n`));
    }
    command.closeStdin();
    const result = await command.result();
    assert.deepEqual(result, { stdout: 'got a\ngot b\ngot c\n', stderr: '', code: 0 });
    return result;
  });

  scenario('keeps all output of a process that writes and leaves', async (box) => {
    const result = await box.run(['probe', 'drip', '20000']);
    const lines = result.stdout.split('\n');
    // The stock shim waits two seconds for what is still to be copied, and drops the rest.
    if (!box.isStock) {
      assert.equal(lines.length, 20_001);
      assert.equal(lines[19_999], 'line 19999');
    }
    return { code: result.code };
  });

  scenario('runs without any stdio', async (box) => {
    const result = await box.run(['sh', '-c', 'echo nobody hears; exit 3'], { flags: ['--null-io'] });
    assert.deepEqual(result, { stdout: '', stderr: '', code: 3 });
    return result;
  });

  scenario('takes a folder as root file system (--rootfs)', async (box) => {
    const rootfs = join(box.daemon.dir, 'work', `rootfs-${box.runtime.label}`);
    copyRootfs(rootfs);
    const argv = ['/bin/sh', '-c', 'echo kept > /tmp/file; /bin/ls /bin/probe'];
    const result = await box.run(argv, { flags: ['--rootfs'], image: rootfs });
    assert.deepEqual(result, { stdout: '/bin/probe\n', stderr: '', code: 0 });
    assert.equal(readFileSync(join(rootfs, 'tmp/file'), 'utf8'), 'kept\n');
    return result;
  });

  scenario('takes a spec from a file (--config)', async (box) => {
    const { args, options } = bareRun(box, 'config', { args: ['/bin/sh', '-c', 'hostname; exit 5'] });
    const result = await box.run(args, options);
    assert.deepEqual(result, { stdout: 'bare\n', stderr: '', code: 5 });
    return result;
  });

  scenario('writes the pid file', async (box) => {
    const file = join(box.daemon.dir, 'work', `pid-${box.runtime.label}`);
    const id = await box.start(['sleep', '1000'], { flags: ['--pid-file', file] });
    assert.equal(Number(readFileSync(file, 'utf8')), await box.pidOf(id));
    await box.remove(id);
  });
});
