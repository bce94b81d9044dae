import { Code, LaminaError } from '../base/index.js';
import { usageOf } from './command/help.js';
import type { Invocation } from './command/spec.js';

/** A wrong command line; exit status 2. */
export class UsageError extends LaminaError {
  /** How it is used. */
  readonly help: string;

  constructor(message: string, help: string) {
    super(Code.InvalidArgument, message);
    this.help = help;
  }
}

/** An argument or option that cannot be meant. */
export function usageError({ spec }: Invocation, message: string): UsageError {
  return new UsageError(message, usageOf(spec));
}
