/**
 * A log sink over the `log` FIFO of a bundle, which the daemon copies to its own log. Never blocks;
 * what does not fit is counted.
 */
import { closeSync, writeSync } from 'node:fs';
import type { LogSink } from '../base/index.js';
import { openFifoWriter } from '../sys/index.js';

export class LogFifo {
  readonly #path: string;
  #fd: number | undefined;
  #dropped = 0;

  constructor(path: string) {
    this.#path = path;
    // Now: when there is most to say, there may be no descriptor for it.
    this.#open();
  }

  /** Writes a line, or counts it as dropped when the FIFO is full, absent, or has no reader. */
  readonly write: LogSink = (line) => {
    if (this.#fd === undefined && !this.#open()) {
      this.#dropped += 1;
      return;
    }
    if (this.#dropped > 0 && this.#tryWrite(`level=warning msg="log lines dropped" count=${this.#dropped}\n`)) {
      this.#dropped = 0;
    }
    if (!this.#tryWrite(line)) this.#dropped += 1;
  };

  close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  #open(): boolean {
    try {
      // Undefined while the daemon is not there to read: lines are dropped until it is.
      this.#fd = openFifoWriter(this.#path) ?? undefined;
      return this.#fd !== undefined;
    } catch {
      // The bundle is gone, or somebody has put something else there.
      return false;
    }
  }

  #tryWrite(text: string): boolean {
    if (this.#fd === undefined) return false;
    try {
      writeSync(this.#fd, text);
      return true;
    } catch {
      // EAGAIN: full. EPIPE: the reader left; the next line opens it again.
      this.close();
      return false;
    }
  }
}
