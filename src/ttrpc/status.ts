/**
 * Errors ↔ google.rpc.Status: the one place where an error of ours becomes what a peer sees, and
 * back.
 *
 * A peer gets the code, the message and the details; never a stack and never a cause.
 */
import { Code, codeOf, LaminaError, type LaminaErrorOptions, messageOf } from '../base/index.js';
import type { Any } from './gen/google/protobuf/any.js';
import type { Status } from './gen/ttrpc/status.js';

export type { Any } from './gen/google/protobuf/any.js';
export type { Status } from './gen/ttrpc/status.js';

/** An error with details; also what a client throws when the server answered with an error. */
export class StatusError extends LaminaError {
  readonly details: readonly Any[];

  constructor(code: Code, message: string, options: LaminaErrorOptions & { readonly details?: readonly Any[] } = {}) {
    super(code, message, options);
    this.details = options.details ?? [];
  }
}

const CODES: ReadonlySet<number> = new Set(Object.values(Code));

function isErrorCode(code: number): code is Code {
  return CODES.has(code) && code !== Code.Ok;
}

/**
 * The code of anything thrown, with the two errors of the web platform that an AbortSignal brings.
 */
function errorCode(error: unknown): Code {
  if (error instanceof Error && error.name === 'AbortError') return Code.Canceled;
  if (error instanceof Error && error.name === 'TimeoutError') return Code.DeadlineExceeded;
  const code = codeOf(error);
  // An error that claims success would be taken for a reply.
  return code === Code.Ok ? Code.Unknown : code;
}

/**
 * What goes over the wire for anything thrown. Errors of system calls are mapped (ENOENT is
 * NotFound, and so on); what has no code is Unknown.
 */
export function toStatus(error: unknown): Status {
  return {
    code: errorCode(error),
    message: messageOf(error),
    details: error instanceof StatusError ? [...error.details] : [],
  };
}

/** The error for a status that is not a success; numbers without a meaning become Unknown. */
export function fromStatus(status: Status): StatusError {
  const code = isErrorCode(status.code) ? status.code : Code.Unknown;
  return new StatusError(code, status.message, { details: status.details });
}

/**
 * The connection is gone; pending and later calls fail with this. containerd looks for the text.
 */
export function closedError(cause?: unknown): LaminaError {
  return new LaminaError(Code.Unavailable, 'ttrpc: closed', cause === undefined ? {} : { cause });
}

/** A body over the limit, on either side. */
export function oversizedError(length: number, limit: number): LaminaError {
  return new LaminaError(Code.ResourceExhausted, `message length ${length} exceed maximum message size of ${limit}`);
}

/**
 * Why a call ended that its caller gave up: Canceled, or DeadlineExceeded if the signal was one of
 * a timeout.
 */
export function abortError(reason: unknown): LaminaError {
  if (reason instanceof LaminaError) return reason;
  const isTimeout = errorCode(reason) === Code.DeadlineExceeded;
  const code = isTimeout ? Code.DeadlineExceeded : Code.Canceled;
  return new LaminaError(code, isTimeout ? 'deadline exceeded' : 'call canceled', { cause: reason });
}
