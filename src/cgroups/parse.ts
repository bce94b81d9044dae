/**
 * Parsers of the cgroup file formats (Documentation/admin-guide/cgroup-v2.rst, "Interface Files").
 * Pure; no input makes them throw: what cannot be understood counts as 0 or is left out, as
 * containerd's cgroups library does, so that one odd line of a newer kernel does not cost all the
 * other numbers.
 */
import type { PsiData, PsiStats, RdmaEntry, V2IoEntry } from './stats.js';

/** What "max" stands for. */
export const U64_MAX = 0xffff_ffff_ffff_ffffn;
const U32_MAX = 0xffff_ffff;

const NEWLINE = 0x0a;
const SPACE = 0x20;
const DIGIT_0 = 0x30;
const DIGIT_9 = 0x39;
const LETTER_M = 0x6d;
/** Numbers of so many digits are exact in a double. */
const SAFE_DIGITS = 15;

/** Parses a u64 or "max" at [start, end); negative, too large or ill-formed: 0. */
export function parseCounterAt(data: Buffer, start: number, end: number): bigint {
  if (end - start > SAFE_DIGITS) return parseLongCounter(data.toString('latin1', start, end));
  if (start >= end) return 0n;
  if (data[start] === LETTER_M) return data.toString('latin1', start, end) === 'max' ? U64_MAX : 0n;
  let value = 0;
  for (let at = start; at < end; at += 1) {
    const byte = data[at] as number;
    if (byte < DIGIT_0 || byte > DIGIT_9) return 0n;
    value = value * 10 + (byte - DIGIT_0);
  }
  return BigInt(value);
}

function parseLongCounter(text: string): bigint {
  if (!/^\d{1,40}$/.test(text)) return 0n;
  const value = BigInt(text);
  return value <= U64_MAX ? value : 0n;
}

/** Parses the content of a single-value file: "123\n", "max\n". */
export function parseCounter(data: Buffer, length: number): bigint {
  let end = length;
  while (end > 0 && (data[end - 1] as number) <= SPACE) end -= 1;
  return parseCounterAt(data, 0, end);
}

/** Parses a counter out of text. */
export function parseCounterText(text: string): bigint {
  return text === 'max' ? U64_MAX : parseLongCounter(text);
}

interface KnownLine {
  readonly key: Buffer;
  /** The field's name, undefined for lines nobody asked for. */
  readonly field: string | undefined;
}

/** A file has fewer lines than this; what follows is compared by name each time. */
const REMEMBERED_LINES = 256;

/**
 * Parser of flat keyed files ("KEY VALUE\n" lines) of one kind.
 *
 * The kernel prints the lines of a kind always in the same order, so the parser remembers which key
 * line n had and compares bytes; only a line that differs is decoded. Reading a known file thus
 * allocates nothing but the result.
 */
export class FlatKeyedParser<Field extends string> {
  readonly #fields: ReadonlyMap<string, Field>;
  readonly #zero: Readonly<Record<Field, bigint>>;
  readonly #lines: KnownLine[] = [];

  /** @param fields key in the file → name in the result */
  constructor(fields: Readonly<Record<string, Field>>) {
    this.#fields = new Map(Object.entries(fields));
    this.#zero = Object.fromEntries(Object.values(fields).map((field) => [field, 0n])) as Record<Field, bigint>;
  }

  /** What a missing file says: all 0. */
  empty(): Record<Field, bigint> {
    return { ...this.#zero };
  }

  /** All fields, 0 where the file has no such line. */
  parse(data: Buffer, length: number): Record<Field, bigint> {
    const result: Record<string, bigint> = { ...this.#zero };
    let start = 0;
    for (let line = 0; start < length; line += 1) {
      let end = data.indexOf(NEWLINE, start);
      if (end < 0 || end > length) end = length;
      const known = this.#line(line, data, start, end);
      if (known?.field !== undefined) {
        result[known.field] = parseCounterAt(data, start + known.key.length, end);
      }
      start = end + 1;
    }
    return result as Record<Field, bigint>;
  }

  /** The line's key, space included. */
  #line(line: number, data: Buffer, start: number, end: number): KnownLine | undefined {
    const known = this.#lines[line];
    if (known !== undefined && known.key.length <= end - start) {
      if (data.compare(known.key, 0, known.key.length, start, start + known.key.length) === 0) return known;
    }
    const space = data.indexOf(SPACE, start);
    if (space < 0 || space >= end) return undefined;
    const name = data.toString('latin1', start, space);
    const found = { key: Buffer.from(`${name} `, 'latin1'), field: this.#fields.get(name) };
    if (line < REMEMBERED_LINES) this.#lines[line] = found;
    return found;
  }
}

/** The value of one key of a flat keyed text; undefined if it has no such line. */
export function parseKey(text: string, key: string): bigint | undefined {
  for (const line of text.split('\n')) {
    if (line.startsWith(key) && line.charCodeAt(key.length) === SPACE)
      return parseCounterText(line.slice(key.length + 1));
  }
  return undefined;
}

/** Every line of a flat keyed text. */
export function parseFlatKeyed(text: string): Record<string, bigint> {
  const lines = text.split('\n').map((line) => line.split(' '));
  return Object.fromEntries(
    lines.filter(({ length }) => length === 2).map(([key = '', value = '']) => [key, parseCounterText(value)]),
  );
}

const PSI_LINE = /^(some|full) avg10=(\d+(?:\.\d+)?) avg60=(\d+(?:\.\d+)?) avg300=(\d+(?:\.\d+)?) total=(\d+)$/;

/**
 * Parses a *.pressure file; undefined if it has neither line. cpu.pressure has no `full` line
 * before Linux 5.13.
 */
export function parsePressure(text: string): PsiStats | undefined {
  const stats: { some: PsiData | undefined; full: PsiData | undefined } = { some: undefined, full: undefined };
  for (const line of text.split('\n')) {
    const match = PSI_LINE.exec(line);
    if (match === null) continue;
    const [, kind, avg10, avg60, avg300, total = ''] = match;
    stats[kind as 'some' | 'full'] = {
      avg10: Number(avg10),
      avg60: Number(avg60),
      avg300: Number(avg300),
      total: parseCounterText(total),
    };
  }
  return stats.some === undefined && stats.full === undefined ? undefined : stats;
}

/** Parses "MAJOR:MINOR". */
export function parseDevice(text: string): { major: bigint; minor: bigint } | undefined {
  const match = /^(\d{1,10}):(\d{1,10})$/.exec(text);
  return match === null ? undefined : { major: BigInt(match[1] as string), minor: BigInt(match[2] as string) };
}

const IO_KEYS: Readonly<Record<string, 'rbytes' | 'wbytes' | 'rios' | 'wios'>> = {
  'rbytes=': 'rbytes',
  'wbytes=': 'wbytes',
  'rios=': 'rios',
  'wios=': 'wios',
};

/**
 * Parses io.stat. Some kernels print lines with a device number only: such a device has counted
 * nothing and is left out.
 */
export function parseIoStat(text: string): V2IoEntry[] {
  const entries: V2IoEntry[] = [];
  for (const line of text.split('\n')) {
    const [name = '', ...pairs] = line.split(' ');
    const device = parseDevice(name);
    if (device === undefined || pairs.every((pair) => pair === '')) continue;
    const entry = { ...device, rbytes: 0n, wbytes: 0n, rios: 0n, wios: 0n };
    for (const pair of pairs) {
      const at = pair.indexOf('=') + 1;
      const key = pair.slice(0, at);
      if (Object.hasOwn(IO_KEYS, key)) entry[IO_KEYS[key] as 'rbytes'] = parseCounterText(pair.slice(at));
    }
    entries.push(entry);
  }
  return entries;
}

function parseRdmaCount(text: string): number {
  if (text === 'max') return U32_MAX;
  const value = parseCounterText(text);
  return value <= BigInt(U32_MAX) ? Number(value) : 0;
}

/** Parses rdma.current and rdma.max: "DEVICE hca_handle=N hca_object=N". */
export function parseRdma(text: string): RdmaEntry[] {
  const entries: RdmaEntry[] = [];
  for (const line of text.split('\n')) {
    const match = /^(\S+) hca_handle=(\w+) hca_object=(\w+)\s*$/.exec(line);
    if (match === null) continue;
    const [, device = '', handles = '', objects = ''] = match;
    entries.push({ device, hcaHandles: parseRdmaCount(handles), hcaObjects: parseRdmaCount(objects) });
  }
  return entries;
}

/**
 * Parses cgroup.procs, cgroup.threads and tasks. 0 (a process of another pid namespace) and
 * repetitions are left out.
 */
export function parsePids(text: string): number[] {
  const pids = new Set<number>();
  for (const line of text.split('\n')) {
    if (/^[1-9]\d{0,9}$/.test(line)) pids.add(Number(line));
  }
  return [...pids];
}
