/** Around every call: a failure is logged, once, and told to the client in its words. */
import { Code, codeOf, type Logger, messageOf } from '../../base/index.js';
import { closeSpareFiles } from '../../cgroups/index.js';
import { RuncError } from '../../oci/index.js';
import type { CallContext, Interceptor } from '../../ttrpc/index.js';
import { wireError } from './wire-error.js';

/**
 * What is wrong with the node or the runtime, not with the call: the daemon's log is to tell of it.
 */
function isTrouble(error: unknown): boolean {
  const code = codeOf(error);
  const wasInterrupted = error instanceof RuncError && error.signal !== undefined;
  return wasInterrupted || code === Code.DeadlineExceeded || code === Code.Internal || code === Code.DataLoss;
}

export function reportErrors(log: Logger): Interceptor<CallContext> {
  return async (request, call, next) => {
    try {
      return await next(request, call);
    } catch (error) {
      const isShort = codeOf(error) === Code.ResourceExhausted;
      if (isShort) closeSpareFiles();
      const level = isTrouble(error) ? 'error' : isShort ? 'warn' : 'debug';
      log[level]({ method: call.method, error: messageOf(error) }, 'call failed');
      throw wireError(error);
    }
  };
}
