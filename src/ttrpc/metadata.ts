/**
 * Metadata: key-value pairs that accompany a request. A key may have several values; case does not
 * matter, and keys are sent in lower case.
 */

/** What a call takes as metadata. */
export type MetadataInit = Metadata | Readonly<Record<string, string | readonly string[]>>;

export class Metadata implements Iterable<readonly [key: string, value: string]> {
  /** Lower-case key → its values, in order; never empty. */
  readonly #values = new Map<string, string[]>();

  static from(init: MetadataInit): Metadata {
    if (init instanceof Metadata) return init;
    const metadata = new Metadata();
    for (const [key, value] of Object.entries(init)) {
      for (const one of typeof value === 'string' ? [value] : value) metadata.append(key, one);
    }
    return metadata;
  }

  /** Number of keys. */
  get size(): number {
    return this.#values.size;
  }

  /** The first value of a key. */
  get(key: string): string | undefined {
    return this.#values.get(key.toLowerCase())?.[0];
  }

  /** All values of a key, in the order they were sent. */
  getAll(key: string): readonly string[] {
    return this.#values.get(key.toLowerCase()) ?? [];
  }

  /** Adds a value to those the key has. */
  append(key: string, value: string): void {
    const values = this.#values.get(key.toLowerCase());
    if (values === undefined) this.#values.set(key.toLowerCase(), [value]);
    else values.push(value);
  }

  /** Replaces all values of a key by one. */
  set(key: string, value: string): void {
    this.#values.set(key.toLowerCase(), [value]);
  }

  delete(key: string): void {
    this.#values.delete(key.toLowerCase());
  }

  /** Every pair; a key with several values comes several times. */
  *[Symbol.iterator](): Iterator<readonly [string, string]> {
    for (const [key, values] of this.#values) {
      for (const value of values) yield [key, value];
    }
  }
}
