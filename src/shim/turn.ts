/**
 * Messages to a keeper that belong together: all that is sent in one turn of the event loop goes out in one packet, at its end, and the keeper acts on
 * all of it or, if this process dies before, on nothing. So a changed record, the event that tells of it and the answer to the call are never seen apart,
 * and the keeper is woken up once.
 *
 * INVARIANT: the order of `send` is kept. Whoever does something outside that a successor must find recorded calls `flush` before.
 */
import { createDeferred, type Deferred } from '../base/index.js';
import { encodeMessage, LM_MSG_BATCH, type OutgoingMessage } from '../sys/index.js';

/** What one packet holds without a memfd, with some room for its header. */
const BATCH_BYTES = 30_000;
/** The keeper takes no more fields. */
const BATCH_COUNT = 64;

export class Turn {
  readonly #send: (message: OutgoingMessage) => void;
  readonly #parts: OutgoingMessage[] = [];
  #bytes = 0;
  #end: NodeJS.Immediate | undefined;
  /** Resolved by the next flush, for those who wait for it. */
  #sent: Deferred<void> | undefined;

  /** @param send puts a message on the wire */
  constructor(send: (message: OutgoingMessage) => void) {
    this.#send = send;
  }

  /** Sends a message at the end of this turn. One with descriptors, or a large one, goes at once, after those that wait. */
  send(message: OutgoingMessage): void {
    const size = sizeOf(message);
    if (this.#bytes + size > BATCH_BYTES || this.#parts.length === BATCH_COUNT) this.flush();
    if ((message.fds?.length ?? 0) > 0 || size > BATCH_BYTES) {
      this.flush();
      this.#send(message);
      return;
    }
    this.#parts.push(message);
    this.#bytes += size;
    this.#end ??= setImmediate(() => this.flush());
  }

  /** Resolves when what waits has been sent, which the end of the turn does. */
  async flushed(): Promise<void> {
    if (this.#parts.length === 0) return;
    this.#sent ??= createDeferred();
    await this.#sent.promise;
  }

  /** Sends what waits. */
  flush(): void {
    if (this.#end !== undefined) clearImmediate(this.#end);
    this.#end = undefined;
    const parts = this.#parts.splice(0);
    this.#bytes = 0;
    const [first] = parts;
    if (first === undefined) return;
    if (parts.length === 1) this.#send(first);
    else this.#send({ type: LM_MSG_BATCH, fields: parts.map((part) => encodeMessage(part).data) });
    this.#sent?.resolve();
    this.#sent = undefined;
  }
}

/** About as many bytes as it is encoded in. */
function sizeOf({ fields = [] }: OutgoingMessage): number {
  return fields.reduce((sum, field) => sum + Buffer.byteLength(field) + 4, 28);
}
