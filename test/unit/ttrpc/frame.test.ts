import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { encodeFrame, FrameDecoder, HEADER_LENGTH, MAX_PAYLOAD, readHeader } from '../../../src/ttrpc/index.js';

function frame(streamId: number, length: number): Uint8Array {
  return encodeFrame({ streamId, type: 1, flags: 2 }, new Uint8Array(length).fill(streamId));
}

/** A header that announces a body of this length. */
function headerOnly(streamId: number, length: number): Uint8Array {
  const header = encodeFrame({ streamId, type: 3, flags: 0 });
  new DataView(header.buffer).setUint32(0, length);
  return header;
}

function decodeAll(chunks: Iterable<Uint8Array>, maxPayload?: number): { frames: Uint8Array[]; buffered: number } {
  const frames: Uint8Array[] = [];
  const decoder = new FrameDecoder((one) => frames.push(one), maxPayload);
  for (const chunk of chunks) decoder.push(chunk);
  return { frames, buffered: decoder.buffered };
}

describe('the frame header', () => {
  it('is ten bytes, big endian', () => {
    const bytes = encodeFrame({ streamId: 0x01020304, type: 5, flags: 6 }, Uint8Array.of(7));
    assert.deepEqual([...bytes], [0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7]);
  });

  it('holds unsigned numbers', () => {
    const bytes = headerOnly(0xffffffff, 0xfffffffe);
    assert.deepEqual(readHeader(bytes), { length: 0xfffffffe, streamId: 0xffffffff, type: 3, flags: 0 });
  });
});

describe('the frame decoder', () => {
  const frames = [frame(1, 0), frame(3, 1), frame(5, 300), frame(7, 0)];
  const stream = Buffer.concat(frames);

  it('finds the same frames wherever the stream is split', () => {
    for (let at = 0; at <= stream.length; at += 1) {
      const { frames: found, buffered } = decodeAll([stream.subarray(0, at), stream.subarray(at)]);
      assert.deepEqual(found, frames, `split at ${at}`);
      assert.equal(buffered, 0);
    }
  });

  it('finds them byte by byte', () => {
    assert.deepEqual(decodeAll(Array.from(stream, (byte) => Uint8Array.of(byte))).frames, frames);
  });

  it('gives plain arrays, also for chunks that are Buffers', () => {
    for (const found of decodeAll([Buffer.from(stream)]).frames)
      assert.equal(Object.getPrototypeOf(found), Uint8Array.prototype);
  });

  it('takes a body of exactly 4 MiB, in one piece and in many', () => {
    const largest = frame(1, MAX_PAYLOAD);
    const pieces = [largest.subarray(0, 7), largest.subarray(7, 65536), largest.subarray(65536)];
    for (const chunks of [[largest], pieces]) {
      const { frames: found } = decodeAll(chunks);
      assert.equal(found.length, 1);
      assert.ok(found[0] !== undefined && Buffer.compare(found[0], largest) === 0);
    }
  });

  it('skips a body of 4 MiB + 1, reporting its header before it arrives', () => {
    const found: Uint8Array[] = [];
    const decoder = new FrameDecoder((one) => found.push(one));
    const header = headerOnly(9, MAX_PAYLOAD + 1);
    decoder.push(header.subarray(0, 3));
    decoder.push(header.subarray(3));
    assert.deepEqual(found, [header]);
    const body = new Uint8Array(1024 * 1024).fill(0xff);
    for (let part = 0; part < 4; part += 1) decoder.push(body);
    assert.equal(decoder.buffered, 0);
    decoder.push(Buffer.concat([Uint8Array.of(0xff), frame(11, 2)]));
    assert.deepEqual(found.slice(1), [frame(11, 2)]);
  });

  it('does not believe a length of 4 GiB', () => {
    const { frames: found, buffered } = decodeAll([headerOnly(1, 0xffffffff), new Uint8Array(100)]);
    assert.deepEqual([found.length, found[0]?.length, buffered], [1, HEADER_LENGTH, 0]);
  });

  it('finds any frames in any chunks', () => {
    const anyFrame = fc.record({
      streamId: fc.integer({ min: 0, max: 0xffffffff }),
      type: fc.integer({ min: 0, max: 255 }),
      flags: fc.integer({ min: 0, max: 255 }),
      body: fc.uint8Array({ maxLength: 40 }),
    });
    fc.assert(
      fc.property(fc.array(anyFrame), fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (parts, sizes) => {
        const expected = parts.map(({ body, ...header }) => ({ header, body }));
        const bytes = Buffer.concat(expected.map(({ header, body }) => encodeFrame(header, body)));
        const chunks: Uint8Array[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
          const size = sizes[turn % sizes.length] ?? 1;
          chunks.push(bytes.subarray(at, at + size));
          at += size;
        }
        // A limit of 20 makes about half of the bodies oversized.
        const { frames: found } = decodeAll(chunks, 20);
        assert.equal(found.length, expected.length);
        for (const [index, { header, body }] of expected.entries()) {
          const one = found[index];
          assert.ok(one !== undefined);
          assert.deepEqual(readHeader(one), { ...header, length: body.length });
          assert.deepEqual(one.subarray(HEADER_LENGTH), body.length > 20 ? new Uint8Array(0) : body);
        }
      }),
    );
  });
});
