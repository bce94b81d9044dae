/**
 * The seam to the D-Bus library: the one place that knows @particle/dbus-next, loaded when a bus is
 * first used.
 *
 * Only its marshalling is taken. Its connection cannot do what is needed here: it greets every peer
 * as a message bus, which systemd's private socket is not; it authenticates by the uid that this
 * process sees, which is the wrong one in a user namespace; it has no deadlines; and an ill-formed
 * message makes it throw out of an event handler, which would end the process.
 */
import { Code, LaminaError, messageOf } from '../../base/index.js';

/** Values in a message's body: `t` and `x` are bigint, `ay` is a Buffer, `v` a BusVariant. */
export type BusValue = boolean | number | bigint | string | Buffer | BusVariant | readonly BusValue[];

/** A value that carries its type. */
export class BusVariant {
  readonly signature: string;
  readonly value: BusValue;

  constructor(signature: string, value: BusValue) {
    this.signature = signature;
    this.value = value;
  }
}

/** A call to be sent. */
export interface BusCall {
  /** Absent on a connection to the peer itself. */
  readonly destination?: string;
  readonly path: string;
  readonly interface: string;
  readonly member: string;
  readonly signature?: string;
  readonly body?: readonly BusValue[];
  /** The peer does not answer. */
  readonly noReply?: boolean;
}

/** Types of messages, with the protocol's numbers. */
export const MessageType = { MethodCall: 1, MethodReturn: 2, Error: 3, Signal: 4 } as const;

/** A message that has come. */
export interface BusMessage {
  readonly type: number;
  readonly replySerial: number | undefined;
  readonly path: string | undefined;
  readonly interface: string | undefined;
  readonly member: string | undefined;
  readonly errorName: string | undefined;
  /** As BusValue, but a variant is replaced by its value. */
  readonly body: readonly unknown[];
}

export interface BusCodec {
  /** @throws {LaminaError} InvalidArgument if the body does not fit its signature */
  encode(call: BusCall, serial: number): Buffer;
  /**
   * A function that takes the bytes of a connection as they come; it throws DataLoss at what is no
   * D-Bus message.
   */
  decoder(onMessage: (message: BusMessage) => void): (chunk: Buffer) => void;
}

/** The protocol allows 128 MiB; what systemd answers here is far smaller. */
const MAX_MESSAGE_BYTES = 8 * 1024 * 1024;
const PROTOCOL_VERSION = 1;
const NO_REPLY_EXPECTED = 1;

function isHeader(bytes: Buffer): boolean {
  const endian = bytes.toString('latin1', 0, 1);
  return (endian === 'l' || endian === 'B') && bytes[3] === PROTOCOL_VERSION;
}

/**
 * What the library's parser reads from. It asks for a header, then for the rest of that message,
 * and so on.
 */
class ByteSource {
  #bytes: Buffer = Buffer.alloc(0);
  #isHeaderNext = true;
  #onReadable: () => void = () => undefined;

  on(_event: string, listener: () => void): void {
    this.#onReadable = listener;
  }

  feed(chunk: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    this.#onReadable();
  }

  read(length: number): Buffer | null {
    if (length > MAX_MESSAGE_BYTES) throw new Error(`a message of ${length} bytes`);
    if (this.#bytes.length < length) return null;
    const taken = this.#bytes.subarray(0, length);
    if (this.#isHeaderNext && !isHeader(taken)) throw new Error('no header of a message');
    this.#bytes = this.#bytes.subarray(length);
    this.#isHeaderNext = !this.#isHeaderNext;
    return taken;
  }
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

async function load(): Promise<BusCodec> {
  const [{ default: message }, { default: compat }, { default: variant }] = await Promise.all([
    import('@particle/dbus-next/lib/message.js'),
    import('@particle/dbus-next/lib/marshall-compat.js'),
    import('@particle/dbus-next/lib/variant.js'),
  ]);
  const { Variant } = variant;

  /** The library tells a variant by its own class. */
  const toLibrary = (value: BusValue): unknown => {
    if (value instanceof BusVariant) return new Variant(value.signature, toLibrary(value.value));
    return Array.isArray(value) ? value.map(toLibrary) : value;
  };
  const fromLibrary = (value: unknown): unknown => {
    if (value instanceof Variant) return fromLibrary((value as unknown as { value: unknown }).value);
    return Array.isArray(value) ? value.map(fromLibrary) : value;
  };
  const toMessage = (raw: object): BusMessage => {
    const read = compat.messageToJsFmt(raw);
    return {
      type: Number(read['type']),
      replySerial: typeof read['replySerial'] === 'number' ? read['replySerial'] : undefined,
      path: textOf(read['path']),
      interface: textOf(read['interface']),
      member: textOf(read['member']),
      errorName: textOf(read['errorName']),
      body: fromLibrary(read['body']) as readonly unknown[],
    };
  };

  return {
    encode(call, serial) {
      const { noReply = false, body = [], ...rest } = call;
      const flags = noReply ? NO_REPLY_EXPECTED : 0;
      try {
        return compat.marshallMessage({
          ...rest,
          flags,
          serial,
          type: MessageType.MethodCall,
          body: body.map(toLibrary),
        })[0];
      } catch (error) {
        const what = `cannot put the arguments of ${call.member} into a D-Bus message: ${messageOf(error)}`;
        throw new LaminaError(Code.InvalidArgument, what, { subject: call.member, cause: error });
      }
    },
    decoder(onMessage) {
      const source = new ByteSource();
      const ready: BusMessage[] = [];
      message.unmarshalMessages(source, (raw) => void ready.push(toMessage(raw)), {});
      return (chunk) => {
        try {
          source.feed(chunk);
        } catch (error) {
          throw new LaminaError(Code.DataLoss, `ill-formed D-Bus message: ${messageOf(error)}`, { cause: error });
        }
        for (const each of ready.splice(0)) onMessage(each);
      };
    },
  };
}

let codec: Promise<BusCodec> | undefined;

/** Loads the library, once. */
export function loadBusCodec(): Promise<BusCodec> {
  codec ??= load();
  return codec;
}
