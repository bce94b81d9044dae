/** What the engine does where a keeper has no descriptor left to give it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { createDeferred } from '../../../src/base/index.js';
import { KeeperLink } from '../../../src/shim/keeper-link.js';
import {
  binding,
  LM_MSG_ADOPT,
  LM_MSG_ADOPTED,
  LM_MSG_CHILD,
  LM_MSG_DONE,
  LM_MSG_EXITED,
  LM_MSG_FAILED,
  LM_MSG_HELLO,
  LM_MSG_RELAY,
  LM_MSG_REPLAYED,
  LM_MSG_SPAWN,
  LM_MSG_SPAWNED,
  LM_MSG_WELCOME,
  type Message,
  MessageSocket,
} from '../../../src/sys/index.js';
import { IGNORED } from '../../lib/keeper-events.js';
import { until } from '../../lib/wait.js';

const ESRCH = 3;
/** wait(2)'s status, and when. */
const exitFields = Buffer.alloc(4);
const exitTime = Buffer.alloc(8);

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

  const adopted = (serial: number): void => keeper.send({ type: LM_MSG_ADOPTED, serial, arg: child.pid ?? 0 });
  const failed = (serial: number, errno: number): void =>
    keeper.send({ type: LM_MSG_FAILED, serial, arg: errno, fields: ['adopt: No such process'] });

  it('signals a program by a pidfd of its own, once the keeper has said that it is still its child', async () => {
    const spawned = link.children.spawn({ name: 'sleep', argv: ['sleep', '1000'] });
    const { serial } = await request(LM_MSG_SPAWN);
    keeper.send({ type: LM_MSG_SPAWNED, serial, arg: child.pid ?? 0 });
    const exit = once(child, 'exit');
    (await spawned).kill(15);
    const asked = await request(LM_MSG_ADOPT);
    assert.equal(asked.fields[0]?.toString(), 'run:sleep');
    adopted(asked.serial);
    assert.deepEqual(await exit, [null, 'SIGTERM']);
  });

  it('signals a program of its predecessor in the same way', async () => {
    keeper.send({ type: LM_MSG_CHILD, arg: child.pid ?? 0, fields: ['run:logger x'] });
    keeper.send({ type: LM_MSG_REPLAYED });
    const run = await until('the program is known', () => link.children.inheritedRun('logger x'));
    const exit = once(child, 'exit');
    run.kill(15);
    adopted((await request(LM_MSG_ADOPT)).serial);
    assert.deepEqual(await exit, [null, 'SIGTERM']);
  });

  it('signals nobody when the keeper has reaped the program: its number may be another process by now', async () => {
    keeper.send({ type: LM_MSG_REPLAYED });
    const spawned = link.children.spawn({ name: 'sleep', argv: ['sleep', '1000'] });
    const { serial } = await request(LM_MSG_SPAWN);
    keeper.send({ type: LM_MSG_SPAWNED, serial, arg: child.pid ?? 0 });
    const program = await spawned;
    program.kill(15);
    failed((await request(LM_MSG_ADOPT)).serial, ESRCH);
    keeper.send({ type: LM_MSG_EXITED, serial: 1, arg: child.pid ?? 0, fields: ['run:sleep', exitFields, exitTime] });
    await program.exited;
    assert.equal(child.exitCode ?? child.signalCode, null);
  });

  it('holds a process that it adopts by a pidfd of its own', async () => {
    const pid = child.pid ?? 0;
    const held = link.children.adopt(pid, 'p/c/');
    const first = await request(LM_MSG_ADOPT);
    messages.length = 0;
    adopted(first.serial);
    adopted((await request(LM_MSG_ADOPT)).serial);
    const exit = once(child, 'exit');
    link.children.signal(await held, 15);
    closeSync((await held).pidfd);
    assert.deepEqual(await exit, [null, 'SIGTERM']);
  });
});

describe('KeeperLink', () => {
  /**
   * A keeper played by the test, with these features, and an engine's link to it that has welcomed
   * it.
   */
  const played = async (
    features: string,
    replay: (keeper: MessageSocket) => void = () => undefined,
  ): Promise<{ link: KeeperLink; messages: Message[]; keeper: MessageSocket; end: () => void }> => {
    const [ours, theirs] = binding().socketPair('seqpacket');
    const messages: Message[] = [];
    const keeper = new MessageSocket({ fd: ours, onMessage: (m) => messages.push(m), onClose: () => undefined });
    const replayed = createDeferred<void>();
    const link = new KeeperLink(theirs, () => ({ ...IGNORED, onReplayed: () => replayed.resolve() }));
    keeper.send({ type: LM_MSG_HELLO, arg: process.pid, fields: ['id=one', `features=${features}`] });
    replay(keeper);
    keeper.send({ type: LM_MSG_REPLAYED });
    await replayed.promise;
    await until('WELCOME', () => messages.some(({ type }) => type === LM_MSG_WELCOME));
    const end = (): void => {
      for (const { fds } of messages) for (const fd of fds) closeSync(fd);
      link.close();
      keeper.close();
    };
    return { link, messages, keeper, end };
  };

  for (const [features, fields, descriptors] of [
    ['relay-entry', ['io/c//out', 'io/c//console', ''], 1],
    ['', ['io/c//out'], 2],
  ] as const) {
    it(`relays a terminal by its entry's name only where the keeper's features are "${features}"`, async () => {
      const { link, messages, keeper, end } = await played(features);
      const [read, write] = binding().pipe();
      const begun = link.relay('io/c//out', { entry: 'io/c//console', fd: read }, write);
      const relay = await until('RELAY', () => messages.find(({ type }) => type === LM_MSG_RELAY));
      assert.deepEqual(relay.fields.map(String), fields);
      assert.equal(relay.fds.length, descriptors);
      keeper.send({ type: LM_MSG_DONE, serial: relay.serial, arg: 1 });
      assert.equal(await begun, true);
      for (const fd of [read, write]) closeSync(fd);
      end();
    });
  }

  for (const childFirst of [true, false]) {
    it(`takes no replayed report for the end of the child that has its pid now, told ${childFirst ? 'before' : 'after'} it`, async () => {
      const report = {
        type: LM_MSG_EXITED,
        serial: 4,
        arg: 777,
        fields: ['run:old', Buffer.alloc(4), Buffer.alloc(8)],
      };
      const child = { type: LM_MSG_CHILD, arg: 777, fields: ['run:new'] };
      const { link, keeper, end } = await played('', (replaying) => {
        for (const message of childFirst ? [child, report] : [report, child]) replaying.send(message);
      });
      assert.deepEqual(link.children.inheritedNames(''), ['new']);
      // Its own report, when it comes, counts.
      const seen = link.children.inheritedRuns('new', 120_000, () => true);
      keeper.send({ ...report, serial: 5, fields: ['run:new', Buffer.alloc(4), Buffer.alloc(8)] });
      await until('it has ended', () => link.children.inheritedNames('').length === 0);
      await seen;
      end();
    });
  }
});
