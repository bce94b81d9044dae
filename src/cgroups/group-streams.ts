/** The event streams of one group, from `events` to the group's end. */
import type { EventStream } from './event-stream.js';

export class GroupStreams {
  /** Some of them may have ended. */
  #streams: readonly EventStream[] = [];

  add(stream: EventStream): EventStream {
    this.#streams = [...this.#streams.filter(({ hasEnded }) => !hasEnded), stream];
    return stream;
  }

  /**
   * Removes the group, its last events told. The counters go with it, so they are read between its
   * last process and its end.
   * @param untilEmpty waits for the last process
   */
  async endWith(untilEmpty: () => Promise<void>, remove: () => Promise<void>): Promise<void> {
    if (this.#streams.length > 0) await untilEmpty();
    this.#check();
    await remove();
    this.#check();
  }

  #check(): void {
    for (const stream of this.#streams) stream.check();
  }
}
