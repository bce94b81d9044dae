/**
 * What is asked of a keeper and waits for its answer, and the numbers that tell one from the other.
 *
 * INVARIANT: a request is settled once: by its answer, its failure, or the end of the link.
 */
import { Code, createDeferred, LaminaError } from '../base/index.js';
import {
  LM_MSG_ACCEPTED,
  LM_MSG_ADOPT,
  LM_MSG_ADOPTED,
  LM_MSG_ATTACH,
  LM_MSG_DONE,
  LM_MSG_SPAWN,
  LM_MSG_SPAWNED,
  type Message,
  type OutgoingMessage,
} from '../sys/index.js';

/** Request → its answer, where that is not DONE. */
const ANSWERED_BY: Readonly<Record<number, number>> = {
  [LM_MSG_SPAWN]: LM_MSG_SPAWNED,
  [LM_MSG_ADOPT]: LM_MSG_ADOPTED,
  [LM_MSG_ATTACH]: LM_MSG_ACCEPTED,
};

interface Pending {
  /** The message that answers it, unless it failed. */
  readonly answeredBy: number;
  readonly answer: (arg: number, fds: number[]) => void;
  readonly reject: (error: LaminaError) => void;
}

export interface KeeperRequestsOptions {
  readonly send: (message: OutgoingMessage) => void;
  readonly isClosed: () => boolean;
}

export class KeeperRequests {
  readonly #options: KeeperRequestsOptions;
  #serial = 0;
  /** serial of a request → who waits for its answer; removed by the answer or the link's end. */
  readonly #pending = new Map<number, Pending>();

  constructor(options: KeeperRequestsOptions) {
    this.#options = options;
  }

  /** A number for a message that the keeper may refuse. */
  nextSerial(): number {
    this.#serial = (this.#serial % 0x7fffffff) + 1;
    return this.#serial;
  }

  /**
   * Sends a request.
   * @param take makes of the answer's number and descriptors what the caller waits for, before any
   *   later message is looked at; a descriptor it wants it takes out
   * @throws LaminaError with what the keeper says of a failure; Unavailable when the keeper is gone
   */
  send<T>(message: Omit<OutgoingMessage, 'serial'>, take: (arg: number, fds: number[]) => T): Promise<T> {
    if (this.#options.isClosed()) return Promise.reject(keeperGone());
    const serial = this.nextSerial();
    const { promise, resolve, reject } = createDeferred<T>();
    const answeredBy = ANSWERED_BY[message.type] ?? LM_MSG_DONE;
    this.#pending.set(serial, { answeredBy, answer: (arg, fds) => resolve(take(arg, fds)), reject });
    this.#options.send({ ...message, serial });
    return promise;
  }

  /** Sends a request whose answer says no more than that it is done. */
  async do(message: Omit<OutgoingMessage, 'serial'>): Promise<void> {
    await this.send(message, () => undefined);
  }

  /** True if an answer is awaited under this number. */
  isPending(serial: number): boolean {
    return this.#pending.has(serial);
  }

  /** Hands out an answer. @returns false if it is not what answers that request */
  answered({ type, serial, arg }: Message, fds: number[]): boolean {
    const pending = this.#pending.get(serial);
    if (pending?.answeredBy !== type) return false;
    this.#pending.delete(serial);
    pending.answer(Number(arg), fds);
    return true;
  }

  failed(serial: number, error: LaminaError): void {
    this.#pending.get(serial)?.reject(error);
    this.#pending.delete(serial);
  }

  /** There will be no more answers. */
  end(): void {
    const error = keeperGone();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}

function keeperGone(): LaminaError {
  return new LaminaError(Code.Unavailable, 'the keeper is gone');
}
