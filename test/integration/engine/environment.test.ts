/**
 * Odd things in the daemon's environment: the runtime gets them, as from the stock shim, and the
 * engine does not.
 */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { LM_ENGINE_VARIABLES } from '../../../src/sys/index.js';
import { LAMINA } from '../../lib/box.js';
import { readProcFile } from '../../lib/proc.js';
import { theEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { killAndDelete, shutdown } from '../../lib/task-steps.js';
import { assertWell, FaultyRuntime } from './faulty-runtime.js';

const skip = requires({ root: true, runc: '1.1', programs: ['bash'] }) || LAMINA.skip;

/** Each is enough to end or to change a Node that gets it. */
const ODD: Readonly<Record<string, string>> = {
  SSL_CERT_FILE: '/nonexistent',
  SSL_CERT_DIR: '/nonexistent',
  LD_LIBRARY_PATH: '/nonexistent',
  GLIBC_TUNABLES: 'glibc.malloc.check=3',
  MALLOC_ARENA_MAX: '1',
  UV_THREADPOOL_SIZE: '1',
  UV_USE_IO_URING: '1',
  NODE_OPTIONS: '--no-such-option',
  NODE_PATH: '/nonexistent',
  NODE_EXTRA_CA_CERTS: '/nonexistent',
  NODE_REPL_EXTERNAL_MODULE: '/nonexistent',
  LC_ALL: 'xx_YY.none',
  TZ: ':nowhere',
  ODD_PASSWORD: 'secret',
};
/** What a shim in Go makes of its own number of threads. */
const DIFFERS = new Set(['GOMAXPROCS', '_', 'PWD', 'OLDPWD', 'SHLVL']);

describe('what the daemon has in its environment', { skip }, () => {
  const daemons = new Map<string, FakeDaemon>();

  before(async () => {
    for (const program of ['containerd-shim-runc-v2', 'containerd-shim-lamina-v2']) {
      const daemon = await FakeDaemon.start(program);
      daemons.set(program, daemon);
      const broken = join(daemon.dir, 'openssl.cnf');
      writeFileSync(broken, 'no such [ syntax = {\n');
      Object.assign(daemon.env, ODD, { OPENSSL_CONF: broken, NOTIFY_SOCKET: join(daemon.dir, 'notify') });
    }
  });
  after(async () => {
    for (const daemon of daemons.values()) await daemon.stop();
  });

  const theDaemon = (program = 'containerd-shim-lamina-v2'): FakeDaemon => {
    const daemon = daemons.get(program);
    assert.ok(daemon !== undefined);
    return daemon;
  };

  /** A created container whose runtime has written down its environment at create. */
  const create = async (daemon: FakeDaemon, runtime: FaultyRuntime): Promise<ShimHandle> => {
    runtime.on('create', 'env -0 >"$dir/env"; real');
    const shim = await daemon.launch({ args: ['/bin/sleep', '1000'] });
    await daemon.create(shim, { options: runtime.options });
    return shim;
  };

  it('comes to the runtime as the stock shim passes it on', async () => {
    const seen = [];
    for (const daemon of daemons.values()) {
      const runtime = new FaultyRuntime(daemon, 'env');
      const shim = await create(daemon, runtime);
      const entries = readFileSync(join(runtime.dir, 'env'), 'utf8').split('\0').filter(Boolean);
      const kept = entries.filter((entry) => !DIFFERS.has(entry.split('=')[0] ?? ''));
      seen.push(kept.map((entry) => entry.replaceAll(daemon.marker, 'MARKER')).toSorted());
      await killAndDelete(shim);
      await shutdown(shim);
    }
    assert.deepEqual(seen[1], seen[0]);
    assert.ok(seen[1]?.includes('NODE_OPTIONS=--no-such-option'));
    assert.ok(!seen[1]?.some((entry) => entry.startsWith('NOTIFY_SOCKET=')));
  });

  it('comes to the engine only as far as that needs it', async () => {
    const daemon = theDaemon();
    const shim = await create(daemon, new FaultyRuntime(daemon, 'engine'));
    const engine = await theEngine(daemon);
    const names = readProcFile(engine, 'environ')
      .split('\0')
      .filter(Boolean)
      .map((entry) => entry.split('=')[0] ?? '');
    const known = new Set([...LM_ENGINE_VARIABLES.split(' '), 'UV_USE_IO_URING']);
    assert.deepEqual(
      names.filter((name) => !known.has(name) && !name.startsWith('LAMINA_')),
      [],
    );
    assert.ok(readProcFile(engine, 'environ').includes('UV_USE_IO_URING=0\0'));
    await shim.task.start({ id: shim.id, execId: '' });
    await assertWell(daemon, shim);
  });

  it('does not keep the shim from asking the engine which runtime is configured', async () => {
    const daemon = theDaemon();
    const runtime = join(daemon.dir, 'named');
    writeFileSync(runtime, '#!/bin/sh\necho "{\\"options\\": \\"$NODE_OPTIONS\\"}"\n', { mode: 0o755 });
    writeFileSync(daemon.env['LAMINA_CONFIG'] ?? '', `runtime = "${runtime}"\n`);
    const { code, stdout, stderr } = await daemon.verb(await daemon.bundle({ args: ['/bin/true'] }), ['-info'], {
      stdin: Buffer.alloc(0),
    });
    assert.equal(code, 0, stderr);
    assert.match(stdout.toString('latin1'), /"options": "--no-such-option"/);
  });
});
