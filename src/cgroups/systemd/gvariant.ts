/**
 * GVariant's text format (https://docs.gtk.org/glib/gvariant-text-format.html), as far as
 * properties of units need it: the annotation `org.systemd.property.NAME` of a container carries
 * such text.
 */
import { Code, LaminaError } from '../../base/index.js';
import type { BusValue } from './bus.js';
import type { UnitProperty } from './manager.js';

const USEC_PER_SEC = 1_000_000;

/** Type keywords. */
const KEYWORDS: Readonly<Record<string, string>> = {
  boolean: 'b',
  byte: 'y',
  int16: 'n',
  uint16: 'q',
  int32: 'i',
  uint32: 'u',
  int64: 'x',
  uint64: 't',
  double: 'd',
  string: 's',
  objectpath: 'o',
};

const TOKEN =
  /\s*(?:(@[a-z()]+)|([a-z]\w*)|([+-]?(?:0x[\da-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?))|('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|([[\](),]))/y;

const BIG = new Set(['x', 't']);
const INTEGERS: ReadonlyMap<string, readonly [bigint, bigint]> = new Map([
  ['y', [0n, 0xffn]],
  ['n', [-0x8000n, 0x7fffn]],
  ['q', [0n, 0xffffn]],
  ['i', [-0x8000_0000n, 0x7fff_ffffn]],
  ['u', [0n, 0xffff_ffffn]],
  ['x', [-(1n << 63n) + 1n, (1n << 63n) - 1n]],
  ['t', [0n, (1n << 64n) - 1n]],
]);

interface Typed {
  readonly signature: string;
  readonly value: BusValue;
}

/** @throws {LaminaError} InvalidArgument, with the text as its subject */
export function parseGvariant(text: string): Typed {
  return new Parser(text).parse();
}

class Parser {
  readonly #text: string;
  #at = 0;
  #token = '';

  constructor(text: string) {
    this.#text = text;
  }

  parse(): Typed {
    this.#next();
    const value = this.#value(undefined);
    if (this.#token !== '') throw this.#error();
    return value;
  }

  #error(): LaminaError {
    const what = `not understood as GVariant text: ${JSON.stringify(this.#text)} at ${this.#at - this.#token.length}`;
    return new LaminaError(Code.InvalidArgument, what, { subject: this.#text });
  }

  #next(): void {
    TOKEN.lastIndex = this.#at;
    const match = TOKEN.exec(this.#text);
    if (match === null && this.#text.slice(this.#at).trim() !== '') throw this.#error();
    this.#token = match === null ? '' : match[0].trim();
    this.#at = match === null ? this.#text.length : TOKEN.lastIndex;
  }

  #take(token: string): void {
    if (this.#token !== token) throw this.#error();
    this.#next();
  }

  /** @param expected the type the value must have; undefined if it says so itself */
  #value(expected: string | undefined): Typed {
    const token = this.#token;
    const annotated = token.startsWith('@')
      ? token.slice(1)
      : Object.hasOwn(KEYWORDS, token)
        ? KEYWORDS[token]
        : undefined;
    if (annotated !== undefined) {
      if (expected !== undefined && expected !== annotated) throw this.#error();
      this.#next();
      return this.#value(annotated);
    }
    if (token === '[') return this.#array(expected);
    if (token === '(') return this.#tuple(expected);
    const value = this.#scalar(token, expected);
    this.#next();
    return value;
  }

  #scalar(token: string, expected: string | undefined): Typed {
    if (token === 'true' || token === 'false') return this.#as('b', expected, token === 'true');
    if (/^['"]/.test(token)) {
      const signature = expected === 'o' ? 'o' : 's';
      return this.#as(signature, expected, unquote(token));
    }
    if (!/^[+-]?[\d.]/.test(token)) throw this.#error();
    return this.#number(token, expected ?? (/^[+-]?(0x[\da-fA-F]+|\d+)$/.test(token) ? 'i' : 'd'));
  }

  #number(token: string, signature: string): Typed {
    if (signature === 'd') return { signature, value: Number(token) };
    const [min, max] = INTEGERS.get(signature) ?? [];
    if (min === undefined || max === undefined || !/^[+-]?(0x[\da-fA-F]+|\d+)$/.test(token)) throw this.#error();
    const magnitude = BigInt(token.replace(/^[+-]/, ''));
    const value = token.startsWith('-') ? -magnitude : magnitude;
    if (value < min || value > max) throw this.#error();
    return { signature, value: BIG.has(signature) ? value : Number(value) };
  }

  #as(signature: string, expected: string | undefined, value: BusValue): Typed {
    if (expected !== undefined && expected !== signature) throw this.#error();
    return { signature, value };
  }

  #array(expected: string | undefined): Typed {
    if (expected !== undefined && !expected.startsWith('a')) throw this.#error();
    let element = expected?.slice(1);
    const values: BusValue[] = [];
    this.#take('[');
    while (this.#token !== ']') {
      if (values.length > 0) this.#take(',');
      const { signature, value } = this.#value(element);
      element = signature;
      values.push(value);
    }
    // Nothing says of what an empty array is.
    if (element === undefined) throw this.#error();
    this.#next();
    const value = element === 'y' ? Buffer.from(values as number[]) : values;
    return { signature: `a${element}`, value };
  }

  #tuple(expected: string | undefined): Typed {
    const types = expected === undefined ? undefined : membersOf(expected);
    if (expected !== undefined && types === undefined) throw this.#error();
    const members: Typed[] = [];
    this.#take('(');
    while (this.#token !== ')') {
      if (members.length > 0) this.#take(',');
      // "(1,)": a tuple of one.
      if (this.#token === ')') break;
      members.push(this.#value(types?.[members.length]));
    }
    if (members.length === 0 || (types !== undefined && types.length !== members.length)) throw this.#error();
    this.#next();
    const signature = `(${members.map((member) => member.signature).join('')})`;
    return { signature, value: members.map((member) => member.value) };
  }
}

/** The types in "(…)"; undefined if it is no tuple's. */
function membersOf(signature: string): string[] | undefined {
  if (!/^\(.*\)$/.test(signature)) return undefined;
  const members: string[] = [];
  let depth = 0;
  let member = '';
  for (const character of signature.slice(1, -1)) {
    member += character;
    if (character === '(') depth += 1;
    if (character === ')') depth -= 1;
    if (depth > 0 || character === 'a') continue;
    members.push(member);
    member = '';
  }
  return member === '' && depth === 0 ? members : undefined;
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', b: '\b', f: '\f', v: '\v', a: '\x07' };

function unquote(token: string): string {
  return token
    .slice(1, -1)
    .replace(/\\(?:u([\da-fA-F]{4})|U([\da-fA-F]{8})|(.))/g, (_, short?: string, long?: string, other: string = '') => {
      const code = Number.parseInt(short ?? long ?? '', 16);
      if (code <= 0x10_ffff) return String.fromCodePoint(code);
      return ESCAPES[other] ?? other;
    });
}

/**
 * A unit's property, given as text. A name that ends in "Sec" is taken as systemd's own files do:
 * in seconds, for the property "…USec".
 * @throws {LaminaError} InvalidArgument: the name is no property's (letters, three at least), or
 *   the text is not understood
 */
export function textProperty(name: string, text: string): UnitProperty {
  if (!/^[A-Za-z]{3,}$/.test(name)) {
    throw new LaminaError(Code.InvalidArgument, `not a unit's property: ${JSON.stringify(name)}`, { subject: name });
  }
  const { signature, value } = parseGvariant(text);
  if (!/[a-z]Sec$/.test(name)) return { name, signature, value };
  if (typeof value !== 'number' && typeof value !== 'bigint') {
    throw new LaminaError(Code.InvalidArgument, `${name}: expected a number of seconds, not ${text}`, {
      subject: name,
    });
  }
  const usec = typeof value === 'bigint' ? value * BigInt(USEC_PER_SEC) : BigInt(Math.round(value * USEC_PER_SEC));
  return { name: name.replace(/Sec$/, 'USec'), signature: 't', value: usec };
}
