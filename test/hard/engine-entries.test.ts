/**
 * What a keeper has kept for an engine, with wrong bytes: whatever an entry holds, the session
 * takes it, says what it cannot read, and goes on. Nothing is thrown.
 *
 * LAMINA_FUZZ_RUNS sets how many replays (default 300), LAMINA_FUZZ_SEED repeats one that failed.
 */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import fc from 'fast-check';
import { forward } from '../../src/api/index.js';
import { Boundary } from '../../src/shim/boundary.js';
import { ConfigFile } from '../../src/shim/config.js';
import { KeeperLink } from '../../src/shim/keeper-link.js';
import { Session } from '../../src/shim/session.js';
import {
  binding,
  LM_MSG_CHILD,
  LM_MSG_DECLINE,
  LM_MSG_ENTRY,
  LM_MSG_PING,
  LM_MSG_PONG,
  LM_MSG_REPLAYED,
} from '../../src/sys/index.js';
import { type Action, answer, HELLO, openFds, send, until } from '../lib/link-talk.js';

const RUNS = Number(process.env['LAMINA_FUZZ_RUNS'] ?? 300);
const SEED = process.env['LAMINA_FUZZ_SEED'];
const parameters = { numRuns: RUNS, ...(SEED === undefined ? {} : { seed: Number(SEED) }) };

const dir = mkdtempSync(join(tmpdir(), 'entries-'));
const bundle = join(dir, 'one');
const STDIO = { stdin: '', stdout: '', stderr: '', terminal: false };
const EXIT = { code: 3, timeNs: '17' };
// No process of this machine: the pids are asked for of the keeper, which says nothing.
const RECORD = {
  id: 'one',
  bundle,
  options: { binaryName: 'runc', root: join(dir, 'root'), ioUid: 0, ioGid: 0 },
  systemdCgroup: false,
  sharesPidNamespace: false,
  copyOutput: false,
  checkpoint: '',
  isFresh: true,
  cgroup: '0::/lamina-no-such-group',
  oomKills: '2',
  state: 'running',
  init: { stdio: STDIO, pid: 5, reaped: EXIT, exit: EXIT },
  execs: { x: { stdio: STDIO, pid: 6, state: 'created', failed: false, step: 'start' } },
};
const event = forward.ForwardRequest.encode({
  envelope: { timestamp: undefined, namespace: 'n', topic: '/t', event: undefined },
}).finish();

/** Name → what an engine has stored under it. */
const GOOD: Readonly<Record<string, string | Uint8Array>> = {
  'c/one': JSON.stringify(RECORD),
  'x/one/x': JSON.stringify({ args: ['true'], cwd: '/' }),
  'ev/3': event,
  't/two': JSON.stringify({ pid: 7, exit: EXIT }),
  't/one/y': JSON.stringify({ pid: 8 }),
  'm/three': join(dir, 'three', 'rootfs'),
  'end/idle': '123456',
  'daemon/sent': '2 1234',
  'io/one//stdout-hold': '',
  'io/one//console-socket': join(dir, 'no.sock'),
  'io/one/x/err-src': '',
  'io/one/x/err-dst': '',
};

/** JSON in which one value is another. */
function changed(text: string, at: number, value: unknown): string {
  let index = 0;
  return JSON.stringify(JSON.parse(text), (_key, old) => (index++ === at ? value : old)) ?? '';
}

const bytes = (good: string | Uint8Array): fc.Arbitrary<Uint8Array> => {
  const whole = Buffer.from(good as string);
  const isJson = typeof good === 'string' && good.startsWith('{');
  return fc.oneof(
    fc.constant(whole),
    fc.uint8Array({ maxLength: 60 }),
    fc.constantFrom('null', '[]', '{}', '""', '-1', '/', '../rootfs', 'NaN', '1e999', '9'.repeat(30)).map(Buffer.from),
    fc.nat({ max: whole.length }).map((length) => whole.subarray(0, length)),
    ...(isJson
      ? [
          fc
            .tuple(
              fc.nat({ max: 50 }),
              fc.oneof(fc.jsonValue(), fc.constantFrom(-1, 1e300, 'stopped', 'create', 'pausing')),
            )
            .map(([at, value]) => Buffer.from(changed(good as string, at, value))),
        ]
      : []),
  );
};

const name = (good: string): fc.Arbitrary<string> =>
  fc.oneof(
    { weight: 8, arbitrary: fc.constant(good) },
    fc.constantFrom(good.slice(0, -1), `${good}/`, `${good}x`, good.split('/')[0] ?? ''),
  );

const replay: fc.Arbitrary<Action[]> = fc
  .tuple(
    ...Object.entries(GOOD).map(([good, content]) =>
      fc.option(fc.record({ name: name(good), bytes: bytes(content), fdCount: fc.constantFrom(0, 0, 0, 1) }), {
        nil: undefined,
      }),
    ),
  )
  .map((entries) =>
    entries.flatMap((entry) =>
      entry === undefined
        ? []
        : [
            {
              ...HELLO,
              type: LM_MSG_ENTRY,
              arg: 0n,
              fields: [Buffer.from(entry.name), entry.bytes],
              fdCount: entry.fdCount,
            },
          ],
    ),
  );

/** One replay to a fresh session. @returns what was thrown into the event loop meanwhile */
async function take(entries: readonly Action[], config: ConfigFile): Promise<readonly unknown[]> {
  const thrown: unknown[] = [];
  process.setUncaughtExceptionCaptureCallback((error) => thrown.push(error));
  const [ours, theirs] = binding().socketPair('seqpacket');
  let hasEnded = false;
  const status = {
    pid: 1,
    version: '',
    directory: '',
    protocol: 1,
    keepers: 1,
    containers: 0,
    node: '',
    config: '',
    givenNode: '',
    configError: '',
  };
  const boundary = new Boundary(() => undefined);
  const link = boundary.run(
    () =>
      new KeeperLink(theirs, (hello, from) => {
        const onEnd = (): void => {
          hasEnded = true;
        };
        return new Session(hello, from, { config, engineStatus: () => status, onEnd });
      }),
  );
  try {
    const fields = ['namespace=n', 'id=one', `bundle=${bundle}`].map((text) => Buffer.from(text));
    send(ours, { ...HELLO, fields });
    for (const entry of entries) send(ours, entry);
    send(ours, { ...HELLO, type: LM_MSG_CHILD, arg: 5n, fields: [Buffer.from('p/one/')] });
    send(ours, { ...HELLO, type: LM_MSG_REPLAYED, fields: [] });
    send(ours, { ...HELLO, type: LM_MSG_PING, serial: 77, fields: [] });
    assert.equal(await answer(ours, (type) => type === LM_MSG_PONG || type === LM_MSG_DECLINE), LM_MSG_PONG);
  } finally {
    closeSync(ours);
    await until('the link to end', () => link.closed && hasEnded);
    await setImmediate();
    process.setUncaughtExceptionCaptureCallback(null);
  }
  return thrown;
}

describe('what a keeper has kept, with wrong bytes,', () => {
  let config: ConfigFile;
  before(async () => {
    config = await ConfigFile.open();
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  it('throws nothing and ends no session', async () => {
    await fc.assert(
      fc.asyncProperty(replay, async (entries) => {
        assert.deepEqual(await take(entries, config), []);
      }),
      parameters,
    );
  });

  it('leaves no descriptor behind', async () => {
    await take([], config);
    const open = openFds();
    await fc.assert(
      fc.asyncProperty(replay, async (entries) => {
        await take(entries, config);
        await until('all descriptors to be closed', () => openFds() <= open);
      }),
      parameters,
    );
  });
});
