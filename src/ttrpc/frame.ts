/**
 * The frame: ttrpc's unit on the wire.
 *
 *     length u32 BE | stream id u32 BE | type u8 | flags u8 | `length` bytes
 *
 * Everywhere in this library a "frame" is one Uint8Array, header included. A frame whose body is over the limit is
 * represented by its header alone: `length` then says more than the array holds.
 *
 * @see https://github.com/containerd/ttrpc/blob/main/PROTOCOL.md
 */

/** Bytes in front of every body. */
export const HEADER_LENGTH = 10;
/** The largest body a peer accepts: 4 MiB. */
export const MAX_PAYLOAD = 4 * 1024 * 1024;

export const FrameType = { Request: 1, Response: 2, Data: 3 } as const;

export const Flag = {
  /** The sender will send no more on this stream. */
  RemoteClosed: 0x01,
  /** Request only: the sender will send data. */
  RemoteOpen: 0x02,
  /** Data only: there is no message in this frame, as opposed to an empty one. */
  NoData: 0x04,
} as const;

export interface FrameHeader {
  /** Bytes of body. May be over MAX_PAYLOAD. */
  readonly length: number;
  readonly streamId: number;
  readonly type: number;
  readonly flags: number;
}

function readU32(bytes: Uint8Array, at: number): number {
  // `>>> 0`: shifts are signed, lengths and ids are not.
  return (
    (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0)) >>> 0
  );
}

/** The header in front of these bytes, of which there must be at least HEADER_LENGTH. */
export function readHeader(bytes: Uint8Array): FrameHeader {
  return { length: readU32(bytes, 0), streamId: readU32(bytes, 4), type: bytes[8] ?? 0, flags: bytes[9] ?? 0 };
}

/** Writes a header into the first HEADER_LENGTH bytes. */
export function writeHeader(bytes: Uint8Array, header: FrameHeader): void {
  const { length, streamId } = header;
  bytes[0] = length >>> 24;
  bytes[1] = length >>> 16;
  bytes[2] = length >>> 8;
  bytes[3] = length;
  bytes[4] = streamId >>> 24;
  bytes[5] = streamId >>> 16;
  bytes[6] = streamId >>> 8;
  bytes[7] = streamId;
  bytes[8] = header.type;
  bytes[9] = header.flags;
}

/** A frame around a copy of this body. */
export function encodeFrame(
  header: Pick<FrameHeader, 'streamId' | 'type' | 'flags'>,
  body: Uint8Array = new Uint8Array(0),
): Uint8Array {
  const frame = new Uint8Array(HEADER_LENGTH + body.length);
  writeHeader(frame, { ...header, length: body.length });
  frame.set(body, HEADER_LENGTH);
  return frame;
}

/** The body of a frame, without copying. */
export function bodyOf(frame: Uint8Array): Uint8Array {
  return frame.subarray(HEADER_LENGTH);
}

/**
 * Cuts a byte stream into frames.
 *
 * Frames that lie within one chunk are views of it; only those across a border are copied. Never
 * holds more than one frame, and allocates only after the length was checked. A body over the limit
 * is skipped as it arrives, and its header is handed on at once.
 */
export class FrameDecoder {
  readonly #onFrame: (frame: Uint8Array) => void;
  readonly #maxPayload: number;
  readonly #header = new Uint8Array(HEADER_LENGTH);
  /**
   * How much of the next frame, header included, has arrived; its bytes are in #frame, or in
   * #header before that.
   */
  #filled = 0;
  #frame: Uint8Array | undefined;
  /** Bytes of an oversized body still to be thrown away. */
  #skip = 0;

  constructor(onFrame: (frame: Uint8Array) => void, maxPayload: number = MAX_PAYLOAD) {
    this.#onFrame = onFrame;
    this.#maxPayload = maxPayload;
  }

  /** Bytes of an incomplete frame that are held. */
  get buffered(): number {
    return this.#filled;
  }

  /** Takes the next bytes. The chunk must not be written to afterwards: frames are views of it. */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      if (this.#skip > 0) {
        const skipped = Math.min(this.#skip, chunk.length - at);
        this.#skip -= skipped;
        at += skipped;
      } else if (this.#filled > 0) {
        at += this.#continue(chunk, at);
      } else {
        at += this.#start(chunk, at);
      }
    }
  }

  /**
   * At a frame's first byte: hands it on if all of it is there, else keeps what there is. Returns
   * the bytes taken.
   */
  #start(chunk: Uint8Array, at: number): number {
    const available = chunk.length - at;
    if (available >= HEADER_LENGTH) {
      const length = readU32(chunk, at);
      if (length <= this.#maxPayload && available >= HEADER_LENGTH + length) {
        const size = HEADER_LENGTH + length;
        // Not chunk.subarray: of a Buffer that would be a Buffer, and messages would hold Buffers
        // now and then.
        this.#onFrame(new Uint8Array(chunk.buffer, chunk.byteOffset + at, size));
        return size;
      }
    }
    return this.#continue(chunk, at);
  }

  /** Inside a frame: first completes the header, then the body. Returns the bytes taken. */
  #continue(chunk: Uint8Array, at: number): number {
    const target = this.#frame ?? this.#header;
    const taken = Math.min(target.length - this.#filled, chunk.length - at);
    target.set(chunk.subarray(at, at + taken), this.#filled);
    this.#filled += taken;
    if (this.#filled < target.length) return taken;

    if (this.#frame === undefined) {
      const length = readU32(this.#header, 0);
      if (length > this.#maxPayload) {
        this.#filled = 0;
        this.#skip = length;
        this.#onFrame(this.#header.slice());
        return taken;
      }
      this.#frame = new Uint8Array(HEADER_LENGTH + length);
      this.#frame.set(this.#header);
      if (length > 0) return taken;
    }
    const frame = this.#frame;
    this.#frame = undefined;
    this.#filled = 0;
    this.#onFrame(frame);
    return taken;
  }
}
