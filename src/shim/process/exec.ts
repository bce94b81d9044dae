/** A further process in a container, added by Exec and run by Start. */
import type { LaminaError } from '../../base/index.js';
import type { Process } from '../../oci/index.js';
import type { StdioRequest } from '../io/stdio.js';
import type { PendingStep } from '../record.js';
import type { ExecState } from './state.js';
import { TrackedProcess } from './tracked.js';

export class ExecProcess extends TrackedProcess {
  readonly id: string;
  /** The OCI process, with the request's choice of a terminal. */
  readonly spec: Process;
  state: ExecState = 'created';
  /** A start was tried and failed. */
  failed = false;
  step: PendingStep | undefined;
  /** Why nobody knows any more what was to be run. */
  unreadable: LaminaError | undefined;

  constructor(id: string, spec: Process, stdio: StdioRequest) {
    super(stdio);
    this.id = id;
    this.spec = spec;
  }
}
