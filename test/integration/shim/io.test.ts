import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Box } from '../../lib/box.js';
import { mustRun, runCommand, shellQuote } from '../../lib/command.js';
import { hostProgram } from '../../lib/image.js';
import { shimSuite } from '../../lib/parity.js';
import { until } from '../../lib/wait.js';

const GIB = 1024 ** 3;
/** For so much, on a slow machine. */
const GIB_MS = 600_000;

/** A shell line in which every word of `argv` is quoted. */
function line(argv: readonly string[]): string {
  return argv.map(shellQuote).join(' ');
}

/** A new path below the daemon's folder. */
function workPath(box: Box, name: string): string {
  return join(box.daemon.dir, 'work', `${name}-${box.runtime.label}`);
}

/** Runs a detached container with this log URI until it has ended. */
async function runLogged(box: Box, uri: string, argv: readonly string[]): Promise<number> {
  const id = box.id();
  await box.must(box.runArgs(id, argv, { flags: ['-d', '--log-uri', uri] }));
  const status = await box.exitStatusOf(id);
  await box.remove(id);
  return status;
}

shimSuite('stdio', ({ scenario }) => {
  /** What the sink says of all those bytes. */
  let expected: string | undefined;

  scenario(
    'carries 1 GiB through stdout byte for byte',
    async (box) => {
      const probe = hostProgram('probe');
      expected ??= await mustRun(['sh', '-c', `${probe} bytes ${GIB} | ${probe} sink`], { timeoutMs: GIB_MS });
      const run = box.daemon.ctrArgv(
        box.namespace,
        box.runArgs(box.id(), ['probe', 'bytes', String(GIB)], { flags: ['--rm'] }),
      );
      const seen = await runCommand(['sh', '-c', `${line(run)} | ${probe} sink`], { timeoutMs: GIB_MS });
      assert.equal(seen.stdout, expected);
      return seen;
    },
    { timeoutMs: 2 * GIB_MS },
  );

  scenario(
    'carries 1 GiB through stdin byte for byte',
    async (box) => {
      const probe = hostProgram('probe');
      expected ??= await mustRun(['sh', '-c', `${probe} bytes ${GIB} | ${probe} sink`], { timeoutMs: GIB_MS });
      const run = box.daemon.ctrArgv(box.namespace, box.runArgs(box.id(), ['probe', 'sink'], { flags: ['--rm'] }));
      const seen = await runCommand(['sh', '-c', `${probe} bytes ${GIB} | ${line(run)}`], { timeoutMs: GIB_MS });
      assert.equal(seen.stdout, expected);
      return seen;
    },
    { timeoutMs: 2 * GIB_MS },
  );

  scenario('appends both streams to a file (--log-uri file://)', async (box) => {
    const path = join(workPath(box, 'files'), 'deep', 'out.log');
    const argv = ['sh', '-c', 'echo out; echo err >&2; exit 4'];
    const codes = [await runLogged(box, `file://${path}`, argv), await runLogged(box, `file://${path}`, argv)];
    assert.deepEqual(codes, [4, 4]);
    // The stock shim closes the file both streams share when the first of them ends, and may lose
    // the rest of the other.
    const complete = box.isStock ? 8 : 16;
    await until('the output is in the file', () => readFileSync(path, 'utf8').length >= complete);
    const content = readFileSync(path, 'utf8')
      .split('\n')
      .toSorted((a, b) => (a < b ? -1 : 1));
    if (!box.isStock) assert.deepEqual(content, ['', 'err', 'err', 'out', 'out']);
    return { codes };
  });

  scenario('keeps all output of a quick container in the file', async (box) => {
    const path = workPath(box, 'drip.log');
    await runLogged(box, `file://${path}`, ['probe', 'drip', '20000']);
    // The stock shim waits two seconds for what is still to be copied, and drops the rest.
    if (box.isStock) return;
    await until('all lines are in the file', () => readFileSync(path, 'utf8').endsWith('line 19999\n'));
    assert.equal(readFileSync(path, 'utf8').split('\n').length, 20_001);
  });

  scenario('hands both streams to a logging program (--log-uri binary://)', async (box) => {
    const path = workPath(box, 'logger.log');
    const id = box.id();
    const uri = `binary://${hostProgram('iolog')}?file=${path}`;
    await box.must(
      box.runArgs(id, ['sh', '-c', 'echo out; echo err >&2; exit 4'], { flags: ['-d', '--log-uri', uri] }),
    );
    const status = await box.exitStatusOf(id);
    // the logger is killed when the task is deleted
    await until(
      'both lines are logged',
      () => /^out:/m.test(readFileSync(path, 'utf8')) && /^err:/m.test(readFileSync(path, 'utf8')),
    );
    await box.remove(id);
    const content = readFileSync(path, 'utf8')
      .split('\n')
      .toSorted((a, b) => (a < b ? -1 : 1));
    const expected = ['', `env:CONTAINER_ID=${id}`, `env:CONTAINER_NAMESPACE=${box.namespace}`, 'err:err', 'out:out'];
    assert.deepEqual(content, expected);
    assert.equal(status, 4);
    return { content, status };
  });

  scenario('takes a logger that reports readiness by closing its descriptor', async (box) => {
    const path = workPath(box, 'mute.log');
    const uri = `binary://${hostProgram('iolog')}?file=${path}&mode=mute`;
    const id = box.id();
    await box.must(box.runArgs(id, ['echo', 'heard'], { flags: ['-d', '--log-uri', uri] }));
    await until('the line is logged', () => existsSync(path) && /^out:heard$/m.test(readFileSync(path, 'utf8')));
    await box.remove(id);
  });

  scenario('says so when the logging program does not exist', async (box) => {
    const id = box.id();
    const flags = ['-d', '--log-uri', 'binary:///no/such/logger'];
    const result = await box.ctr(box.runArgs(id, ['true'], { flags }));
    assert.equal(result.code, 1);
    assert.match(result.stderr, /no such file or directory/);
    await box.remove(id);
    return { code: result.code };
  });

  scenario('refuses a scheme it does not know', async (box) => {
    const id = box.id();
    const result = await box.ctr(box.runArgs(id, ['true'], { flags: ['-d', '--log-uri', 'carrier-pigeon:///coop'] }));
    await box.remove(id);
    assert.equal(result.code, 1);
    assert.match(result.stderr, /unknown STDIO scheme carrier-pigeon/);
    return result;
  });

  scenario('logs an exec to its own file', async (box) => {
    const path = workPath(box, 'exec.log');
    const id = await box.start(['sleep', '1000']);
    const execId = `log-${box.daemon.marker}`;
    const flags = ['-d', '--exec-id', execId, '--log-uri', `file://${path}`];
    await box.must(box.execArgs(id, ['sh', '-c', 'echo from exec; exit 2'], { flags }));
    const status = await box.exitStatusOf(id, execId);
    await until('the line is in the file', () => existsSync(path) && readFileSync(path, 'utf8') === 'from exec\n');
    await box.remove(id);
    assert.equal(status, 2);
    return status;
  });

  scenario('loses nothing when the reader goes away and another comes', async (box) => {
    const fifos = workPath(box, 'fifos');
    mkdirSync(fifos);
    const { id, command } = box.spawnRun(['probe', 'drip', '200000'], { flags: ['--fifo-dir', fifos] });
    await command.output(/line 100\n/);
    // The reader stops in the middle, and before anything else is waited for: what is left to write
    // is more than all pipes hold.
    command.kill('SIGSTOP');
    command.child.stdout?.pause();
    await box.waitForStatus(id, 'RUNNING');
    command.kill('SIGCONT');
    command.child.stdout?.resume();
    const result = await command.result();
    assert.equal(result.stdout.split('\n').length, 200_001);
    return { code: result.code };
  });
});
