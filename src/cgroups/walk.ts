/**
 * Walking a group with everything below it, however deep or wide that is.
 *
 * A container that may manage groups of its own can nest them by the thousand, past what a path may
 * have (PATH_MAX) and past every limit of descriptors. So the walk keeps a list in place of a
 * stack, and at most one descriptor: from where paths would become too long, they begin at the
 * group it is open on. The way back up goes through "..", which is safe here and only here: a group
 * can never be moved below another (rename(2) of cgroupfs stays in one directory).
 */
import { closeSync, constants, readdirSync, statSync } from 'node:fs';
import { Code, fsPath, isErrno, LaminaError, pathFromBytes, pathToBytes } from '../base/index.js';
import { openFile } from './file.js';

/**
 * A directory without sub-directories has two links: "." and its parent's entry. kernfs keeps that
 * count.
 */
const LEAF_LINKS = 2;
/**
 * Of a path below the one a descriptor is open on. With the longest name and a file's it stays
 * below PATH_MAX, 4096.
 */
const MAX_BELOW_BYTES = 3000;
/** Of groups on that path: looking up a path takes as long as it has names. */
const MAX_BELOW_NAMES = 32;
const DIRECTORY = constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW;
/** So often a group that is listed, and is not there when it is opened, is looked for again. */
const MAX_LISTINGS = 4;

/** The names of the groups right below; undefined if the group is not there. */
function subgroupNames(dir: string): string[] | undefined {
  try {
    const path = fsPath(dir);
    if (statSync(path).nlink === LEAF_LINKS) return [];
    return readdirSync(path, { withFileTypes: true, encoding: 'buffer' })
      .filter((entry) => entry.isDirectory())
      .map((entry) => pathFromBytes(entry.name));
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return undefined;
    throw error;
  }
}

/** Where a walk is. */
class Place implements Disposable {
  readonly #top: string;
  /** From below the top to where we are. */
  readonly #names: string[] = [];
  /** Open on the group that the first `#held` names lead to; -1 while paths begin at the top. */
  #fd = -1;
  #held = 0;
  /** From there to where we are. */
  #below = '';

  constructor(top: string) {
    this.#top = top;
  }

  /** Under which the group can be opened, until the next move. */
  get path(): string {
    return `${this.#fd < 0 ? this.#top : `/proc/self/fd/${this.#fd}`}${this.#below}`;
  }

  /** @returns false if there is no such group (any more) */
  enter(name: string): boolean {
    const below = `${this.#below}/${name}`;
    const isLong = this.#names.length - this.#held >= MAX_BELOW_NAMES || pathToBytes(below).length > MAX_BELOW_BYTES;
    if (isLong) {
      if (!this.#hold(this.path, this.#names.length)) return false;
      this.#below = `/${name}`;
    } else {
      this.#below = below;
    }
    this.#names.push(name);
    return true;
  }

  leave(): void {
    const name = this.#names.pop() ?? '';
    this.#below = this.#below.slice(0, -(name.length + 1));
    // A path ends in the group's name, so that it can be removed by it.
    if (this.#held > 0 && this.#names.length === this.#held) this.#holdAbove();
  }

  [Symbol.dispose](): void {
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = -1;
  }

  /** @param depth of that group @returns false if it is not there */
  #hold(path: string, depth: number): boolean {
    let fd: number;
    try {
      fd = openFile(path, DIRECTORY);
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'ENODEV')) return false;
      throw error;
    }
    this[Symbol.dispose]();
    this.#fd = fd;
    this.#held = depth;
    this.#below = '';
    return true;
  }

  /** Holds a group further up, as far as paths from there lead back to where we are. */
  #holdAbove(): void {
    const here = this.#names.length;
    let depth = here;
    let length = 0;
    while (depth > 0) {
      length += pathToBytes(this.#names[depth - 1] as string).length + 1;
      if (length > MAX_BELOW_BYTES || here - depth >= MAX_BELOW_NAMES) break;
      depth -= 1;
    }
    if (depth === 0) {
      this[Symbol.dispose]();
      this.#held = 0;
    } else if (!this.#hold(`${this.path}${'/..'.repeat(here - depth)}`, depth)) {
      throw new LaminaError(Code.NotFound, `${this.#top}: the way back up has gone`, { subject: this.#top });
    }
    this.#below = this.#names
      .slice(depth)
      .map((name) => `/${name}`)
      .join('');
  }
}

/** The groups of one level that were not visited yet. */
interface Level {
  names: string[];
  /** Listed, and not there. */
  gone: Set<string>;
  listings: number;
}

/** What was listed and is not there has been removed; what is listed again has to be there. */
function listAgain(level: Level, path: string): void {
  const { gone } = level;
  level.gone = new Set();
  level.names = gone.size === 0 ? [] : (subgroupNames(path) ?? []).filter((name) => gone.has(name));
  level.listings += 1;
  if (level.names.length === 0 || level.listings <= MAX_LISTINGS) return;
  const [name] = level.names;
  throw new LaminaError(Code.Internal, `${path}: the group ${JSON.stringify(name)} is listed and cannot be opened`, {
    subject: path,
  });
}

/**
 * Visits a group and every group below it; groups that come or go meanwhile may be visited or not.
 * @param order down: a group before those below it; up: after them
 * @yields a path to open the group by, which need not be its own, and is good until the next step
 * @throws errno, but for groups that are gone; {LaminaError} Internal for one that is listed and
 *   not to be opened
 */
export function* groupsBelow(dir: string, order: 'down' | 'up'): Generator<string, void> {
  using place = new Place(dir);
  const levels: Level[] = [];
  /** @returns false if the group is not there (any more) */
  function* arrive(): Generator<string, boolean> {
    const names = subgroupNames(place.path);
    if (names === undefined) return false;
    levels.push({ names, gone: new Set(), listings: 1 });
    if (order === 'down') yield place.path;
    return true;
  }
  if (!(yield* arrive())) return;
  for (let level = levels[0]; level !== undefined; level = levels.at(-1)) {
    const name = level.names.pop();
    if (name === undefined) {
      listAgain(level, place.path);
      if (level.names.length > 0) continue;
      if (order === 'up') yield place.path;
      levels.pop();
      if (levels.length > 0) place.leave();
    } else if (!place.enter(name)) {
      level.gone.add(name);
    } else if (!(yield* arrive())) {
      place.leave();
      level.gone.add(name);
    }
  }
}
