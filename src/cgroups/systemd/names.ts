/**
 * Names of systemd units and the cgroup paths they stand for: `slice:prefix:name` as runc reads it,
 * the hierarchy that dashes in a slice's name mean (systemd.slice(5)), and what systemd makes of a
 * name that cannot be a directory in cgroupfs.
 */
import { posix } from 'node:path';
import { Code, LaminaError, pathToBytes } from '../../base/index.js';

/** A unit and the slice it is put into. */
export interface SystemdPath {
  readonly slice: string;
  /** `prefix-name.scope`, or a slice's own name. */
  readonly unit: string;
}

/** What the kind of a unit decides: its D-Bus interface, and which properties it has. */
export type UnitKind = 'scope' | 'slice';

/** Where a unit goes when the path names no slice. */
export const DEFAULT_SLICE = { system: 'system.slice', user: 'user.slice' } as const;

const SLICE_SUFFIX = '.slice';
/** systemd.unit(5): "may not exceed 255 characters". */
const MAX_UNIT_NAME = 255;
/**
 * A backslash is there for the escapes themselves. "@" would make an instance of a template, which
 * scopes and slices do not have.
 */
const INVALID_CHARACTER = /[^A-Za-z0-9:\-_.\\]/u;
const UNIT_TYPE = /\.(?:service|socket|target|device|mount|automount|swap|timer|path|slice|scope)$/;
/**
 * Names that cgroupfs uses for its own files; a unit's directory of such a name is given a "_" in
 * front by systemd.
 */
const RESERVED_DIRECTORY =
  /^(?:[_.]|cgroup\.|(?:cpu|cpuacct|cpuset|io|blkio|memory|devices|pids|bpf-[a-z-]+)\.|(?:notify_on_release|release_agent|tasks)$)/;

function nameError(what: string, name: string): LaminaError {
  return new LaminaError(Code.InvalidArgument, `${what} ${JSON.stringify(name)}`, { subject: name });
}

/** `\xNN` for each byte of a character that a unit's name cannot have. */
function escapeCharacter(character: string): string {
  return [...pathToBytes(character)].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
}

/**
 * Makes a valid unit name of any text, by writing every byte it cannot have as `\xNN`, as
 * systemd-escape(1) does. A name that is valid stays as it is, dashes included: runc's units keep
 * their names.
 * @throws {LaminaError} InvalidArgument if it is longer than 255 bytes then, has no suffix of a
 *   unit's type, or nothing before it
 */
export function escapeUnitName(name: string): string {
  const stem = name.replace(UNIT_TYPE, '');
  if (stem === name) throw nameError('unit name without a type such as ".scope":', name);
  if (stem === '') throw nameError('unit name with nothing before its type:', name);
  const escaped = [...stem].map((each) => (INVALID_CHARACTER.test(each) ? escapeCharacter(each) : each)).join('');
  const unit = escaped + name.slice(stem.length);
  if (unit.length > MAX_UNIT_NAME) throw nameError(`unit name longer than ${MAX_UNIT_NAME} bytes:`, unit);
  return unit;
}

/** The kind of a unit this folder makes. @throws {LaminaError} InvalidArgument for any other */
export function unitKind(unit: string): UnitKind {
  if (unit.endsWith(SLICE_SUFFIX)) return 'slice';
  if (unit.endsWith('.scope')) return 'scope';
  throw nameError('neither a scope nor a slice:', unit);
}

/**
 * The directory systemd makes for a unit: its name, with "_" in front where cgroupfs would take it
 * for one of its files.
 */
function unitDirectory(unit: string): string {
  return RESERVED_DIRECTORY.test(unit) ? `_${unit}` : unit;
}

/**
 * The cgroup path of a slice: `a-b-c.slice` is `/a.slice/a-b.slice/a-b-c.slice`, and `-.slice` the
 * root.
 * @throws {LaminaError} InvalidArgument: no ".slice" at the end, nothing before it, a "/", or an
 *   empty part ("a--b", "-a", "a-")
 */
export function expandSlice(slice: string): string {
  const name = slice.endsWith(SLICE_SUFFIX) ? slice.slice(0, -SLICE_SUFFIX.length) : '';
  if (name === '-') return '/';
  const parts = name.split('-');
  if (slice.includes('/') || parts.includes('')) throw nameError('invalid slice name:', slice);
  return parts.map((_, end) => `/${unitDirectory(`${parts.slice(0, end + 1).join('-')}${SLICE_SUFFIX}`)}`).join('');
}

/**
 * Parses `slice:prefix:name`, exactly three parts. The unit is `prefix-name.scope`, or, when the
 * name ends in ".slice", that slice. An empty slice stands for `defaultSlice`. What a unit name
 * cannot have is escaped.
 * @throws {LaminaError} InvalidArgument
 */
export function parseSystemdPath(path: string, defaultSlice: string = DEFAULT_SLICE.system): SystemdPath {
  const parts = path.split(':');
  const [parent, prefix, name] = parts;
  if (parts.length !== 3 || parent === undefined || prefix === undefined || name === undefined) {
    throw nameError('a cgroup path for systemd is "slice:prefix:name", got', path);
  }
  if (name === '') throw nameError('a cgroup path for systemd needs a name in its third part:', path);
  const slice = parent === '' ? defaultSlice : parent;
  expandSlice(slice);
  if (name.endsWith(SLICE_SUFFIX)) {
    expandSlice(name);
    return { slice: escapeSlice(slice), unit: escapeSlice(name) };
  }
  return { slice: escapeSlice(slice), unit: escapeUnitName(`${prefix}-${name}.scope`) };
}

function escapeSlice(slice: string): string {
  return slice === '-.slice' ? slice : escapeUnitName(slice);
}

/**
 * The cgroup path that systemd gives a unit, below its own root; the unit's ControlGroup property
 * is the authority where there is one.
 * @throws {LaminaError} InvalidArgument
 */
export function unitPath({ slice, unit }: SystemdPath): string {
  // A slice's place follows from its name alone.
  if (unitKind(unit) === 'slice') return expandSlice(unit);
  return posix.join(expandSlice(slice), unitDirectory(unit));
}

/** A unit found in a cgroup path. */
export interface UnitOfPath extends SystemdPath {
  /** What of the path lies below the unit's own group: "" if it is the unit's. */
  readonly below: string;
}

/**
 * The unit a cgroup belongs to: the first component after the slices, or the last slice. Undefined
 * for a path that is no unit's, such as "/default/web" or the root.
 */
export function unitFromCgroupPath(path: string): UnitOfPath | undefined {
  const names = path
    .split('/')
    .filter(Boolean)
    .map((name) => name.replace(/^_/, ''));
  const slices = names.findIndex((name) => !name.endsWith(SLICE_SUFFIX));
  const depth = slices < 0 ? names.length : slices;
  const slice = names[depth - 1] ?? '-.slice';
  const unit = names[depth];
  if (unit !== undefined && UNIT_TYPE.test(unit)) {
    return {
      slice,
      unit,
      below: names
        .slice(depth + 1)
        .map((name) => `/${name}`)
        .join(''),
    };
  }
  if (depth === 0) return undefined;
  return {
    slice: names[depth - 2] ?? '-.slice',
    unit: slice,
    below: names
      .slice(depth)
      .map((name) => `/${name}`)
      .join(''),
  };
}

/**
 * The D-Bus object of a unit: every byte but letters and digits, and a digit in front, becomes
 * `_NN`.
 */
export function unitObjectPath(unit: string): string {
  const bytes = [...pathToBytes(unit)];
  const escaped = bytes.map((byte, at) => {
    const character = String.fromCharCode(byte);
    const isPlain = at === 0 ? /[A-Za-z]/.test(character) : /[A-Za-z0-9]/.test(character);
    return isPlain ? character : `_${byte.toString(16).padStart(2, '0')}`;
  });
  return `/org/freedesktop/systemd1/unit/${escaped.join('')}`;
}
