/**
 * The device programs attached to one group, through bpf(2). Every failure is a DeviceProgramError.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { Code, codeOf, fsPath, isErrno, LaminaError, messageOf } from '../../base/index.js';
import { binding } from '../../sys/index.js';
import { CgroupFileError } from '../errors.js';

export type DeviceProgramOp = 'load' | 'query' | 'open' | 'attach' | 'detach';

/** bpf(2) refused something about the device program of a group. */
export class DeviceProgramError extends LaminaError {
  readonly op: DeviceProgramOp;
  /** The group's directory. */
  readonly path: string;
  /** The errno's name, '' when the failure was not a system call's. */
  readonly errno: string;
  /** What the kernel's verifier said about a program it refused. */
  readonly log: string;

  constructor(op: DeviceProgramOp, path: string, cause: unknown) {
    const log = cause instanceof Error && 'log' in cause && typeof cause.log === 'string' ? cause.log.trim() : '';
    // The verifier's complaint is followed by its statistics only.
    const complaint =
      log
        .replace(/\nprocessed \d+ insns.*$/s, '')
        .split('\n')
        .at(-1) ?? '';
    const reason = complaint === '' ? messageOf(cause) : `${messageOf(cause)}: ${complaint}`;
    super(isErrno(cause, 'ENOSYS') ? Code.Unimplemented : codeOf(cause), `${op} device program of ${path}: ${reason}`, {
      subject: path,
      cause,
    });
    this.op = op;
    this.path = path;
    this.errno = isErrno(cause) ? cause.code : '';
    this.log = log;
  }
}

/** BPF_F_*: how programs are attached. All of one group are attached the same way. */
export const AttachFlag = { AllowMulti: 2, Replace: 4 } as const;

/** As runc's and cilium's: a signal during verification is rare, that many in a row are not. */
const LOAD_ATTEMPTS = 30;

function loadProgram(program: Uint8Array): number {
  let unlimitedMemlock = false;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return binding().bpfLoadDevice(program, unlimitedMemlock);
    } catch (error) {
      const mayBeMemlock: boolean = isErrno(error, 'EPERM') && !unlimitedMemlock;
      if (attempt === LOAD_ATTEMPTS || !(mayBeMemlock || isErrno(error, 'EAGAIN'))) throw error;
      unlimitedMemlock = mayBeMemlock || unlimitedMemlock;
    }
  }
}

/** A group's directory and its programs, by descriptors that stay open until `close`. */
export class GroupPrograms {
  readonly #dir: string;
  #group: number;
  readonly #programs: number[] = [];

  /** @throws {CgroupFileError} when the directory cannot be opened */
  constructor(dir: string) {
    this.#dir = dir;
    try {
      this.#group = openSync(fsPath(dir), constants.O_RDONLY | constants.O_DIRECTORY);
    } catch (error) {
      throw new CgroupFileError('open', dir, error);
    }
  }

  #call<T>(op: DeviceProgramOp, call: () => T): T {
    try {
      return call();
    } catch (error) {
      throw new DeviceProgramError(op, this.#dir, error);
    }
  }

  /** Loads a program, not attached yet. */
  load(program: Uint8Array): number {
    const fd = this.#call('load', () => loadProgram(program));
    this.#programs.push(fd);
    return fd;
  }

  /**
   * What is attached to the group, and how. With several programs allowed, one we may not open is
   * left out: it stays in force beside the others, which can only make the policy stricter.
   */
  attached(): { readonly flags: number; readonly programs: readonly number[] } {
    const { flags, ids } = this.#call('query', () => binding().bpfQueryDevice(this.#group));
    const programs: number[] = [];
    for (const id of ids) {
      try {
        const fd = binding().bpfOpenProgram(id);
        this.#programs.push(fd);
        programs.push(fd);
      } catch (error) {
        const stays = isErrno(error, 'EPERM', 'EACCES') && (flags & AttachFlag.AllowMulti) !== 0;
        // ENOENT: detached and unloaded since the query.
        if (!stays && !isErrno(error, 'ENOENT')) throw new DeviceProgramError('open', this.#dir, error);
      }
    }
    return { flags: ids.length === 0 ? AttachFlag.AllowMulti : flags, programs };
  }

  attach(program: number, flags: number): void {
    this.#call('attach', () => binding().bpfAttachDevice(this.#group, program, flags, -1));
  }

  /**
   * Puts a program in another's place in one step.
   * @returns false when that cannot be done: before Linux 5.6 (EINVAL), or the other is not
   *   attached, or attached by a link (ENOENT)
   */
  replace(program: number, replaced: number): boolean {
    try {
      binding().bpfAttachDevice(this.#group, program, AttachFlag.AllowMulti | AttachFlag.Replace, replaced);
      return true;
    } catch (error) {
      if (isErrno(error, 'EINVAL', 'ENOENT')) return false;
      throw new DeviceProgramError('attach', this.#dir, error);
    }
  }

  /**
   * @returns false when it was not attached: someone else was faster, or a link holds it, which is
   *   not ours to undo
   */
  detach(program: number): boolean {
    try {
      binding().bpfDetachDevice(this.#group, program);
      return true;
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return false;
      throw new DeviceProgramError('detach', this.#dir, error);
    }
  }

  /** Idempotent. What is attached stays attached. */
  close(): void {
    if (this.#group >= 0) closeSync(this.#group);
    this.#group = -1;
    for (const fd of this.#programs.splice(0)) closeSync(fd);
  }
}
