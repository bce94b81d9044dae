/**
 * The error model of the whole project: one base class, one closed set of codes, errno predicates.
 *
 * Codes are gRPC's numbers (https://grpc.github.io/grpc/core/md_doc_statuscodes.html), which ttrpc
 * and containerd's errdefs share, so that an error keeps its meaning from a system call up to the
 * daemon.
 */

/** Status codes, with the numbers gRPC, ttrpc and containerd's errdefs give them. */
export const Code = {
  Ok: 0,
  Canceled: 1,
  Unknown: 2,
  InvalidArgument: 3,
  DeadlineExceeded: 4,
  NotFound: 5,
  AlreadyExists: 6,
  PermissionDenied: 7,
  ResourceExhausted: 8,
  FailedPrecondition: 9,
  Aborted: 10,
  OutOfRange: 11,
  Unimplemented: 12,
  Internal: 13,
  Unavailable: 14,
  DataLoss: 15,
  Unauthenticated: 16,
} as const;

export type Code = (typeof Code)[keyof typeof Code];

export interface LaminaErrorOptions {
  /** The file, field, pid, container or unit the error is about. */
  readonly subject?: string;
  /** What led to it; logged, never sent to a peer. */
  readonly cause?: unknown;
}

/** An error with a status code. Domain errors extend it by fields, not by behaviour. */
export class LaminaError extends Error {
  readonly code: Code;
  readonly subject: string | undefined;

  constructor(code: Code, message: string, options: LaminaErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.subject = options.subject;
  }
}

/** Errors of system calls as Node's own modules and the native addon throw them. */
export interface ErrnoError extends Error {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly path?: string;
}

/**
 * True for a system call error, and, when names are given, only for those errnos ('ENOENT', ...).
 */
export function isErrno(error: unknown, ...names: string[]): error is ErrnoError {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return false;
  if (!('syscall' in error)) return false;
  return names.length === 0 || names.includes(error.code);
}

/** The text of anything thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const ERRNO_CODES: Readonly<Record<string, Code>> = {
  ENOENT: Code.NotFound,
  ESRCH: Code.NotFound,
  EEXIST: Code.AlreadyExists,
  EPERM: Code.PermissionDenied,
  EACCES: Code.PermissionDenied,
  ENOSPC: Code.ResourceExhausted,
  EMFILE: Code.ResourceExhausted,
  ENFILE: Code.ResourceExhausted,
  ENOMEM: Code.ResourceExhausted,
  EDQUOT: Code.ResourceExhausted,
  ETIMEDOUT: Code.DeadlineExceeded,
};

/** The status code of anything thrown: its own, the one its errno stands for, else Unknown. */
export function codeOf(error: unknown): Code {
  if (error instanceof LaminaError) return error.code;
  return isErrno(error) ? codeOfErrno(error.code) : Code.Unknown;
}

/** The status code an errno ('ENOENT') stands for, else Unknown. */
export function codeOfErrno(name: string): Code {
  return ERRNO_CODES[name] ?? Code.Unknown;
}
