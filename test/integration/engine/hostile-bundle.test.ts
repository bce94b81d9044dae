/** What a bundle made by somebody hostile must not do through the engine; see docs/security.md. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { LogFifo } from '../../../src/shim/log-fifo.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';

const VICTIM = 'not ours to touch\n';

/** Runs a snippet that may hang or eat the memory. @returns how it ended */
function runAlone(script: string): { status: number | null; stderr: string } {
  const limits = 'ulimit -v 4000000; exec timeout -s KILL 120';
  const node = `${process.execPath} --input-type=module -e "${script}"`;
  return spawnSync('sh', ['-c', `${limits} ${node}`], { encoding: 'utf8' });
}

const oci = (file: string): string => fileURLToPath(new URL(`../../../src/oci/${file}`, import.meta.url));

describe('files of a hostile bundle at the engine', () => {
  let dir: string;
  before(() => {
    dir = mkdtempSync('/tmp/lamina-hostile-');
  });
  after(() => rmSync(dir, { recursive: true }));

  it('are not written through a link named log', () => {
    const victim = join(dir, 'victim');
    writeFileSync(victim, VICTIM);
    symlinkSync(victim, join(dir, 'log'));
    const log = new LogFifo(join(dir, 'log'));
    log.write('level=info\n');
    log.close();
    assert.equal(readFileSync(victim, 'utf8'), VICTIM);
  });

  it('are not waited for when the runtime’s log is a FIFO', () => {
    const fifo = join(dir, 'log.json');
    execFileSync('mkfifo', [fifo]);
    const { status } = runAlone(`import('${oci('runc-log.js')}').then((m) => m.readRuncLog('${fifo}', 0))`);
    assert.equal(status, 0);
  });

  it('are not read without end', () => {
    const { status, stderr } = runAlone(`import('${oci('bundle.js')}').then((m) => m.readBundleFile('/dev/zero'))`);
    assert.equal(status, 1, stderr);
    assert.match(stderr, /LaminaError/);
  });
});

describe('a bundle’s path at the engine', { skip: requires({ root: true, runc: '1.1' }) }, () => {
  let daemon: FakeDaemon;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  async function end({ task, id }: ShimHandle): Promise<void> {
    await task.delete({ id, execId: '' }).catch(() => undefined);
    await task.shutdown({ id, now: true }).catch(() => undefined);
  }

  for (const [what, change] of [
    ['is not absolute', (path: string) => path.slice(1)],
    ['goes up', (path: string) => `${path}/../${path.split('/').at(-1)}`],
  ] as const) {
    it(`is refused when it ${what}`, async () => {
      const shim = await daemon.launch({ args: ['true'] });
      try {
        await assert.rejects(
          daemon.create({ ...shim, bundle: change(shim.bundle) }),
          /bundle .* is not a plain absolute path/,
        );
      } finally {
        await end(shim);
      }
    });
  }
});
