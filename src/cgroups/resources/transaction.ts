/** Writing several cgroup files so that either all are written or none has changed. */
import { basename, dirname } from 'node:path';
import { CgroupFileError, CgroupNotFoundError, isGone } from '../errors.js';
import {
  isDirectory,
  readCgroupFile,
  type WriteSlowly,
  writeCgroupFile,
  writeCgroupFileSlowly,
  writeInPool,
} from '../file.js';
import { LimitUnavailableError, RestoreError } from './errors.js';
import { restoringWrites } from './restore.js';
import { mayTakeLong } from './slow-writes.js';

/**
 * Access to interface files by path; all throw CgroupFileError. Tests bring their own to provoke
 * faults.
 */
export interface CgroupIo {
  read(path: string): string;
  /** One write(2). */
  write(path: string, data: string): void;
  /** One write(2) that may take long; others go on meanwhile. */
  writeSlowly(path: string, data: string): Promise<void>;
  isDirectory(path: string): boolean;
}

/** The files themselves. @param writeSlowly does what may take long */
export function cgroupIoWith(writeSlowly: WriteSlowly): CgroupIo {
  return {
    read: readCgroupFile,
    write: writeCgroupFile,
    writeSlowly: (path, data) => writeCgroupFileSlowly(writeSlowly, path, data),
    isDirectory,
  };
}

export const cgroupIo: CgroupIo = cgroupIoWith(writeInPool);

/** Writes a file, at once if that is known to be quick. @throws {CgroupFileError} */
export async function writeLimit(io: CgroupIo, path: string, data: string): Promise<void> {
  const read = (file: string): string | undefined => {
    try {
      return io.read(`${dirname(path)}/${file}`);
    } catch (error) {
      if (error instanceof CgroupFileError) return undefined;
      throw error;
    }
  };
  if (mayTakeLong(basename(path), data, read)) await io.writeSlowly(path, data);
  else io.write(path, data);
}

/** A write to the first changes what the second shows. */
const COMPANIONS: Readonly<Record<string, string>> = {
  // The kernel forgets the weight of an idle group.
  'v2/cpu.idle': 'cpu.weight',
  'v1/cpu.idle': 'cpu.shares',
  // Before Linux 6.10 each write divides the burst by 1000.
  'v2/cpu.max': 'cpu.max.burst',
};

interface Snapshot {
  readonly path: string;
  readonly content: string;
}

/** Where the files of a group are, by version. */
export interface Place {
  readonly version: 'v1' | 'v2';
  /** The directory with a file; undefined if its controller is not there. */
  dirOf(file: string): string | undefined;
}

function hasErrno(error: unknown, errnos: readonly string[]): error is CgroupFileError {
  return error instanceof CgroupFileError && errnos.includes(error.errno);
}

/** "hugetlb.2MB.max" → "hugetlb" */
export function controllerOf(file: string): string {
  return file.slice(0, file.indexOf('.'));
}

/** Every file is read before it is written; `rollback` goes back the same way. */
export class Transaction {
  readonly #io: CgroupIo;
  readonly #place: Place;
  #undo: (() => Promise<void>)[] = [];

  constructor(place: Place, io: CgroupIo) {
    this.#place = place;
    this.#io = io;
  }

  /** Writes a file of the group. @throws {CgroupFileError} */
  async write(file: string, data: string): Promise<void> {
    const path = this.#path(file, data);
    const before = this.#snapshot(path);
    const companion = this.#companion(file, path);
    await writeLimit(this.#io, path, data);
    if (before === undefined) return;
    this.#undo.push(async () => {
      await this.#restore(before);
      if (companion !== undefined && this.#snapshot(companion.path)?.content !== companion.content) {
        await this.#restore(companion);
      }
    });
  }

  /**
   * Writes a file whose content does not tell what was written, with what undoes it.
   * @throws {CgroupFileError}
   */
  async writeWith(
    file: string,
    data: string,
    undo: (write: (file: string, data: string) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    await writeLimit(this.#io, this.#path(file, data), data);
    this.#undo.push(() => undo((other, line) => writeLimit(this.#io, this.#path(other, line), line)));
  }

  /**
   * Writes a file; false if it was refused with one of these errnos.
   * @throws {CgroupFileError} for others
   */
  async tryWrite(file: string, data: string, ...errnos: string[]): Promise<boolean> {
    try {
      await this.write(file, data);
      return true;
    } catch (error) {
      if (hasErrno(error, errnos)) return false;
      throw error;
    }
  }

  /** What a file shows; undefined if there is no such file, or it cannot be read. */
  read(file: string): string | undefined {
    const dir = this.#place.dirOf(file);
    return dir === undefined ? undefined : this.#snapshot(`${dir}/${file}`)?.content;
  }

  /**
   * Runs the writes; puts everything back if one fails.
   * @throws {CgroupFileError} {RestoreError} if that fails too
   */
  async run(writes: () => Promise<void>): Promise<void> {
    try {
      await writes();
    } catch (error) {
      const cause = this.#explain(error);
      const failures = await this.#rollback();
      throw failures.length === 0 ? cause : new RestoreError(failures, cause);
    }
  }

  /**
   * Puts everything back, last write first; a second call does nothing.
   * @throws {RestoreError} with what could not be
   */
  async undo(): Promise<void> {
    const failures = await this.#rollback();
    if (failures.length > 0) throw new RestoreError(failures);
  }

  #path(file: string, data: string): string {
    const dir = this.#place.dirOf(file);
    if (dir !== undefined) return `${dir}/${file}`;
    const controller = controllerOf(file);
    const detail = `the group has no directory in a ${controller} hierarchy`;
    throw new LimitUnavailableError(controller, file, detail, undefined, data);
  }

  /**
   * The content, undefined for files that cannot be read: missing ones, and those that are only for
   * writing.
   */
  #snapshot(path: string): Snapshot | undefined {
    try {
      return { path, content: this.#io.read(path) };
    } catch (error) {
      if (error instanceof CgroupFileError) return undefined;
      throw error;
    }
  }

  #companion(file: string, path: string): Snapshot | undefined {
    const name = COMPANIONS[`${this.#place.version}/${file}`];
    return name === undefined ? undefined : this.#snapshot(`${dirname(path)}/${name}`);
  }

  async #restore({ path, content }: Snapshot): Promise<void> {
    for (const data of restoringWrites(basename(path), content, () => this.#io.read(path))) {
      await writeLimit(this.#io, path, data);
    }
  }

  async #rollback(): Promise<CgroupFileError[]> {
    const failures: CgroupFileError[] = [];
    for (let step = this.#undo.pop(); step !== undefined; step = this.#undo.pop()) {
      try {
        await step();
      } catch (error) {
        if (!(error instanceof CgroupFileError)) throw error;
        // Nothing is left to restore in a group that is removed.
        if (!isGone(error)) failures.push(error);
      }
    }
    return failures;
  }

  /** A missing file is told apart by why it is missing. */
  #explain(error: unknown): unknown {
    if (!hasErrno(error, ['ENOENT', 'ENODEV', 'EPERM', 'EACCES']) || error instanceof LimitUnavailableError)
      return error;
    const dir = dirname(error.path);
    const file = basename(error.path);
    if (!this.#io.isDirectory(dir)) return new CgroupNotFoundError(dir, error);
    const controller = controllerOf(file);
    if (this.#place.version === 'v2' && controller !== 'cgroup') {
      const enabled = this.#snapshot(`${dir}/cgroup.controllers`)?.content.trim();
      if (enabled !== undefined && !enabled.split(' ').includes(controller)) {
        const detail = `controller ${controller} not available in this group, which has ${enabled || 'none'}`;
        return new LimitUnavailableError(controller, error.path, detail, error.cause, error.data);
      }
    }
    const detail = { ENOENT: 'this kernel has no such file', ENODEV: 'there is no such device' }[error.errno];
    return detail === undefined
      ? error
      : new LimitUnavailableError(controller, error.path, detail, error.cause, error.data);
  }
}
