/** What the engine does where a keeper has no descriptor left to give it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { KeeperLink } from '../../../src/shim/keeper-link.js';
import {
  binding,
  LM_MSG_ADOPT,
  LM_MSG_CHILD,
  LM_MSG_FAILED,
  LM_MSG_HELLO,
  LM_MSG_REPLAYED,
  LM_MSG_SPAWN,
  LM_MSG_SPAWNED,
  type Message,
  MessageSocket,
} from '../../../src/sys/index.js';
import { IGNORED } from '../../lib/keeper-events.js';
import { until } from '../../lib/wait.js';

const EMFILE = 24;
describe('KeeperLink without pidfds', () => {
  const messages: Message[] = [];
  let keeper: MessageSocket;
  let link: KeeperLink;
  let child: ReturnType<typeof spawn>;

  beforeEach(() => {
    const [ours, theirs] = binding().socketPair('seqpacket');
    messages.length = 0;
    keeper = new MessageSocket({
      fd: ours,
      onMessage: (message) => {
        for (const fd of message.fds) closeSync(fd);
        messages.push(message);
      },
      onClose: () => undefined,
    });
    link = new KeeperLink(theirs, () => IGNORED);
    child = spawn('sleep', ['1000'], { detached: true, stdio: 'ignore' });
    keeper.send({ type: LM_MSG_HELLO, arg: process.pid, fields: ['id=one'] });
  });
  afterEach(() => {
    child.kill('SIGKILL');
    link.close();
    keeper.close();
  });

  const request = (type: number): Promise<Message> =>
    until('a request', () => messages.find((message) => message.type === type));

  it('signals a program it has started by its pid', async () => {
    const spawned = link.children.spawn({ name: 'sleep', argv: ['sleep', '1000'] });
    const { serial } = await request(LM_MSG_SPAWN);
    keeper.send({ type: LM_MSG_SPAWNED, serial, arg: child.pid ?? 0 });
    const exit = once(child, 'exit');
    (await spawned).kill(15);
    assert.deepEqual(await exit, [null, 'SIGTERM']);
  });

  it('signals a program of its predecessor by its pid', async () => {
    keeper.send({ type: LM_MSG_CHILD, arg: child.pid ?? 0, fields: ['run:logger x'] });
    keeper.send({ type: LM_MSG_REPLAYED });
    const run = await until('the program is known', () => link.children.inheritedRun('logger x'));
    const { serial } = await request(LM_MSG_ADOPT);
    const exit = once(child, 'exit');
    run.kill(15);
    keeper.send({ type: LM_MSG_FAILED, serial, arg: EMFILE, fields: ['pidfd_open: Too many open files'] });
    assert.deepEqual(await exit, [null, 'SIGTERM']);
  });
});
