/** The typed event stream of a cgroup. */

/** A pressure threshold as the kernel's PSI triggers take it (Documentation/accounting/psi.rst). */
export interface PressureThreshold {
  readonly resource: 'cpu' | 'memory' | 'io';
  readonly kind: 'some' | 'full';
  /** Stall time within the window that raises the event, µs; at most the window. */
  readonly stallUsec: number;
  /** 500,000 to 10,000,000 µs; without CAP_SYS_RESOURCE multiples of 2,000,000 only (Linux 6.5). */
  readonly windowUsec: number;
}

export interface EventsOptions {
  /** Adds `pressure` events; v2 with PSI only. */
  readonly pressure?: readonly PressureThreshold[];
  readonly signal?: AbortSignal;
}

/**
 * What a group tells of. Nothing is reported for what was so before the stream began.
 *
 * Counters are those of memory.events, groups below included, and need the memory controller:
 * `count` is by how much the counter has risen since it was last reported, `total` is the counter;
 * a slow reader gets fewer events, and the same sum. `populated` and `frozen` are the keys of
 * cgroup.events: a reader gets every lasting change, and of changes back and forth that it was too
 * slow for, a pair. `pressure` comes at most once per window.
 *
 * On v1 there are `oom_kill` and, where the OOM killer is off, `oom`, once for as long as processes
 * stand still; its `total` counts from the begin of the stream. The kernel interface of v1 notifies
 * of nothing else.
 */
export type CgroupEvent =
  | {
      readonly type: 'low' | 'high' | 'max' | 'oom' | 'oom_kill' | 'oom_group_kill';
      readonly count: bigint;
      readonly total: bigint;
    }
  | { readonly type: 'populated'; readonly populated: boolean }
  | { readonly type: 'frozen'; readonly frozen: boolean }
  | { readonly type: 'pressure'; readonly threshold: PressureThreshold };
