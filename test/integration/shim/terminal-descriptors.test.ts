/**
 * How many descriptors of a terminal's master the keeper has: one while the process lives, none
 * when it has ended.
 */
import assert from 'node:assert/strict';
import { closeSync, constants, openSync, readdirSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { LAMINA } from '../../lib/box.js';
import { FifoReader, makeFifo } from '../../lib/fifo-reader.js';
import { readProcLink } from '../../lib/proc.js';
import { replaceEngine } from '../../lib/processes.js';
import { requires } from '../../lib/requires.js';
import { FakeDaemon, type ShimHandle } from '../../lib/shim-client.js';
import { addExec, keeperPidOf, killAndDelete, shutdown } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

const skip = requires({ root: true, runc: '1.1' }) || LAMINA.skip;
/** Says each line of its input again, in capitals, and leaves at `end`. */
const ECHO = ['/bin/sh', '-c', 'stty raw -echo; echo ready; while read l && [ "$l" != end ]; do echo "<$l>"; done'];

/** A client at both FIFOs of a process's terminal. */
class Client {
  readonly #writer: number;
  readonly #reader: FifoReader;

  constructor(stdin: string, stdout: string) {
    this.#writer = openSync(stdin, constants.O_RDWR | constants.O_NONBLOCK);
    this.#reader = new FifoReader(stdout);
  }

  say(text: string): void {
    writeSync(this.#writer, text);
  }

  async hear(text: string): Promise<void> {
    let heard = '';
    await until(
      `"${text}" comes`,
      () => {
        heard += this.#reader.readNow().toString();
        return heard.includes(text);
      },
      { detail: () => heard },
    );
  }

  close(): void {
    closeSync(this.#writer);
    this.#reader.close();
  }
}

describe('descriptors of a terminal', { skip }, () => {
  let daemon: FakeDaemon;
  before(async () => {
    daemon = await FakeDaemon.start('containerd-shim-lamina-v2');
  });
  after(() => daemon.stop());

  const streams = async (name: string): Promise<{ terminal: true; stdin: string; stdout: string }> => ({
    terminal: true,
    stdin: await makeFifo(join(daemon.dir, `${name}-in`)),
    stdout: await makeFifo(join(daemon.dir, `${name}-out`)),
  });
  const masters = (keeper: number): number =>
    readdirSync(`/proc/${keeper}/fd`).filter((fd) => readProcLink(keeper, `fd/${fd}`).endsWith('ptmx')).length;
  const mastersBecome = (keeper: number, count: number): Promise<boolean> =>
    until(`the keeper has ${count}`, () => masters(keeper) === count, { detail: () => `${masters(keeper)}` });
  const start = async (): Promise<{ shim: ShimHandle; keeper: number; client: Client }> => {
    const shim = await daemon.launch({ args: ECHO, terminal: true });
    const io = await streams(shim.id);
    const client = new Client(io.stdin, io.stdout);
    await daemon.create(shim, io);
    await shim.task.start({ id: shim.id, execId: '' });
    await client.hear('ready');
    return { shim, keeper: await keeperPidOf(shim), client };
  };

  it('is one for each process, and none when that has ended, before it is deleted too', async () => {
    const { shim, keeper, client } = await start();
    assert.equal(masters(keeper), 1);
    for (const execId of ['e1', 'e2']) {
      const io = await streams(`${shim.id}-${execId}`);
      const exec = new Client(io.stdin, io.stdout);
      await addExec(shim, execId, ECHO, io);
      await shim.task.start({ id: shim.id, execId });
      await exec.hear('ready');
      assert.equal(masters(keeper), 2);
      exec.say('both\nways\n');
      await exec.hear('<ways>');
      await shim.task.resizePty({ id: shim.id, execId, width: 101, height: 33 });
      exec.say('end\n');
      await shim.task.wait({ id: shim.id, execId });
      await mastersBecome(keeper, 1);
      if (execId === 'e1') await shim.task.delete({ id: shim.id, execId });
      exec.close();
    }
    client.say('on\n');
    await client.hear('<on>');
    client.say('end\n');
    await shim.task.wait({ id: shim.id, execId: '' });
    await mastersBecome(keeper, 0);
    await shim.task.delete({ id: shim.id, execId: '' });
    await shutdown(shim);
    client.close();
  });

  it('stays one with another engine, which still sets the size', async () => {
    const { shim, keeper, client } = await start();
    await replaceEngine(daemon);
    await shim.task.resizePty({ id: shim.id, execId: '', width: 90, height: 30 });
    client.say('on\n');
    await client.hear('<on>');
    assert.equal(masters(keeper), 1);
    await killAndDelete(shim);
    assert.equal(masters(keeper), 0);
    await shutdown(shim);
    client.close();
  });
});
