/** The typed event stream of a cgroup. */

/** A pressure threshold as the kernel's PSI triggers take it (Documentation/accounting/psi.rst). */
export interface PressureThreshold {
  readonly resource: 'cpu' | 'memory' | 'io';
  readonly kind: 'some' | 'full';
  /** Stall time within the window that raises the event, µs. */
  readonly stallUsec: number;
  /** 500,000 to 10,000,000 µs. */
  readonly windowUsec: number;
}

export interface EventsOptions {
  /** Adds `pressure` events; v2 with PSI only. */
  readonly pressure?: readonly PressureThreshold[];
  readonly signal?: AbortSignal;
}

/** `count` is by how much the counter has risen since it was last reported; `total` is the counter. */
export type CgroupEvent =
  | {
      readonly type: 'low' | 'high' | 'max' | 'oom' | 'oom_kill' | 'oom_group_kill';
      readonly count: bigint;
      readonly total: bigint;
    }
  | { readonly type: 'populated'; readonly populated: boolean }
  | { readonly type: 'frozen'; readonly frozen: boolean }
  | { readonly type: 'pressure'; readonly threshold: PressureThreshold };
