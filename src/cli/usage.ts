import { Code, LaminaError } from '../base/index.js';

/** A wrong command line; exit status 2. */
export class UsageError extends LaminaError {
  /** How it is used. */
  readonly help: string;

  constructor(message: string, help: string) {
    super(Code.InvalidArgument, message);
    this.help = help;
  }
}
