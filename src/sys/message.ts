/**
 * The layout of keeper ↔ engine messages (native/README.md): encoding and decoding, nothing of what they mean.
 *
 *     u8 magic, u8 version, u16 type, u32 flags, u32 serial, u32 count, u64 arg, count × { u32 length, bytes }
 *
 * Little endian. The fields of a message larger than LM_INLINE_MAX travel in a memfd, the last descriptor, flag LM_F_BODY_FD.
 */
import { closeSync, fstatSync, readSync } from 'node:fs';
import { Code, LaminaError, messageOf } from '../base/index.js';
import {
  LM_F_BODY_FD,
  LM_FDS_MAX,
  LM_HEADER_SIZE,
  LM_INLINE_MAX,
  LM_MAGIC,
  LM_MESSAGE_MAX,
  LM_MSG_HELLO,
  LM_PROTOCOL,
} from './gen/protocol.js';
import { binding } from './load-binding.js';

/** A message received. */
export interface Message {
  /** LM_PROTOCOL, but for a HELLO: what its sender speaks. */
  readonly version: number;
  /** LM_MSG_*; unknown ones are to be ignored. */
  readonly type: number;
  /** LM_F_*, without LM_F_BODY_FD. */
  readonly flags: number;
  readonly serial: number;
  /** A number where it is exact (up to 2^53 - 1), else a bigint. */
  readonly arg: number | bigint;
  readonly fields: readonly Buffer[];
  /** Descriptors, owned by whoever gets the message. */
  readonly fds: readonly number[];
  /** It had descriptors, and there was no room for them in this process. */
  readonly lost?: true;
}

/** A message to send; what is left out is 0 or empty. Strings are encoded as UTF-8. */
export interface OutgoingMessage {
  readonly type: number;
  readonly flags?: number;
  readonly serial?: number;
  readonly arg?: number | bigint;
  readonly fields?: readonly (Uint8Array | string)[];
  readonly fds?: readonly number[];
}

/** One packet, ready to be sent. */
export interface EncodedMessage {
  readonly data: Buffer;
  /** All descriptors in order; borrowed from the message, except bodyFd. */
  readonly fds: readonly number[];
  /** The memfd made for the body, also the last of fds; whoever called encodeMessage closes it. */
  readonly bodyFd: number | undefined;
}

/**
 * A message that is ill formed (DataLoss, on receipt) or cannot be expressed (InvalidArgument, on
 * sending).
 */
export class MessageError extends LaminaError {}

function refuse(what: string): MessageError {
  return new MessageError(Code.InvalidArgument, `encode keeper message: ${what}`, { subject: 'message' });
}

function broken(what: string, cause?: unknown): MessageError {
  return new MessageError(Code.DataLoss, `decode keeper message: ${what}`, { subject: 'message', cause });
}

function checkUnsigned(name: string, value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) throw refuse(`${name} ${value} is out of range`);
}

function encodeArg(arg: number | bigint): bigint {
  if (typeof arg === 'number' && !Number.isSafeInteger(arg)) throw refuse(`arg ${arg} is out of range`);
  const value = BigInt(arg);
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) throw refuse(`arg ${arg} is out of range`);
  return value;
}

/**
 * Encodes one message.
 * @throws MessageError InvalidArgument for numbers out of range, more than LM_MESSAGE_MAX bytes, or
 *   too many descriptors
 */
export function encodeMessage(message: OutgoingMessage): EncodedMessage {
  const { type, flags = 0, serial = 0, arg = 0, fields = [], fds = [] } = message;
  checkUnsigned('type', type, 0xffff);
  checkUnsigned('flags', flags, 0xffff_ffff);
  checkUnsigned('serial', serial, 0xffff_ffff);
  const value = encodeArg(arg);
  let size = LM_HEADER_SIZE;
  for (const field of fields) size += 4 + Buffer.byteLength(field);
  if (size > LM_MESSAGE_MAX) throw refuse(`${size} bytes are more than ${LM_MESSAGE_MAX}`);
  const inMemfd = size > LM_INLINE_MAX;
  if (fds.length + (inMemfd ? 1 : 0) > LM_FDS_MAX) throw refuse(`${fds.length} descriptors are too many`);

  const data = Buffer.allocUnsafe(size);
  data.writeUInt8(LM_MAGIC, 0);
  data.writeUInt8(LM_PROTOCOL, 1);
  data.writeUInt16LE(type, 2);
  data.writeUInt32LE(inMemfd ? (flags | LM_F_BODY_FD) >>> 0 : flags, 4);
  data.writeUInt32LE(serial, 8);
  data.writeUInt32LE(fields.length, 12);
  data.writeBigUInt64LE(value, 16);
  let at = LM_HEADER_SIZE;
  for (const field of fields) {
    const length = Buffer.byteLength(field);
    data.writeUInt32LE(length, at);
    at += 4;
    if (typeof field === 'string') data.write(field, at, 'utf8');
    else data.set(field, at);
    at += length;
  }
  if (!inMemfd) return { data, fds, bodyFd: undefined };
  const bodyFd = binding().memfd('lamina-message', data.subarray(LM_HEADER_SIZE));
  return { data: data.subarray(0, LM_HEADER_SIZE), fds: [...fds, bodyFd], bodyFd };
}

/**
 * Reads a memfd of the peer's. Its size may change under us: no mapping, and only what is there is
 * taken.
 */
function readBody(fd: number): Buffer {
  let size: number;
  let got = 0;
  let body: Buffer;
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw broken('the body is not a memory file');
    size = stat.size;
    if (size > LM_MESSAGE_MAX - LM_HEADER_SIZE) throw broken(`a body of ${size} bytes is too large`);
    body = Buffer.allocUnsafe(size);
    while (got < size) {
      const count = readSync(fd, body, got, size - got, got);
      if (count === 0) break;
      got += count;
    }
  } catch (error) {
    if (error instanceof MessageError) throw error;
    throw broken(`read the body: ${messageOf(error)}`, error);
  }
  if (got < size) throw broken(`the body ended after ${got} of ${size} bytes`);
  return body;
}

function decodeFields(body: Buffer, count: number): Buffer[] {
  if (count > body.length / 4) throw broken(`${count} fields do not fit in ${body.length} bytes`);
  const fields: Buffer[] = [];
  let at = 0;
  for (let i = 0; i < count; i += 1) {
    if (body.length - at < 4) throw broken(`field ${i} is cut off`);
    const length = body.readUInt32LE(at);
    at += 4;
    if (length > body.length - at) throw broken(`field ${i} of ${length} bytes is cut off`);
    fields.push(body.subarray(at, at + length));
    at += length;
  }
  if (at !== body.length) throw broken(`${body.length - at} bytes follow the last field`);
  return fields;
}

function takeBody(data: Buffer, flags: number, fds: number[]): Buffer {
  const inline = data.subarray(LM_HEADER_SIZE);
  if ((flags & LM_F_BODY_FD) === 0) return inline;
  const bodyFd = fds.pop();
  if (bodyFd === undefined) throw broken('the body is missing');
  try {
    if (inline.length > 0) throw broken('fields in the packet and in a body');
    return readBody(bodyFd);
  } finally {
    closeSync(bodyFd);
  }
}

/**
 * Moves descriptors out of `fds` as it goes, so that what is left there after a failure is what
 * must be closed.
 */
function decode(data: Buffer, fds: number[]): Message {
  if (data.length < LM_HEADER_SIZE) throw broken(`${data.length} bytes are less than a header`);
  if (data.readUInt8(0) !== LM_MAGIC) throw broken(`wrong magic ${data.readUInt8(0)}`);
  const version = data.readUInt8(1);
  const type = data.readUInt16LE(2);
  // HELLO has the same layout in all versions: who does not speak its version has to say so.
  if (version !== LM_PROTOCOL && type !== LM_MSG_HELLO) throw broken(`unknown version ${version}`);
  const flags = data.readUInt32LE(4);
  const arg = data.readBigUInt64LE(16);
  const fields = decodeFields(takeBody(data, flags, fds), data.readUInt32LE(12));
  return {
    version,
    type,
    flags: (flags & ~LM_F_BODY_FD) >>> 0,
    serial: data.readUInt32LE(8),
    arg: arg <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(arg) : arg,
    fields,
    fds,
  };
}

/**
 * Decodes one packet. Fields may share memory with `data`.
 *
 * Takes over all descriptors: the body's is closed, the others are the message's, or closed when it
 * throws.
 * @throws MessageError DataLoss
 */
export function decodeMessage(data: Buffer, fds: readonly number[] = []): Message {
  const remaining = [...fds];
  try {
    return decode(data, remaining);
  } catch (error) {
    for (const fd of remaining) closeSync(fd);
    throw error;
  }
}
