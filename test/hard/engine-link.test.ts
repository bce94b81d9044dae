/**
 * A keeper gone mad, at the engine's end of a real socket pair: whatever it sends, in any order,
 * the engine takes it or ends that link. It never throws (one shared engine serves every container
 * of the node) and keeps no descriptor.
 *
 * LAMINA_FUZZ_RUNS sets how many conversations (default 300), LAMINA_FUZZ_SEED repeats one that
 * failed.
 */
import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { KeeperLink } from '../../src/shim/keeper-link.js';
import {
  binding,
  LM_F_BODY_FD,
  LM_HEADER_SIZE,
  LM_MAGIC,
  LM_MSG_DECLINE,
  LM_MSG_PING,
  LM_MSG_PONG,
  LM_MSG_WELCOME,
  LM_PROTOCOL,
  sharedPoller,
} from '../../src/sys/index.js';
import { IGNORED } from '../lib/keeper-events.js';
import {
  type Action,
  answer,
  closeIfOpen,
  HELLO,
  type Noise,
  openFds,
  type Said,
  send,
  until,
} from '../lib/link-talk.js';

const RUNS = Number(process.env['LAMINA_FUZZ_RUNS'] ?? 300);
const SEED = process.env['LAMINA_FUZZ_SEED'];
const FLAGS_MAX = 0xffff_ffff;

const field = fc.oneof(
  { weight: 3, arbitrary: fc.uint8Array({ maxLength: 40 }) },
  fc.constantFrom('c/one', 'io/one//out', 'run:runc one', 'ev/1', '', 'id=x', '=').map((text) => Buffer.from(text)),
  // Fields that hold a number have four or eight bytes.
  fc.constantFrom(4, 8).chain((length) => fc.uint8Array({ minLength: length, maxLength: length })),
);

const said: fc.Arbitrary<Said> = fc.record({
  kind: fc.constant('message' as const),
  type: fc.oneof({ weight: 8, arbitrary: fc.integer({ min: 1, max: 17 }) }, fc.integer({ min: 0, max: 0xffff })),
  flags: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: FLAGS_MAX })).map((flags) => (flags & ~LM_F_BODY_FD) >>> 0),
  serial: fc.oneof(fc.integer({ min: 0, max: 4 }), fc.integer({ min: 0, max: FLAGS_MAX })),
  arg: fc.oneof(fc.bigInt({ min: 0n, max: 5n }), fc.bigInt({ min: 0n, max: (1n << 64n) - 1n })),
  fields: fc.array(field, { maxLength: 6 }),
  fdCount: fc.oneof({ weight: 3, arbitrary: fc.constant(0) }, fc.integer({ min: 1, max: 3 })),
  version: fc.constant(LM_PROTOCOL),
});

const noise: fc.Arbitrary<Noise> = fc.record({
  kind: fc.constant('noise' as const),
  bytes: fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 100 }),
    // A good header, and nonsense behind it.
    fc.uint8Array({ minLength: LM_HEADER_SIZE, maxLength: 100 }).map((bytes) => {
      bytes[0] = LM_MAGIC;
      bytes[1] = LM_PROTOCOL;
      return bytes;
    }),
  ),
  fdCount: fc.integer({ min: 0, max: 3 }),
});

/** One conversation with a fresh link. @returns what was thrown into the event loop meanwhile */
async function converse(actions: readonly Action[], welcomes: boolean): Promise<readonly unknown[]> {
  const thrown: unknown[] = [];
  process.setUncaughtExceptionCaptureCallback((error) => thrown.push(error));
  const [ours, theirs] = binding().socketPair('seqpacket');
  const asked: Promise<unknown>[] = [];
  const link = new KeeperLink(theirs, (_hello, greeted) => {
    if (!welcomes) return undefined;
    asked.push(greeted.children.spawn({ name: 'x', argv: ['x'] }).catch(() => undefined));
    asked.push(
      greeted.children.adopt(5, 'y').then(
        ({ pidfd }) => closeIfOpen(pidfd),
        () => undefined,
      ),
    );
    return IGNORED;
  });
  try {
    for (const action of actions) send(ours, action);
    send(ours, { ...HELLO, type: LM_MSG_PING, serial: 77 });
    const type = await answer(ours, (got) => got === LM_MSG_PONG || got === LM_MSG_DECLINE);
    // It answers, or has ended the link; it is not silent.
    if (type === undefined) assert.ok(link.closed);
  } finally {
    closeSync(ours);
    await until('the link to end', () => link.closed);
    await Promise.all(asked);
    await setImmediate();
    process.setUncaughtExceptionCaptureCallback(null);
  }
  return thrown;
}

const parameters = { numRuns: RUNS, ...(SEED === undefined ? {} : { seed: Number(SEED) }) };

describe("a keeper's messages at the engine", () => {
  it('never throw into its event loop', async () => {
    const conversation = fc.array(fc.oneof({ weight: 6, arbitrary: said }, noise), { maxLength: 20 });
    await fc.assert(
      fc.asyncProperty(conversation, fc.boolean(), fc.boolean(), async (actions, greets, welcomes) => {
        assert.deepEqual(await converse(greets ? [HELLO, ...actions] : actions, welcomes), []);
      }),
      parameters,
    );
  });

  it('leave no descriptor behind', async () => {
    sharedPoller();
    await converse([HELLO], true);
    const conversation = fc.array(fc.oneof({ weight: 12, arbitrary: said }, noise), { maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(conversation, async (actions) => {
        const before = openFds();
        await converse([HELLO, ...actions], true);
        assert.equal(openFds(), before);
      }),
      parameters,
    );
  });

  it('are answered with WELCOME or DECLINE when they begin with HELLO, DECLINE in a version it does not speak', async () => {
    for (const [welcomes, version] of [
      [true, LM_PROTOCOL],
      [false, LM_PROTOCOL],
      [false, LM_PROTOCOL + 1],
      [false, 255],
    ] as const) {
      const [ours, theirs] = binding().socketPair('seqpacket');
      const link = new KeeperLink(theirs, () => (version === LM_PROTOCOL && !welcomes ? undefined : IGNORED));
      send(ours, { ...HELLO, version });
      // Its replay follows at once, whatever the answer will be.
      if (version !== LM_PROTOCOL) send(ours, { ...HELLO, type: LM_MSG_PING, version });
      assert.equal(await answer(ours, () => true), welcomes ? LM_MSG_WELCOME : LM_MSG_DECLINE, `version ${version}`);
      closeSync(ours);
      await until('the link to end', () => link.closed);
    }
  });
});
