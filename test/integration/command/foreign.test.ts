/**
 * What `lamina engine status` and `upgrade` do with processes that only look like Lamina's: by
 * their command line, their environment, or a listening socket. Root runs the command; whoever is
 * no root of this very node must not be able to have it run, signal or show anything.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, closeSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { binding } from '../../../src/sys/index.js';
import { type CommandResult, runCommand } from '../../lib/command.js';
import { LAMINA_LIBRARY } from '../../lib/installed.js';
import { isAlive, listProcesses } from '../../lib/proc.js';
import { LAMINA_BIN } from '../../lib/repo.js';
import { until } from '../../lib/wait.js';

const NOBODY = '65534';
/** Ways to be somebody else, as words before a command. */
const ELSEWHERE: Readonly<Record<string, readonly string[]>> = {
  'root of this node': [],
  'another user': ['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'],
  'root of another mount namespace': ['unshare', '--mount'],
  'root of another pid namespace': ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc'],
  'root of another user namespace': ['unshare', '--user', '--map-root-user'],
  'root of a container on the host network': [
    'unshare',
    '--mount',
    '--pid',
    '--fork',
    '--kill-child',
    '--ipc',
    '--uts',
  ],
};

describe('the lamina command, beside processes that are not ours', () => {
  let dir: string;
  /** Where only root can make sockets. */
  let socketDir: string;
  let stateDir: string;
  let marker: string;
  let decoys: ChildProcess[];

  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'lamina-foreign-'));
    chmodSync(dir, 0o755);
    stateDir = join(dir, 'state');
    mkdirSync(stateDir, { mode: 0o700 });
    marker = join(dir, 'ran');
    decoys = [];
    socketDir = mkdtempSync('/run/lamina-foreign-');
    // Runs instead of Node where it is believed.
    writeFileSync(join(dir, 'node'), `#!/bin/sh\nid >>${marker}\nexit 1\n`, { mode: 0o755 });
  });
  afterEach(() => {
    for (const decoy of decoys) decoy.kill('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
    rmSync(socketDir, { recursive: true, force: true });
  });

  const lamina = async (...args: string[]): Promise<CommandResult> =>
    await runCommand([join(LAMINA_BIN, 'lamina'), 'engine', ...args], { env: { LAMINA_STATE_DIR: stateDir } });

  /** A process that says `up` when it has its command line, environment and descriptors. */
  const decoy = async (
    how: readonly string[],
    argv: readonly string[],
    options: {
      readonly env?: Readonly<Record<string, string>>;
      readonly listener?: number;
      /** Where it listens by itself. */
      readonly path?: string;
      readonly name?: string;
    } = {},
  ): Promise<ChildProcess> => {
    const { env = {}, listener, path, name = 'node' } = options;
    // A signal that would end an engine is noted, so that it can be told from none.
    const code = `process.on('SIGHUP', () => require('fs').writeFileSync(${JSON.stringify(`${marker}-signal`)}, ''));
      const up = () => console.log('up');
      const path = ${JSON.stringify(path ?? '')};
      if (path === '') up(); else require('net').createServer().listen(path, up);
      setInterval(() => 0, 1e6)`;
    const named = ['bash', '-c', 'exec -a "$0" "$@"', name, process.execPath, '-e', code, ...argv];
    const [program = '', ...args] = [...how, ...named];
    const child = spawn(program, args, {
      env: { ...process.env, LAMINA_STATE_DIR: stateDir, ...env },
      stdio: ['ignore', 'pipe', 'inherit', listener ?? 'ignore'],
    });
    decoys.push(child);
    let isUp = false;
    child.stdout?.on('data', () => {
      isUp = true;
    });
    await until('the decoy runs', () => isUp || (child.exitCode !== null && 'it has ended'));
    assert.equal(child.exitCode, null);
    return child;
  };

  const nothingDone = (child: ChildProcess): void => {
    assert.ok(!existsSync(marker), 'its program was run');
    assert.ok(!existsSync(`${marker}-signal`), 'it got a signal');
    assert.ok(isAlive(child.pid ?? 0), 'it was killed');
  };

  for (const [who, how] of Object.entries(ELSEWHERE)) {
    it(`takes nothing from a process named engine.cjs: ${who}`, async () => {
      const env = { LAMINA_NODE: join(dir, 'node'), PATH: `${dir}:${process.env['PATH']}`, LD_PRELOAD: '' };
      const child = await decoy(how, [join(LAMINA_LIBRARY, 'engine.cjs')], { env });
      for (const args of [['upgrade', '--dry-run'], ['upgrade'], ['upgrade', '--force']]) {
        const { code, stdout, stderr } = await lamina(...args);
        assert.equal(code, 0, stdout + stderr);
        nothingDone(child);
      }
      const { code, stdout } = await lamina('status');
      assert.equal(code, 0);
      assert.match(stdout, /^no engine runs\n/);
    });

    if (how.length === 0) continue;
    it(`leaves alone what listens at an engine's socket: ${who}`, async () => {
      const name = 'engine-0123456789abcdef';
      const listener = binding().listenUnix(join(stateDir, `${name}.sock`), 'seqpacket', 8, 0o600);
      const child = await decoy(how, [join(LAMINA_LIBRARY, 'engine.cjs')], { listener });
      closeSync(listener);
      // As if its pid had been an engine's once.
      writeFileSync(join(stateDir, `${name}.lock`), `${innermost(child.pid ?? 0)}\n`);
      const { code, stdout, stderr } = await lamina('upgrade', '--force');
      assert.equal(code, 0, stdout + stderr);
      nothingDone(child);
      assert.match((await lamina('status', '--timeout', '1')).stdout, /^no engine runs\n/);
    });

    it(`shows no keeper where only the name and the socket are one's: ${who}`, async () => {
      const listener = binding().listenUnix(join(socketDir, '0'.repeat(64)), 'stream', 8, 0o600);
      const argv = ['--', '-namespace', 'n', '-id', 'decoy', 'start'];
      const child = await decoy(how, argv, { listener, name: 'containerd-shim-lamina-v2' });
      closeSync(listener);
      const { code, stdout, stderr } = await lamina('status', '--timeout', '1');
      assert.equal(code, 0, stdout + stderr);
      assert.doesNotMatch(stdout, /decoy|^keeper/m);
      nothingDone(child);
    });

    if (who === 'another user') continue;
    it(`shows no keeper of another namespace, though it is registered: ${who}`, async () => {
      const path = join(socketDir, '1'.repeat(64));
      const child = await decoy(how, [], { path });
      const fields = { pid: String(process.pid), namespace: 'n', id: 'decoy', socket: path, library: LAMINA_LIBRARY };
      const text = Object.entries(fields).map(([key, value]) => `${key}=${value}\0`);
      writeFileSync(join(stateDir, 'keeper-0123456789abcdef'), text.join(''));
      const { code, stdout, stderr } = await lamina('status', '--timeout', '1');
      assert.equal(code, 0, stdout + stderr);
      assert.doesNotMatch(stdout, /decoy|^keeper/m);
      nothingDone(child);
    });
  }

  it('does not look behind a folder that another user can change', async () => {
    const hint = join(dir, '2'.repeat(64));
    chmodSync(dir, 0o777);
    const child = await decoy(['setpriv', '--reuid', NOBODY, '--regid', NOBODY, '--clear-groups'], [], { path: hint });
    const { code, stdout } = await lamina('status', '--timeout', '1');
    assert.equal(code, 0);
    assert.doesNotMatch(stdout, /2222|^keeper/m);
    nothingDone(child);
  });
});

/** The process that unshare has started and waits for, or the one that it has become. */
function innermost(pid: number): number {
  const child = listProcesses().find(({ ppid }) => ppid === pid);
  return child === undefined ? pid : innermost(child.pid);
}
