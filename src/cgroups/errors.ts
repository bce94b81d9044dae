import { Code, codeOf, isErrno, LaminaError, messageOf } from '../base/index.js';

/** What was being done to an interface file, or to a group. */
export type CgroupFileOp = 'open' | 'read' | 'write' | 'watch' | 'make' | 'remove' | 'chown';

/**
 * A cgroup interface file refused an operation. `code` is what the kernel's errno stands for,
 * `cause` the system call's error.
 */
export class CgroupFileError extends LaminaError {
  readonly op: CgroupFileOp;
  readonly path: string;
  /** The errno's name ('EBUSY'), '' when the failure was not a system call's. */
  readonly errno: string;
  /** What was to be written; undefined unless `op` is 'write'. */
  readonly data: string | undefined;

  constructor(op: CgroupFileOp, path: string, cause: unknown, data?: string) {
    const what = data === undefined ? `${op} ${path}` : `${op} ${path} ${JSON.stringify(data)}`;
    super(isErrno(cause, 'ENODEV') ? Code.NotFound : codeOf(cause), `${what}: ${messageOf(cause)}`, {
      subject: path,
      cause,
    });
    this.op = op;
    this.path = path;
    this.errno = isErrno(cause) ? cause.code : '';
    this.data = data;
  }
}

/**
 * The cgroup does not exist, or no longer does. `code` is NotFound; the text is what containerd's
 * clients match.
 */
export class CgroupNotFoundError extends LaminaError {
  constructor(path: string, cause?: unknown) {
    super(Code.NotFound, `cgroup does not exist: ${path}: not found`, { subject: path, cause });
  }
}

/**
 * True if the file or its group is not there: never was (ENOENT), or was removed under an open
 * descriptor (ENODEV).
 */
export function isGone(error: unknown): boolean {
  return isErrno(error instanceof CgroupFileError ? error.cause : error, 'ENOENT', 'ENODEV');
}

/**
 * True if the kernel says that the operation is not supported here (EOPNOTSUPP: threaded group, PSI
 * switched off).
 */
export function isUnsupported(error: unknown): boolean {
  // 95 has two names; Node.js says ENOTSUP.
  return isErrno(error instanceof CgroupFileError ? error.cause : error, 'ENOTSUP', 'EOPNOTSUPP');
}

/** Why a group cannot be what is asked of it. */
export type TreeSituation =
  /**
   * A group with processes cannot enable controllers for groups below it, nor take processes when
   * it has enabled some.
   */
  | 'internal-processes'
  /** The group is threaded, and what is asked needs a domain. */
  | 'threaded'
  /** The group is below a threaded one and not threaded itself: nothing can be in it. */
  | 'domain-invalid'
  /**
   * The controller is not there: not in this kernel, held by v1, or not handed down by an ancestor.
   */
  | 'no-controller'
  /** This process may not do it. */
  | 'permission'
  /** cgroup.max.descendants or cgroup.max.depth of an ancestor is reached. */
  | 'limit'
  /** The hierarchy is mounted read-only. */
  | 'read-only'
  /** The group has processes already, so it is somebody else's. */
  | 'not-empty'
  | 'frozen';

const SITUATION_CODES: Readonly<Partial<Record<TreeSituation, Code>>> = {
  permission: Code.PermissionDenied,
  limit: Code.ResourceExhausted,
};

/**
 * The tree of groups does not allow what was asked. `subject` is the group that stands in the way.
 */
export class CgroupTreeError extends LaminaError {
  readonly situation: TreeSituation;

  constructor(situation: TreeSituation, message: string, options: { subject: string; cause?: unknown }) {
    super(SITUATION_CODES[situation] ?? Code.FailedPrecondition, message, options);
    this.situation = situation;
  }
}
