import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Code, codeOf } from '../../../src/base/index.js';
import { socketPathOf } from '../../../src/containerd/address.js';
import { Deframer, frame } from '../../../src/containerd/grpc-frame.js';

describe('gRPC messages', () => {
  it('come out as they went in, however the bytes are cut', () => {
    const messages = fc.array(fc.uint8Array({ maxLength: 40 }), { maxLength: 8 });
    fc.assert(
      fc.property(messages, fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 }), (sent, cuts) => {
        const bytes = Buffer.concat(sent.map((message) => frame(message)));
        const deframer = new Deframer();
        const got: Uint8Array[] = [];
        for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
          const length = cuts[turn % cuts.length] ?? 1;
          got.push(...deframer.push(bytes.subarray(at, at + length)));
          at += length;
        }
        assert.deepEqual(
          got.map((message) => [...message]),
          sent.map((message) => [...message]),
        );
        assert.equal(deframer.rest, 0);
      }),
    );
  });

  it('that are compressed or too long are refused before they are kept', () => {
    const deframer = new Deframer();
    assert.throws(() => [...deframer.push(Buffer.from([1, 0, 0, 0, 0]))], { code: Code.Internal });
    const long = Buffer.from([0, 0xff, 0xff, 0xff, 0xff]);
    assert.throws(() => [...new Deframer().push(long)], { code: Code.ResourceExhausted, message: /4294967295 bytes/ });
  });
});

describe("containerd's address", () => {
  it('is a path, with or without unix://', () => {
    assert.equal(socketPathOf('/run/containerd/containerd.sock'), '/run/containerd/containerd.sock');
    assert.equal(socketPathOf('unix:///run/c.sock'), '/run/c.sock');
    assert.equal(socketPathOf('unix:/run/c.sock'), '/run/c.sock');
  });

  it('that is none is refused with an example', () => {
    for (const address of [
      '',
      'containerd.sock',
      'tcp://127.0.0.1:80',
      'unix://run/c.sock',
      `/${'x'.repeat(107)}`,
      '/a\0b',
    ]) {
      assert.throws(
        () => socketPathOf(address),
        (error) => codeOf(error) === Code.InvalidArgument && error instanceof Error && error.message.includes('path'),
        address,
      );
    }
  });
});
