/** A keeper's part in a conversation with an engine, over a real socket pair, in one process. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { binding, decodeMessage, encodeMessage, LM_MSG_HELLO, LM_PROTOCOL } from '../../src/sys/index.js';

/** A message whose layout is right. */
export interface Said {
  readonly kind: 'message';
  readonly type: number;
  readonly flags: number;
  readonly serial: number;
  readonly arg: bigint;
  readonly fields: readonly Uint8Array[];
  readonly fdCount: number;
  readonly version: number;
}

/** Bytes that happen to come in a packet. */
export interface Noise {
  readonly kind: 'noise';
  readonly bytes: Uint8Array;
  readonly fdCount: number;
}

export type Action = Said | Noise;
export const HELLO: Said = {
  kind: 'message',
  type: LM_MSG_HELLO,
  flags: 0,
  serial: 0,
  arg: 4n,
  fields: [Buffer.from('id=one'), Buffer.from('namespace=test')],
  fdCount: 0,
  version: LM_PROTOCOL,
};

export function send(fd: number, action: Action): void {
  const fds = Array.from({ length: action.fdCount }, () => openSync('/dev/null', 'r'));
  let bodyFd: number | undefined;
  try {
    if (action.kind === 'noise') {
      binding().sendMessage(fd, action.bytes, fds);
      return;
    }
    const encoded = encodeMessage({ ...action, fds });
    bodyFd = encoded.bodyFd;
    encoded.data.writeUInt8(action.version, 1);
    binding().sendMessage(fd, encoded.data, encoded.fds);
  } catch (error) {
    // The engine has ended the link.
    assert.match(String(error), /EPIPE|ECONNRESET/);
  } finally {
    for (const opened of [...fds, ...(bodyFd === undefined ? [] : [bodyFd])]) closeSync(opened);
  }
}

/**
 * Lets the event loop turn until something is true. The pauses of test/lib/wait.ts would be most of
 * a run's time.
 */
export async function until(what: string, check: () => boolean): Promise<void> {
  const end = performance.now() + 10_000;
  while (!check()) {
    if (performance.now() > end) assert.fail(`not within 10 s: ${what}`);
    await setImmediate();
  }
}

/** Takes the engine's messages until one passes, or the end of the link: then undefined. */
export async function answer(fd: number, wanted: (type: number) => boolean): Promise<number | undefined> {
  let found: number | undefined;
  let ended = false;
  await until('the engine to answer', () => {
    while (!ended && found === undefined) {
      try {
        const received = binding().recvMessage(fd, 65_536);
        if (received === null) return false;
        ended = received.data.length === 0;
        if (ended) break;
        const { type, fds } = decodeMessage(received.data, received.fds);
        for (const opened of fds) closeSync(opened);
        if (wanted(type)) found = type;
      } catch (error) {
        assert.match(String(error), /ECONNRESET/);
      }
    }
    return true;
  });
  return found;
}

/** Descriptors of this process, but for the one that lists them. */
export const openFds = (): number => readdirSync('/proc/self/fd').length;

export function closeIfOpen(fd: number): void {
  if (fd >= 0) closeSync(fd);
}
