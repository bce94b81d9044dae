/**
 * What a connection needs of whatever carries its frames: a socket, or the keeper that owns the
 * socket.
 */

/**
 * The sending half, implemented by the transport. The receiving half are `receive` and `end` of the
 * connection.
 */
export interface FrameChannel {
  /**
   * Sends a whole frame. A returned promise means "not yet taken by the peer": it resolves when
   * there is room again, and until then a server connection accepts no more requests. A throw or
   * rejection means that the connection is lost.
   * @param answers the tag (see `receive`) of the frame that is finally answered by this one;
   *   undefined for all but the last frame of an answer
   * @param reusable the handler has said that this answer holds for equal requests
   *   (`CallContext.reusable`)
   */
  send(frame: Uint8Array, answers?: number, reusable?: boolean): void | Promise<void>;
  /** Closes the connection once what was sent has been written. */
  close(): void;
  /**
   * A received frame will get no answer and is not needed any more: a data frame that was consumed
   * or dropped, or a frame of a kind that is ignored. While the connection lives, every tagged
   * frame comes to exactly one `send` or `released`.
   */
  released?(tag: number): void;
  /** Stop delivering frames; those already under way may still come. */
  pause?(): void;
  /** Deliver again. */
  resume?(): void;
}

/** Counts who wants a channel paused, so that it resumes when the last one is content. */
export class PauseGate {
  readonly #channel: FrameChannel;
  #holders = 0;

  constructor(channel: FrameChannel) {
    this.#channel = channel;
  }

  get isPaused(): boolean {
    return this.#holders > 0;
  }

  hold(): void {
    this.#holders += 1;
    if (this.#holders === 1) this.#channel.pause?.();
  }

  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#channel.resume?.();
  }
}
