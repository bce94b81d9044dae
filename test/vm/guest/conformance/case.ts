import type { LinuxResources } from '../../../../src/oci/index.js';

export interface Case {
  /** Unique; names the groups, so letters, digits and dashes. */
  readonly name: string;
  readonly steps: readonly LinuxResources[];
  /** Files that a group must have; without them the case belongs to another place. */
  readonly needs?: readonly string[];
  /** Steps that both have to refuse, by index. */
  readonly refused?: readonly number[];
  /**
   * Steps that both refuse with the fs driver only: systemd brings the files into another order.
   */
  readonly refusedByFs?: readonly number[];
}

/** The case of a group without limits: what the others are shown against. */
export const NOTHING = 'nothing';

/**
 * A disk of the machine, for what is set per device: the guest's own is given as the first of
 * /proc/partitions.
 */
export interface Disk {
  readonly major: number;
  readonly minor: number;
}
