/** Keepers that have made this engine throw. Each is to have an engine of its own from then on. */
import { readFileSync } from 'node:fs';
import { parseProcessStat } from '../sys/index.js';

export class IsolatedKeepers {
  /**
   * pid → when that process was started, in clock ticks since boot: with both, it is the same
   * process.
   */
  readonly #startedAt = new Map<number, string>();

  add(pid: number): void {
    for (const known of this.#startedAt.keys()) if (!this.has(known)) this.#startedAt.delete(known);
    const started = startOf(pid);
    if (started !== undefined) this.#startedAt.set(pid, started);
  }

  has(pid: number): boolean {
    const started = this.#startedAt.get(pid);
    return started !== undefined && started === startOf(pid);
  }
}

/** Field 22 of /proc/PID/stat, see proc_pid_stat(5); undefined when there is no such process. */
function startOf(pid: number): string | undefined {
  try {
    return parseProcessStat(readFileSync(`/proc/${pid}/stat`, 'latin1')).startTime || undefined;
  } catch {
    return undefined;
  }
}
