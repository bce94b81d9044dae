/**
 * Which descriptors that were put into a keeper it has not taken. It says nothing of those it has.
 *
 * INVARIANT: the keeper answers in order, so what was put before an answered request and not
 * refused is kept.
 */
import { LaminaError } from '../base/index.js';

export class KeptDescriptors {
  /**
   * serial of a PUT of a descriptor → its entry's name; removed when a later request was answered.
   */
  readonly #put = new Map<number, string>();
  /**
   * name → why the keeper has not taken this descriptor; removed by `assertKept`, or with the
   * entry.
   */
  readonly #refused = new Map<string, LaminaError>();

  /** A descriptor is put, under the number of its message. */
  put(serial: number, name: string): void {
    this.#put.set(serial, name);
    this.#refused.delete(name);
  }

  /** The entry is dropped. */
  forget(name: string): void {
    this.#refused.delete(name);
  }

  /** A request was answered. */
  answered(answered: number): void {
    for (const serial of this.#put.keys()) {
      if (serial === answered) continue;
      if (serial > answered) return;
      this.#put.delete(serial);
    }
  }

  /** What was sent under this number was refused. */
  refused(serial: number, error: LaminaError): void {
    const name = this.#put.get(serial);
    if (name !== undefined) this.#refused.set(name, new LaminaError(error.code, `keep ${name}: ${error.message}`));
    this.#put.delete(serial);
  }

  /**
   * @throws LaminaError ResourceExhausted when the keeper had no room for a descriptor whose name
   *   begins so
   */
  assertKept(prefix: string): void {
    for (const [name, error] of this.#refused) {
      if (!name.startsWith(prefix)) continue;
      this.#refused.delete(name);
      throw error;
    }
  }
}
