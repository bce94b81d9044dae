/**
 * Request and response frames. Bodies are the messages of proto/ttrpc/ttrpc.proto; what every call
 * needs is written by hand into one array, so that a message is copied once and not three times.
 */
import { FrameType, HEADER_LENGTH, writeHeader } from './frame.js';
import { type KeyValue, Request, Response } from './gen/ttrpc/ttrpc.js';
import type { Metadata } from './metadata.js';
import type { Status } from './status.js';

const EMPTY = new Uint8Array(0);
/** Tags of the payload fields: number << 3 | 2. */
const REQUEST_PAYLOAD = (3 << 3) | 2;
const RESPONSE_PAYLOAD = (2 << 3) | 2;

function varintLength(value: number): number {
  let length = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) length += 1;
  return length;
}

/** Writes tag, length and bytes of a field; returns the position after it. */
function writeBytes(target: Uint8Array, at: number, tag: number, bytes: Uint8Array): number {
  let position = at;
  target[position++] = tag;
  let rest = bytes.length;
  for (; rest > 127; rest = Math.floor(rest / 128)) target[position++] = (rest % 128) | 128;
  target[position++] = rest;
  target.set(bytes, position);
  return position + bytes.length;
}

function bytesFieldLength(bytes: Uint8Array): number {
  return bytes.length === 0 ? 0 : 1 + varintLength(bytes.length) + bytes.length;
}

/** The start of every request of a method: its service's and its own name, encoded once. */
export function encodeTarget(service: string, method: string): Uint8Array {
  return Request.encode({ service, method, payload: EMPTY, timeoutNano: 0n, metadata: [] }).finish();
}

export interface RequestParts {
  /** From encodeTarget. */
  readonly target: Uint8Array;
  readonly payload: Uint8Array;
  readonly timeoutNano: bigint;
  readonly metadata: Metadata | undefined;
}

/** Bytes of everything behind the payload. */
function encodeTail(parts: RequestParts): Uint8Array {
  if (parts.timeoutNano === 0n && parts.metadata === undefined) return EMPTY;
  const metadata: KeyValue[] = Array.from(parts.metadata ?? [], ([key, value]) => ({ key, value }));
  return Request.encode({ service: '', method: '', payload: EMPTY, timeoutNano: parts.timeoutNano, metadata }).finish();
}

/** A request frame, with room for the stream id; see setStreamId. */
export function encodeRequest(flags: number, parts: RequestParts): Uint8Array {
  const { target, payload } = parts;
  const tail = encodeTail(parts);
  const length = target.length + bytesFieldLength(payload) + tail.length;
  const frame = new Uint8Array(HEADER_LENGTH + length);
  writeHeader(frame, { length, streamId: 0, type: FrameType.Request, flags });
  frame.set(target, HEADER_LENGTH);
  let at = HEADER_LENGTH + target.length;
  if (payload.length > 0) at = writeBytes(frame, at, REQUEST_PAYLOAD, payload);
  frame.set(tail, at);
  return frame;
}

/** Puts the stream id into an encoded frame. */
export function setStreamId(frame: Uint8Array, streamId: number): void {
  frame[4] = streamId >>> 24;
  frame[5] = streamId >>> 16;
  frame[6] = streamId >>> 8;
  frame[7] = streamId;
}

/** A response frame that carries a message. */
export function encodeReply(streamId: number, payload: Uint8Array): Uint8Array {
  const length = bytesFieldLength(payload);
  const frame = new Uint8Array(HEADER_LENGTH + length);
  writeHeader(frame, { length, streamId, type: FrameType.Response, flags: 0 });
  if (payload.length > 0) writeBytes(frame, HEADER_LENGTH, RESPONSE_PAYLOAD, payload);
  return frame;
}

/** A response frame that carries an error. */
export function encodeFailure(streamId: number, status: Status): Uint8Array {
  const body = Response.encode({ status, payload: EMPTY }).finish();
  const frame = new Uint8Array(HEADER_LENGTH + body.length);
  writeHeader(frame, { length: body.length, streamId, type: FrameType.Response, flags: 0 });
  frame.set(body, HEADER_LENGTH);
  return frame;
}
