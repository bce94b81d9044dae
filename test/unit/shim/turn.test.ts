import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import { describe, it } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { Turn } from '../../../src/shim/turn.js';
import { decodeMessage, LM_F_COUNTED, LM_MSG_BATCH, LM_MSG_PUT, type OutgoingMessage } from '../../../src/sys/index.js';

const put = (name: string, bytes = 1, fds: readonly number[] = []): OutgoingMessage => ({
  type: LM_MSG_PUT,
  fields: [name, Buffer.alloc(bytes)],
  fds,
});

/** What was sent, each packet as the names in it. */
function packets(sent: readonly OutgoingMessage[]): string[][] {
  const nameOf = (fields: readonly (Uint8Array | string)[] = []): string => String(fields[0]);
  return sent.map(({ type, fields = [] }) =>
    type === LM_MSG_BATCH ? fields.map((part) => nameOf(decodeMessage(part as Buffer).fields)) : [nameOf(fields)],
  );
}

describe('Turn', () => {
  it('sends what a turn gave in one packet, at its end, with what microtasks added', async () => {
    const sent: OutgoingMessage[] = [];
    const turn = new Turn((message) => void sent.push(message), false);
    turn.send(put('a'));
    turn.send(put('b'));
    await Promise.resolve();
    turn.send(put('c'));
    assert.deepEqual(packets(sent), []);
    await nextTurn();
    assert.deepEqual(packets(sent), [['a', 'b', 'c']]);
    turn.send(put('d'));
    await nextTurn();
    assert.deepEqual(packets(sent), [['a', 'b', 'c'], ['d']]);
    assert.equal(sent[1]?.type, LM_MSG_PUT);
  });

  it('keeps the order around messages with descriptors and large ones, which go at once', () => {
    const sent: OutgoingMessage[] = [];
    const turn = new Turn((message) => void sent.push(message), false);
    turn.send(put('a'));
    turn.send(put('b'));
    turn.send(put('with descriptor', 1, [0]));
    turn.send(put('c'));
    turn.send(put('large', 100_000));
    turn.send(put('d'));
    assert.deepEqual(packets(sent), [['a', 'b'], ['with descriptor'], ['c'], ['large']]);
    turn.flush();
    assert.deepEqual(packets(sent).at(-1), ['d']);
  });

  it('keeps duplicates of descriptors until they are sent, and says whose they are', () => {
    const sent: { readonly message: OutgoingMessage; readonly targets: string[] }[] = [];
    const turn = new Turn((message) => {
      sent.push({ message, targets: (message.fds ?? []).map((fd) => readlinkSync(`/proc/self/fd/${fd}`)) });
    }, true);
    const before = readdirSync('/proc/self/fd').length;
    for (const names of [['zero'], [], ['null', 'full'], []]) {
      const fds = names.map((name) => openSync(`/dev/${name}`, 'r'));
      turn.send(put(names.join(), 1, fds));
      for (const fd of fds) closeSync(fd);
    }
    turn.flush();
    const zero = openSync('/dev/zero', 'r');
    // No packet has room for more than 16.
    for (const count of [1, 10, 6, 16]) turn.send(put(`${count}`, 1, new Array<number>(count).fill(zero)));
    turn.flush();
    closeSync(zero);
    assert.deepEqual(
      sent.map(({ message: { type, flags, fields = [] } }) => [
        type === LM_MSG_BATCH,
        flags,
        type === LM_MSG_BATCH ? [...(fields[0] as Buffer)] : fields.length,
      ]),
      [
        [true, LM_F_COUNTED, [1, 0, 2, 0]],
        [true, LM_F_COUNTED, [1, 10]],
        [false, undefined, 2],
        [false, undefined, 2],
      ],
    );
    assert.deepEqual(sent[0]?.targets, ['/dev/zero', '/dev/null', '/dev/full']);
    assert.equal(sent[3]?.targets.length, 16);
    assert.equal(readdirSync('/proc/self/fd').length, before);
  });

  it('never exceeds what one packet may hold', () => {
    const sent: OutgoingMessage[] = [];
    const turn = new Turn((message) => void sent.push(message), false);
    const names = Array.from({ length: 200 }, (_, i) => `n${i}`);
    for (const name of names) turn.send(put(name, name.endsWith('0') ? 7000 : 1));
    turn.flush();
    assert.deepEqual(packets(sent).flat(), names);
    for (const { fields = [] } of sent) {
      assert.ok(fields.length <= 64, `${fields.length} fields`);
      const bytes = fields.reduce((sum, field) => sum + Buffer.byteLength(field) + 4, 24);
      assert.ok(bytes <= 32_768, `${bytes} bytes`);
    }
  });

  it('tells when it has been sent', async () => {
    const sent: OutgoingMessage[] = [];
    const turn = new Turn((message) => void sent.push(message), false);
    await turn.flushed();
    turn.send(put('a'));
    const flushed = turn.flushed();
    assert.equal(sent.length, 0);
    await flushed;
    assert.equal(sent.length, 1);
  });
});
