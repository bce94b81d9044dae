/**
 * google.protobuf.Any and Timestamp as containerd writes them.
 *
 * A protobuf message travels under its bare full name ("containerd.events.TaskExit"), without the
 * "type.googleapis.com/" that protobuf's own libraries put in front; readers accept both. OCI types
 * travel as JSON under a URL.
 */
import type { BinaryReader, BinaryWriter } from '@bufbuild/protobuf/wire';
import { Code, LaminaError, messageOf } from '../base/index.js';
import type { Any } from './gen/google/protobuf/any.js';
import type { Timestamp } from './gen/google/protobuf/timestamp.js';

/** What this file needs to know of a generated message type. */
export interface NamedMessage<T> {
  readonly $type: string;
  encode(message: T, writer?: BinaryWriter): BinaryWriter;
  decode(input: BinaryReader | Uint8Array, length?: number): T;
}

const OCI_PREFIX = 'types.containerd.io/opencontainers/runtime-spec/1/';

/** Type URLs of the OCI types that travel as JSON. */
export const OCI_TYPE_URL = {
  spec: `${OCI_PREFIX}Spec`,
  process: `${OCI_PREFIX}Process`,
  linuxResources: `${OCI_PREFIX}LinuxResources`,
  features: `${OCI_PREFIX}features/Features`,
} as const;

/** The name of what an Any holds: the text after the last slash of its URL, or all of it. */
export function typeName(any: Pick<Any, 'typeUrl'>): string {
  return any.typeUrl.slice(any.typeUrl.lastIndexOf('/') + 1);
}

/** An Any of already encoded bytes; the full name is used as it is. */
export function packAny(fullName: string, value: Uint8Array): Any {
  return { typeUrl: fullName, value };
}

/** An Any of a generated message. */
export function packMessage<T>(type: NamedMessage<T>, message: T): Any {
  return { typeUrl: type.$type, value: type.encode(message).finish() };
}

/**
 * The message in an Any, or undefined if it holds another type.
 * @throws {LaminaError} InvalidArgument when the bytes are not such a message
 */
export function unpackMessage<T>(type: NamedMessage<T>, any: Any): T | undefined {
  if (typeName(any) !== type.$type) return undefined;
  try {
    return type.decode(any.value);
  } catch (error) {
    throw new LaminaError(Code.InvalidArgument, `decode ${type.$type}: ${messageOf(error)}`, { cause: error });
  }
}

/** An Any that carries a value as JSON, for the OCI types; see OCI_TYPE_URL. */
export function packJson(typeUrl: string, value: unknown): Any {
  return { typeUrl, value: new TextEncoder().encode(JSON.stringify(value)) };
}

/**
 * The JSON value in an Any. The URL is not looked at: clients are careless with it, and
 * containerd's shim ignores it too.
 * @throws {LaminaError} InvalidArgument when the bytes are not UTF-8 or not JSON
 */
export function unpackJson(any: Any): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(any.value));
  } catch (error) {
    throw new LaminaError(Code.InvalidArgument, `parse "${any.typeUrl}" as JSON: ${messageOf(error)}`, {
      cause: error,
    });
  }
}

const NS_PER_SECOND = 1_000_000_000n;
const GO_ZERO_SECONDS = -62135596800n;

/**
 * Go's zero time (year 1): what containerd expects where a time is not known yet. An absent
 * Timestamp means 1970 to it.
 */
export function goZeroTime(): Timestamp {
  return { seconds: GO_ZERO_SECONDS, nanos: 0 };
}

/** True for Go's zero time. */
export function isGoZeroTime(timestamp: Timestamp): boolean {
  return timestamp.seconds === GO_ZERO_SECONDS && timestamp.nanos === 0;
}

/** Nanoseconds since the epoch as a Timestamp; `nanos` is never negative, as the format demands. */
export function fromNs(ns: bigint): Timestamp {
  let seconds = ns / NS_PER_SECOND;
  let nanos = Number(ns % NS_PER_SECOND);
  if (nanos < 0) {
    seconds -= 1n;
    nanos += Number(NS_PER_SECOND);
  }
  return { seconds, nanos };
}

/** A Timestamp as nanoseconds since the epoch. */
export function toNs(timestamp: Timestamp): bigint {
  return timestamp.seconds * NS_PER_SECOND + BigInt(timestamp.nanos);
}
