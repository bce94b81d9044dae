/** JSON from outside: parsed with errors that say where. */
import { Code, LaminaError } from '../base/index.js';

/**
 * JSON or a part of it that is not what it should be. `subject` is where it came from, `field` the
 * path inside.
 */
export class SpecError extends LaminaError {
  /** `linux.resources.memory.limit`; empty when it is about the whole. */
  readonly field: string;

  constructor(
    message: string,
    options: { readonly subject: string; readonly field?: string; readonly cause?: unknown },
  ) {
    super(Code.InvalidArgument, message, options);
    this.field = options.field ?? '';
  }
}

/**
 * Parses JSON. A member whose value is null is left out, as Go's decoder takes it.
 * @param subject what the text is, for errors: a path, "process"
 * @throws SpecError `SUBJECT: not JSON: unexpected "}" at line 3 column 5`
 */
export function parseJson(text: string, subject: string): unknown {
  try {
    // The reviver is slow and null is rare.
    return /[:[,]\s*null\b/.test(text) ? JSON.parse(text, dropNull) : JSON.parse(text);
  } catch (cause) {
    const offset = findJsonError(text);
    const before = text.slice(0, offset).split('\n');
    const found =
      offset >= text.length ? 'end of input' : JSON.stringify(String.fromCodePoint(text.codePointAt(offset) ?? 0));
    const where = `line ${before.length} column ${(before.at(-1)?.length ?? 0) + 1}`;
    throw new SpecError(`${subject}: not JSON: unexpected ${found} at ${where}`, { subject, cause });
  }
}

function dropNull(this: unknown, key: string, value: unknown): unknown {
  return value === null && !Array.isArray(this) && key !== '' ? undefined : value;
}

type Expecting = 'value' | 'value or ]' | 'key' | 'key or }' | ':' | ', or end' | 'nothing';

// White space, then a mark, a string (of anything but controls, quotes and bare backslashes), or
// another scalar.
const TOKEN =
  /[ \t\n\r]*(?:([{}[\],:])|("(?:[ !#-[\]-\uffff]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(?:-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null))/y;
const SPACE = /[ \t\n\r]*/y;

/**
 * The offset of the first thing that makes a text no JSON; its length when it only ends too early.
 * V8 does not always tell.
 */
export function findJsonError(text: string): number {
  const open: ('{' | '[')[] = [];
  let expecting: Expecting = 'value';
  let offset = 0;
  for (;;) {
    TOKEN.lastIndex = offset;
    const match = TOKEN.exec(text);
    SPACE.lastIndex = offset;
    const start = offset + (SPACE.exec(text)?.[0].length ?? 0);
    if (match === null) return start;
    const [all, mark, string] = match;
    const isKey: boolean = string !== undefined && (expecting === 'key' || expecting === 'key or }');
    const isValuePlace: boolean = expecting === 'value' || expecting === 'value or ]';
    if (isKey) expecting = ':';
    else if (mark === ':' && expecting === ':') expecting = 'value';
    else if (mark === ',' && expecting === ', or end') expecting = open.at(-1) === '{' ? 'key' : 'value';
    else if ((mark === '{' || mark === '[') && isValuePlace) {
      open.push(mark);
      expecting = mark === '{' ? 'key or }' : 'value or ]';
    } else if (closes(mark, open.at(-1), expecting)) {
      open.pop();
      expecting = open.length === 0 ? 'nothing' : ', or end';
    } else if (mark === undefined && isValuePlace) {
      expecting = open.length === 0 ? 'nothing' : ', or end';
    } else {
      return start;
    }
    offset += all.length;
  }
}

function closes(mark: string | undefined, open: string | undefined, expecting: Expecting): boolean {
  if (mark === '}') return open === '{' && (expecting === ', or end' || expecting === 'key or }');
  return mark === ']' && open === '[' && (expecting === ', or end' || expecting === 'value or ]');
}
