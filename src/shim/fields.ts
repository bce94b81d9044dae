/**
 * JSON that another engine has stored, read field by field: what is not as it should be is an error
 * that names it.
 */
import { isAbsolute, normalize } from 'node:path';
import { Code, LaminaError, messageOf } from '../base/index.js';

export class Fields {
  readonly #what: string;
  readonly #values: Readonly<Record<string, unknown>>;

  private constructor(what: string, value: unknown) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw unreadable(what, 'is no object');
    this.#what = what;
    this.#values = value as Record<string, unknown>;
  }

  /** @param what it is, for errors @throws LaminaError DataLoss */
  static parse(bytes: Buffer, what: string): Fields {
    let value: unknown;
    try {
      value = JSON.parse(bytes.toString());
    } catch (error) {
      throw unreadable(what, messageOf(error));
    }
    return new Fields(what, value);
  }

  text(key: string): string {
    return this.#is(key, 'a string', typeof this.#values[key] === 'string');
  }

  flag(key: string): boolean {
    return this.#is(key, 'true or false', typeof this.#values[key] === 'boolean');
  }

  /** A whole number from 0 on. */
  count(key: string): number {
    const value = this.#values[key];
    return this.#is(key, 'a whole number', Number.isSafeInteger(value) && Number(value) >= 0);
  }

  /** A whole number from 0 on, as decimal digits. */
  digits(key: string): string {
    const value = this.#values[key];
    return this.#is(key, 'decimal digits', typeof value === 'string' && /^\d{1,40}$/.test(value));
  }

  oneOf<T extends string>(key: string, allowed: readonly T[]): T {
    return this.#is(key, allowed.join(' or '), (allowed as readonly unknown[]).includes(this.#values[key]));
  }

  /** The object in a field. */
  of(key: string): Fields {
    return new Fields(`${this.#what}.${key}`, this.#values[key]);
  }

  /** Each field that is an object itself; all must be. */
  *each(): IterableIterator<[key: string, fields: Fields]> {
    for (const key of Object.keys(this.#values)) yield [key, this.of(key)];
  }

  /** The whole object, to be read by others. */
  get raw(): Readonly<Record<string, unknown>> {
    return this.#values;
  }

  /** What `read` makes of a field, undefined for one that is absent. */
  optional<T>(key: string, read: (fields: Fields, key: string) => T): T | undefined {
    return this.#values[key] === undefined ? undefined : read(this, key);
  }

  #is<T>(key: string, expected: string, isIt: boolean): T {
    if (isIt) return this.#values[key] as T;
    throw unreadable(this.#what, `${key} is not ${expected}`);
  }
}

/** An absolute path that means one place, whoever asks, and that system calls take. */
export function isPlainPath(path: string): boolean {
  return isAbsolute(path) && normalize(path) === path && !path.includes('\0');
}

export function unreadable(what: string, why: string): LaminaError {
  return new LaminaError(Code.DataLoss, `${what}: ${why}`, { subject: what });
}
