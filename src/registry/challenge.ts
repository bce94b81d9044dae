/** WWW-Authenticate: the challenges in it (RFC 9110, 11.6.1). Two schemes are understood. */

export interface Challenge {
  readonly scheme: 'basic' | 'bearer';
  /** Names in lower case. */
  readonly parameters: ReadonlyMap<string, string>;
}

/** No registry sends as much. */
const MAX_LENGTH = 16 * 1024;
const SPACE = /[ \t\r\n]*/y;
const TOKEN = /[!#$%&'*+\-.^_`|~0-9A-Za-z]+/y;
const QUOTED = /"((?:[^"\\]|\\.)*)"/sy;
const TOKEN68 = /[A-Za-z0-9\-._~+/]+=*[ \t]*(?=,|$)/y;

/** Reads a header from the left. */
class Reader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get isDone(): boolean {
    this.take(SPACE);
    return this.#at >= this.#text.length;
  }

  take(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match;
  }

  takeMark(mark: string): boolean {
    this.take(SPACE);
    if (this.#text[this.#at] !== mark) return false;
    this.#at += 1;
    return true;
  }

  /** A name before "="; nothing is read when it is none. */
  takeName(): string | undefined {
    const start = this.#at;
    this.take(SPACE);
    const name = this.take(TOKEN)?.[0];
    if (name !== undefined && this.takeMark('=')) return name.toLowerCase();
    this.#at = start;
    return undefined;
  }

  takeValue(): string | undefined {
    this.take(SPACE);
    const quoted = this.take(QUOTED);
    if (quoted !== undefined) return (quoted[1] ?? '').replace(/\\(.)/gs, '$1');
    return this.take(TOKEN)?.[0];
  }
}

function readParameters(reader: Reader): Map<string, string> {
  const parameters = new Map<string, string>();
  reader.take(SPACE);
  if (reader.take(TOKEN68) !== undefined) return parameters;
  for (;;) {
    const name = reader.takeName();
    if (name === undefined) return parameters;
    const value = reader.takeValue();
    if (value === undefined) return parameters;
    if (!parameters.has(name)) parameters.set(name, value);
    while (reader.takeMark(','));
  }
}

/**
 * The challenges in the header, in its order: several may be in one line, and it may be sent
 * several times. Other schemes are left out, and what follows a mistake.
 */
export function parseChallenges(header: string | readonly string[] | undefined): Challenge[] {
  const lines = header === undefined ? [] : typeof header === 'string' ? [header] : header;
  return lines.flatMap((line) => {
    const reader = new Reader(line.slice(0, MAX_LENGTH));
    const challenges: Challenge[] = [];
    while (!reader.isDone) {
      const scheme = reader.take(TOKEN)?.[0].toLowerCase();
      if (scheme === undefined) break;
      const parameters = readParameters(reader);
      if (scheme === 'basic' || scheme === 'bearer') challenges.push({ scheme, parameters });
      while (reader.takeMark(','));
    }
    return challenges;
  });
}
