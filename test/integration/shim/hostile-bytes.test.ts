/**
 * A container, or its client, writes what an engine would write to a keeper: a SPAWN that makes a
 * file on the host, alone and in a BATCH, at many places of the text. It is text: it arrives as it
 * was written, and nothing of it is done.
 */
import assert from 'node:assert/strict';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeMessage, LM_MSG_BATCH, LM_MSG_SPAWN } from '../../../src/sys/index.js';
import type { Box } from '../../lib/box.js';
import { runAtTerminal } from '../../lib/command.js';
import { shimSuite } from '../../lib/parity.js';
import { isAlive } from '../../lib/proc.js';
import { keeperOf } from '../../lib/processes.js';

const markerOf = (box: Box): string => join(box.daemon.dir, 'made-by-a-container');

/** Texts with keeper messages in them. */
function hostileTexts(box: Box): Map<string, Buffer> {
  const argv = Buffer.from(`/usr/bin/touch\0${markerOf(box)}\0`);
  const spawn = encodeMessage({ type: LM_MSG_SPAWN, serial: 1, fields: ['run touch', '/', argv, '', ''] }).data;
  const batch = encodeMessage({ type: LM_MSG_BATCH, serial: 1, fields: [spawn, spawn, spawn] }).data;
  // Messages one behind the other, and each step a byte further, so that some lies wherever one is
  // looked for.
  const sliding = Buffer.concat(
    Array.from({ length: 110 }, (_, i) => Buffer.concat([Buffer.alloc(i % 8, ' '), spawn])),
  );
  return new Map([
    ['a SPAWN', spawn],
    ['a BATCH', batch],
    ['many', sliding.subarray(0, 15_000)],
    ['40 bytes', spawn.subarray(0, 40)],
    ['more than a pipe holds', Buffer.concat(Array.from({ length: 70 }, () => sliding))],
  ]);
}

/** As the commands of the tests decode it. */
const shown = (text: Buffer): string => text.toString('utf8');

shimSuite('keeper messages as text', ({ scenario }) => {
  /**
   * A container that waits, with the texts in /texts/N; after `work` it still runs, and nothing was
   * done.
   */
  const inContainer = async (
    box: Box,
    work: (id: string, texts: ReadonlyMap<string, { readonly text: Buffer; readonly file: string }>) => Promise<void>,
  ): Promise<void> => {
    const texts = new Map(
      [...hostileTexts(box)].map(([name, text], i) => {
        writeFileSync(join(box.daemon.dir, `text-${i}`), text);
        return [name, { text, file: `/texts/text-${i}` }];
      }),
    );
    const mount = `type=bind,src=${box.daemon.dir},dst=/texts,options=rbind:ro`;
    const id = await box.start(['sleep', '1000'], { flags: ['--mount', mount] });
    const keeper = box.isStock ? 0 : await keeperOf(box, id);
    await work(id, texts);
    assert.equal(await box.status(id), 'RUNNING');
    if (!box.isStock) assert.ok(isAlive(keeper), 'the keeper lives');
    assert.equal(existsSync(markerOf(box)), false, 'nothing was run');
    await box.remove(id);
  };

  scenario('arrive unchanged from the input of an exec, and of a run', async (box) => {
    await inContainer(box, async (id, texts) => {
      for (const [name, { text }] of texts) {
        for (let time = 0; time < 3; time += 1) {
          const exec = await box.exec(id, ['cat'], { stdin: text });
          assert.ok(exec.stdout === shown(text), `${name} through exec ${time}: ${exec.stderr}`);
        }
        // ctr's run leaves stdin open.
        const run = await box.run(['head', '-c', `${text.length}`], { stdin: text });
        assert.ok(run.stdout === shown(text), `${name} through run: ${run.stderr}`);
      }
    });
  });

  scenario('arrive unchanged from stdout and stderr', async (box) => {
    await inContainer(box, async (id, texts) => {
      for (const [name, { text, file }] of texts) {
        const exec = await box.exec(id, ['sh', '-c', `cat ${file}; cat ${file} >&2`]);
        assert.ok(exec.stdout === shown(text), `${name} on stdout`);
        assert.ok(exec.stderr === shown(text), `${name} on stderr`);
      }
    });
  });

  scenario('arrive unchanged from a terminal', async (box) => {
    await inContainer(box, async (id, texts) => {
      for (const [name, { text, file }] of texts) {
        // The last one is what the terminal of the test itself would have to be read for.
        if (text.length > 20_000) continue;
        const script = `stty raw -echo; printf '<<<'; cat ${file}; printf '>>>'`;
        const argv = box.execArgs(id, ['sh', '-c', script], { flags: ['-t'] });
        const { stdout } = await runAtTerminal(box.daemon.ctrArgv(box.namespace, argv)).result();
        const inner = stdout.slice(stdout.indexOf('<<<') + 3, stdout.lastIndexOf('>>>'));
        assert.ok(inner === shown(text), `${name}: ${inner.length} characters of ${shown(text).length}`);
      }
    });
  });
});
