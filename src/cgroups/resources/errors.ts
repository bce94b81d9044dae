import { Code, LaminaError, messageOf } from '../../base/index.js';
import { CgroupFileError } from '../errors.js';

/** A value that cannot be set; nothing was written. */
export class ResourceError extends LaminaError {
  /** The path of the value in the OCI spec: 'resources.memory.swap'. */
  readonly field: string;

  /**
   * @param code InvalidArgument unless the value is only wrong at this moment (FailedPrecondition)
   */
  constructor(field: string, detail: string, code: Code = Code.InvalidArgument) {
    super(code, `${field}: ${detail}`, { subject: field });
    this.field = field;
  }
}

/**
 * The group has no such file: its controller is not there, or the kernel lacks the feature. Not
 * NotFound, as the group itself exists.
 */
export class LimitUnavailableError extends CgroupFileError {
  override readonly code: Code = Code.FailedPrecondition;
  readonly controller: string;

  constructor(controller: string, path: string, detail: string, cause: unknown, data?: string) {
    super('write', path, cause, data);
    this.controller = controller;
    const what = data === undefined ? `write ${path}` : `write ${path} ${JSON.stringify(data)}`;
    this.message = `${what}: ${detail}`;
  }
}

/**
 * A set failed, and not everything it had written could be put back. `cause` is what made it fail,
 * undefined if it was undone on request.
 */
export class RestoreError extends LaminaError {
  readonly failures: readonly CgroupFileError[];

  constructor(failures: readonly CgroupFileError[], cause?: unknown) {
    const left = `not restored: ${failures.map((failure) => failure.message).join('; ')}`;
    const code = cause instanceof LaminaError ? cause.code : Code.Internal;
    super(code, cause === undefined ? left : `${messageOf(cause)}; ${left}`, { cause });
    this.failures = failures;
  }
}
