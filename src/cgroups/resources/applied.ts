import type { LinuxResources } from '../../oci/index.js';

/** What a set has done. */
export interface Applied {
  /** The limits in force now. */
  readonly resources: LinuxResources;
  /**
   * Puts back what the files showed before, last one first.
   * @throws {RestoreError} with what could not be put back
   */
  undo(): Promise<void>;
}
