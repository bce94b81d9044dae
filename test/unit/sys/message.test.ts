import assert from 'node:assert/strict';
import { closeSync, fstatSync, ftruncateSync } from 'node:fs';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code } from '../../../src/base/index.js';
import {
  binding,
  decodeMessage,
  encodeMessage,
  LM_F_BODY_FD,
  LM_F_ENDED,
  LM_FDS_MAX,
  LM_HEADER_SIZE,
  LM_INLINE_MAX,
  LM_MESSAGE_MAX,
  LM_MSG_ENTRY,
  LM_MSG_HELLO,
  MessageError,
} from '../../../src/sys/index.js';
import { closeFds, expectNoLeaks } from './leaks.js';

const U64_MAX = 2n ** 64n - 1n;

function isOpen(fd: number): boolean {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
}

/** A header with this count, then these bytes. */
function packet(count: number, body: readonly number[], flags = 0): Buffer {
  const header = Buffer.alloc(LM_HEADER_SIZE);
  header.writeUInt8(76, 0);
  header.writeUInt8(1, 1);
  header.writeUInt16LE(5, 2);
  header.writeUInt32LE(flags, 4);
  header.writeUInt32LE(count, 12);
  return Buffer.concat([header, Buffer.from(body)]);
}

const isBroken = { name: 'MessageError', code: Code.DataLoss };

describe('message layout', () => {
  expectNoLeaks();

  it('is the one of native/README.md, byte for byte', () => {
    const { data, fds, bodyFd } = encodeMessage({
      type: 0x1234,
      flags: 6,
      serial: 7,
      arg: 2n ** 40n,
      fields: ['hé', ''],
    });
    assert.equal(
      data.toString('hex'),
      '4c013412' + '06000000' + '07000000' + '02000000' + '0000000000010000' + '03000000' + '68c3a9' + '00000000',
    );
    assert.deepEqual(fds, []);
    assert.equal(bodyFd, undefined);
  });

  it('comes back as it was sent, whatever it holds', () => {
    const field = fc.oneof(
      { weight: 9, arbitrary: fc.uint8Array() },
      fc.uint8Array({ minLength: 20_000, maxLength: 40_000 }),
    );
    const message = fc.record({
      type: fc.nat(0xffff),
      flags: fc.nat(0xffff_ffff).map((flags) => (flags & ~LM_F_BODY_FD) >>> 0),
      serial: fc.nat(0xffff_ffff),
      arg: fc.bigInt({ min: 0n, max: U64_MAX }),
      fields: fc.array(field, { maxLength: 5 }),
    });
    fc.assert(
      fc.property(message, (sent) => {
        const { data, fds } = encodeMessage(sent);
        const got = decodeMessage(data, fds);
        assert.deepEqual(
          [got.type, got.flags, got.serial, BigInt(got.arg)],
          [sent.type, sent.flags, sent.serial, sent.arg],
        );
        assert.equal(typeof got.arg, sent.arg > BigInt(Number.MAX_SAFE_INTEGER) ? 'bigint' : 'number');
        assert.equal(got.fields.length, sent.fields.length);
        assert.ok(got.fields.every((bytes, i) => bytes.equals(sent.fields[i] ?? Buffer.from('?'))));
        assert.deepEqual(got.fds, []);
      }),
    );
  });

  it('puts a body above the inline limit into a memory file, the last descriptor', () => {
    const fits = encodeMessage({ type: 1, fields: [Buffer.alloc(LM_INLINE_MAX - LM_HEADER_SIZE - 4)] });
    assert.equal(fits.data.length, LM_INLINE_MAX);
    assert.equal(fits.bodyFd, undefined);

    const large = encodeMessage({
      type: 1,
      flags: LM_F_ENDED,
      fields: [Buffer.alloc(LM_INLINE_MAX - LM_HEADER_SIZE - 3, 1)],
      fds: [0],
    });
    assert.ok(large.bodyFd !== undefined);
    assert.equal(large.data.length, LM_HEADER_SIZE);
    assert.deepEqual(large.fds, [0, large.bodyFd]);
    assert.equal(fstatSync(large.bodyFd).size, LM_INLINE_MAX - LM_HEADER_SIZE + 1);
    const message = decodeMessage(large.data, large.fds);
    assert.equal(isOpen(large.bodyFd), false);
    assert.equal(message.flags, LM_F_ENDED);
    assert.deepEqual(message.fds, [0]);
    assert.equal(message.fields[0]?.length, LM_INLINE_MAX - LM_HEADER_SIZE - 3);
  });

  it('refuses what it cannot express, and opens nothing for it', () => {
    const refused = { name: 'MessageError', code: Code.InvalidArgument };
    const fds = Array.from({ length: LM_FDS_MAX }, () => 0);
    assert.throws(() => encodeMessage({ type: 65536 }), refused);
    assert.throws(() => encodeMessage({ type: 1, serial: -1 }), refused);
    assert.throws(() => encodeMessage({ type: 1, flags: 2 ** 32 }), refused);
    assert.throws(() => encodeMessage({ type: 1, arg: -1 }), refused);
    assert.throws(() => encodeMessage({ type: 1, arg: 2 ** 53 }), refused);
    assert.throws(() => encodeMessage({ type: 1, arg: U64_MAX + 1n }), refused);
    assert.throws(() => encodeMessage({ type: 1, fds: [...fds, 0] }), refused);
    assert.throws(() => encodeMessage({ type: 1, fds, fields: [Buffer.alloc(LM_INLINE_MAX)] }), refused);
    assert.throws(
      () => encodeMessage({ type: 1, fields: [Buffer.alloc(LM_MESSAGE_MAX - LM_HEADER_SIZE - 3)] }),
      refused,
    );
    assert.equal(encodeMessage({ type: 1, fds }).fds.length, LM_FDS_MAX);
  });
});

describe('decoding a message', () => {
  expectNoLeaks();

  it('refuses every proper beginning of a message, and any surplus', () => {
    const { data } = encodeMessage({ type: 1, fields: ['one', 'two', Buffer.alloc(0)] });
    for (let length = 0; length < data.length; length += 1) {
      assert.throws(() => decodeMessage(data.subarray(0, length)), isBroken, `${length} bytes`);
    }
    assert.throws(() => decodeMessage(Buffer.concat([data, Buffer.alloc(1)])), isBroken);
  });

  it('refuses another magic and another version, but for HELLO, which tells its own', () => {
    const other = (type: number, at: number): Buffer => {
      const { data } = encodeMessage({ type });
      data.writeUInt8(2, at);
      return data;
    };
    assert.throws(() => decodeMessage(other(LM_MSG_ENTRY, 0)), isBroken);
    assert.throws(() => decodeMessage(other(LM_MSG_ENTRY, 1)), isBroken);
    assert.throws(() => decodeMessage(other(LM_MSG_HELLO, 0)), isBroken);
    assert.equal(decodeMessage(other(LM_MSG_HELLO, 1)).version, 2);
  });

  it('refuses lengths and counts beyond the message without allocating for them', () => {
    assert.throws(() => decodeMessage(packet(0xffff_ffff, [])), isBroken);
    assert.throws(() => decodeMessage(packet(1, [0xff, 0xff, 0xff, 0xff])), isBroken);
    assert.throws(() => decodeMessage(packet(2, [0, 0, 0, 0, 1, 0, 0, 0])), isBroken);
  });

  it('fails with a MessageError or not at all, whatever comes', () => {
    const anyBytes = fc.uint8Array({ maxLength: 80 });
    const nearly = fc
      .tuple(fc.nat(6), fc.array(fc.oneof(fc.nat(255), fc.constant(0)), { maxLength: 40 }))
      .map(([count, body]) => packet(count, body));
    fc.assert(
      fc.property(fc.oneof(anyBytes, nearly), (bytes) => {
        try {
          const message = decodeMessage(Buffer.from(bytes));
          const total = message.fields.reduce((sum, field) => sum + 4 + field.length, LM_HEADER_SIZE);
          assert.equal(total, bytes.length);
        } catch (error) {
          assert.ok(error instanceof MessageError, String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('closes every descriptor of a message it refuses', () => {
    const cases: [Buffer, (fds: number[]) => void][] = [
      [Buffer.alloc(3), () => undefined],
      [packet(1, []), () => undefined],
      [packet(1, [], LM_F_BODY_FD), (fds) => fds.push(binding().memfd('short', Buffer.from([9, 0, 0, 0])))],
      [packet(0, [], LM_F_BODY_FD), (fds) => fds.push(...binding().pipe())],
      [packet(1, [0, 0, 0, 0], LM_F_BODY_FD), (fds) => fds.push(binding().memfd('both', Buffer.alloc(4)))],
    ];
    for (const [data, prepare] of cases) {
      const fds: number[] = [...binding().pipe()];
      prepare(fds);
      assert.throws(() => decodeMessage(data, fds), isBroken);
      assert.deepEqual(fds.filter(isOpen), []);
    }
    assert.throws(() => decodeMessage(packet(0, [], LM_F_BODY_FD), []), isBroken);
  });

  it('refuses a body that is too large before reading it', () => {
    const fd = binding().memfd('huge', Buffer.alloc(0));
    ftruncateSync(fd, LM_MESSAGE_MAX);
    assert.throws(() => decodeMessage(packet(0, [], LM_F_BODY_FD), [fd]), /too large/);
    assert.equal(isOpen(fd), false);
  });

  it('passes unknown types and flags on', () => {
    const data = packet(0, [], 0x8000_0000);
    const message = decodeMessage(data);
    assert.equal(message.type, 5);
    assert.equal(message.flags, 0x8000_0000);
  });

  it('leaves the descriptors to the message', () => {
    const fds = binding().pipe();
    const message = decodeMessage(packet(0, []), fds);
    assert.deepEqual(message.fds, fds);
    closeFds(message.fds);
    assert.throws(() => closeSync(fds[0]), { code: 'EBADF' });
  });
});
