/**
 * Messages to a keeper that belong together: all that is sent in one turn of the event loop goes
 * out in one packet, at its end, and the keeper acts on all of it or, if this process dies before,
 * on nothing. So a changed record, the event that tells of it and the answer to the call are never
 * seen apart, and the keeper is woken up once.
 *
 * INVARIANT: the order of `send` is kept. Whoever does something outside that a successor must find
 * recorded calls `flush` before.
 */
import { createDeferred, type Deferred, isErrno } from '../base/index.js';
import {
  closeAll,
  duplicateAll,
  encodeMessage,
  LM_F_COUNTED,
  LM_FDS_MAX,
  LM_MSG_BATCH,
  type OutgoingMessage,
} from '../sys/index.js';

/** What one packet holds without a memfd, with some room for its header. */
const BATCH_BYTES = 30_000;
/** The keeper takes 64 fields, and one says whose the descriptors are. */
const BATCH_COUNT = 63;
const NO_FDS: readonly number[] = [];

export class Turn {
  readonly #send: (message: OutgoingMessage) => void;
  readonly #takesFds: boolean;
  /** With duplicates of their descriptors, ours to close. */
  readonly #parts: OutgoingMessage[] = [];
  #bytes = 0;
  #fds = 0;
  #end: NodeJS.Immediate | undefined;
  /** Resolved by the next flush, for those who wait for it. */
  #sent: Deferred<void> | undefined;

  /**
   * @param send puts a message on the wire; its descriptors stay ours
   * @param takesFds whether the parts of a packet may have descriptors
   */
  constructor(send: (message: OutgoingMessage) => void, takesFds: boolean) {
    this.#send = send;
    this.#takesFds = takesFds;
  }

  /**
   * Sends a message at the end of this turn. Its descriptors stay the caller's, who may close them
   * at once. A large one goes at once, after those that wait, and so does one with descriptors
   * where parts may have none.
   */
  send(message: OutgoingMessage): void {
    const size = sizeOf(message);
    const { fds = NO_FDS } = message;
    const isFull = this.#parts.length === BATCH_COUNT || this.#fds + fds.length > LM_FDS_MAX;
    if (isFull || this.#bytes + size > BATCH_BYTES) this.flush();
    const kept = size > BATCH_BYTES ? undefined : this.#keep(fds);
    if (kept === undefined) {
      this.flush();
      this.#send(message);
      return;
    }
    this.#parts.push(kept.length === 0 ? message : { ...message, fds: kept });
    this.#bytes += size;
    this.#fds += kept.length;
    this.#end ??= setImmediate(() => this.flush());
  }

  /** Resolves when what waits has been sent, which the end of the turn does. */
  async flushed(): Promise<void> {
    if (this.#parts.length === 0) return;
    this.#sent ??= createDeferred();
    await this.#sent.promise;
  }

  /** Forgets what waits: it was to be done whole, and is not to be done at all. */
  drop(): void {
    if (this.#end !== undefined) clearImmediate(this.#end);
    this.#end = undefined;
    this.#bytes = 0;
    this.#fds = 0;
    closeAll(this.#parts.splice(0).flatMap((part) => part.fds ?? NO_FDS));
    this.#sent?.resolve();
    this.#sent = undefined;
  }

  /** Sends what waits. */
  flush(): void {
    if (this.#end !== undefined) clearImmediate(this.#end);
    this.#end = undefined;
    const parts = this.#parts.splice(0);
    this.#bytes = 0;
    this.#fds = 0;
    const [first] = parts;
    if (first === undefined) return;
    const fds = parts.flatMap((part) => part.fds ?? NO_FDS);
    try {
      this.#send(parts.length === 1 ? first : batchOf(parts, fds));
    } finally {
      closeAll(fds);
    }
    this.#sent?.resolve();
    this.#sent = undefined;
  }

  /** Duplicates that live until the flush; undefined when there can be none. */
  #keep(fds: readonly number[]): readonly number[] | undefined {
    if (fds.length === 0) return NO_FDS;
    if (!this.#takesFds) return undefined;
    try {
      return duplicateAll(fds);
    } catch (error) {
      if (isErrno(error, 'EMFILE')) return undefined;
      throw error;
    }
  }
}

function batchOf(parts: readonly OutgoingMessage[], fds: readonly number[]): OutgoingMessage {
  const fields = parts.map((part) => encodeMessage(part).data);
  if (fds.length === 0) return { type: LM_MSG_BATCH, fields };
  const counts = Buffer.from(parts.map((part) => part.fds?.length ?? 0));
  return { type: LM_MSG_BATCH, flags: LM_F_COUNTED, fields: [counts, ...fields], fds };
}

/** About as many bytes as it is encoded in. */
function sizeOf({ fields = [] }: OutgoingMessage): number {
  return fields.reduce((sum, field) => sum + Buffer.byteLength(field) + 4, 28);
}
