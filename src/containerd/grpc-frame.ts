/**
 * Messages in the body of a gRPC call: a byte that says whether it is compressed, four of length,
 * the message.
 */
import { Code, LaminaError } from '../base/index.js';

const PREFIX_BYTES = 5;
/** containerd sends at most 16 MiB unless it is configured otherwise (defaults/defaults.go). */
const LARGEST_MESSAGE = 64 << 20;

export function frame(message: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  bytes[0] = 0;
  bytes.writeUInt32BE(message.length, 1);
  bytes.set(message, PREFIX_BYTES);
  return bytes;
}

/**
 * Cuts what arrives into messages. Holds the bytes of one message at most, and those that came with
 * it.
 */
export class Deframer {
  #chunks: Buffer[] = [];
  #length = 0;

  /**
   * The messages that are complete now.
   * @throws LaminaError Internal for a compressed message, ResourceExhausted for one that is too
   *   long
   */
  *push(chunk: Buffer): Generator<Uint8Array> {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
    for (;;) {
      if (this.#length < PREFIX_BYTES) return;
      const head = this.#peek();
      const length = head.readUInt32BE(1);
      if (head[0] !== 0) throw new LaminaError(Code.Internal, 'it sent a compressed message, which was not asked for');
      if (length > LARGEST_MESSAGE) {
        throw new LaminaError(
          Code.ResourceExhausted,
          `it sent a message of ${length} bytes; ${LARGEST_MESSAGE} are allowed`,
        );
      }
      if (this.#length < PREFIX_BYTES + length) return;
      const all = this.#chunks.length === 1 ? head : Buffer.concat(this.#chunks);
      const rest = all.subarray(PREFIX_BYTES + length);
      this.#chunks = rest.length === 0 ? [] : [rest];
      this.#length = rest.length;
      yield all.subarray(PREFIX_BYTES, PREFIX_BYTES + length);
    }
  }

  /** Bytes of a message that has not ended. */
  get rest(): number {
    return this.#length;
  }

  /** The first chunk, with the whole prefix in it. */
  #peek(): Buffer {
    const [first] = this.#chunks;
    if (first !== undefined && first.length >= PREFIX_BYTES) return first;
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all];
    return all;
  }
}
