/**
 * The last step of every failed call: what the client gets to see. Clients rebuild typed errors
 * from the code and expect the text to end with the kind, as Go's errdefs writes it; errors of the
 * OCI runtime are plain ones (Unknown) to them, whatever we know of their cause.
 */
import { Code, codeOf, LaminaError, messageOf } from '../../base/index.js';
import { RuncError } from '../../oci/index.js';

const KIND_SUFFIX: Readonly<Partial<Record<Code, string>>> = {
  [Code.InvalidArgument]: 'invalid argument',
  [Code.NotFound]: 'not found',
  [Code.AlreadyExists]: 'already exists',
  [Code.ResourceExhausted]: 'resource exhausted',
  [Code.FailedPrecondition]: 'failed precondition',
  [Code.Unimplemented]: 'not implemented',
  [Code.Unavailable]: 'unavailable',
};

/** Failures of the machine rather than of the request; clients may try again. */
const PASSED_ON: ReadonlySet<Code> = new Set([Code.DeadlineExceeded, Code.ResourceExhausted]);

export function wireError(error: unknown): LaminaError {
  const runtimeFailure = error instanceof RuncError && error.command !== 'kill' && !PASSED_ON.has(error.code);
  const code = runtimeFailure ? Code.Unknown : codeOf(error);
  const message = messageOf(error);
  const suffix = KIND_SUFFIX[code];
  const text = suffix === undefined || message.endsWith(suffix) ? message : `${message}: ${suffix}`;
  return new LaminaError(code, text, { cause: error });
}
