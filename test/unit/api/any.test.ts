import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import * as api from '../../../src/api/index.js';
import { Code, LaminaError } from '../../../src/base/index.js';

const INVALID = (error: unknown) => error instanceof LaminaError && error.code === Code.InvalidArgument;

describe('type names', () => {
  it('are what follows the last slash', () => {
    assert.equal(api.typeName({ typeUrl: 'containerd.events.TaskExit' }), 'containerd.events.TaskExit');
    assert.equal(
      api.typeName({ typeUrl: 'type.googleapis.com/containerd.events.TaskExit' }),
      'containerd.events.TaskExit',
    );
    assert.equal(api.typeName({ typeUrl: api.OCI_TYPE_URL.features }), 'Features');
    assert.equal(api.typeName({ typeUrl: '' }), '');
  });
});

describe('messages in Any', () => {
  it('are packed under the bare name and unpacked under both', () => {
    const details = { execId: 'e1' };
    const any = api.packMessage(api.runc.ProcessDetails, details);
    assert.equal(any.typeUrl, 'containerd.runc.v1.ProcessDetails');
    assert.deepEqual(api.packAny(any.typeUrl, any.value), any);
    assert.deepEqual(api.unpackMessage(api.runc.ProcessDetails, any), details);
    const prefixed = { ...any, typeUrl: `type.googleapis.com/${any.typeUrl}` };
    assert.deepEqual(api.unpackMessage(api.runc.ProcessDetails, prefixed), details);
  });

  it('of another type are not touched', () => {
    const any = { typeUrl: 'runtimeoptions.v1.Options', value: Uint8Array.of(0xff) };
    assert.equal(api.unpackMessage(api.runc.Options, any), undefined);
  });

  it('with undecodable bytes are refused, naming the type', () => {
    const any = { typeUrl: 'containerd.runc.v1.Options', value: Uint8Array.of(0x1a, 0x7f, 0x00) };
    assert.throws(() => api.unpackMessage(api.runc.Options, any), INVALID);
    assert.throws(() => api.unpackMessage(api.runc.Options, any), /decode containerd\.runc\.v1\.Options: /);
  });
});

describe('JSON in Any', () => {
  it('goes there and back', () => {
    const any = api.packJson(api.OCI_TYPE_URL.process, { args: ['é'] });
    assert.equal(any.typeUrl, 'types.containerd.io/opencontainers/runtime-spec/1/Process');
    assert.deepEqual(api.unpackJson(any), { args: ['é'] });
  });

  it('is refused when it is no JSON or no UTF-8', () => {
    assert.throws(() => api.unpackJson({ typeUrl: 'x', value: Buffer.from('{') }), INVALID);
    assert.throws(() => api.unpackJson({ typeUrl: 'x', value: Buffer.from([0x22, 0xff, 0x22]) }), INVALID);
  });
});

describe('timestamps', () => {
  it('keep every nanosecond, before the epoch too', () => {
    assert.deepEqual(api.fromNs(1_700_000_000_123_456_789n), { seconds: 1_700_000_000n, nanos: 123_456_789 });
    assert.deepEqual(api.fromNs(-1n), { seconds: -1n, nanos: 999_999_999 });
    for (const ns of [0n, 1n, -1n, 999_999_999n, -1_000_000_000n, 2n ** 62n])
      assert.equal(api.toNs(api.fromNs(ns)), ns);
  });

  it('know Go’s zero time', () => {
    assert.ok(api.isGoZeroTime(api.goZeroTime()));
    assert.ok(!api.isGoZeroTime({ seconds: 0n, nanos: 0 }));
    assert.equal(new Date(Number(api.toNs(api.goZeroTime()) / 1_000_000n)).toISOString(), '0001-01-01T00:00:00.000Z');
  });
});
