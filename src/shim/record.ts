/**
 * What a successor engine must know of a container: one JSON document in the keeper, rewritten before and after each step.
 */
import type { LinuxResources } from '../oci/index.js';
import type { StdioRequest } from './io/stdio.js';
import type { EffectiveOptions } from './options.js';
import type { ExecProcess } from './process/exec.js';
import type { ExecState, InitState } from './process/state.js';
import type { Exit, TrackedProcess } from './process/tracked.js';

/** A step that was begun; absent when none is under way. */
export type PendingStep = 'create' | 'start' | 'delete';

export interface ExitRecord {
  readonly code: number;
  /** Nanoseconds since the epoch, decimal. */
  readonly timeNs: string;
}

/** What a Delete answers. */
export interface DeletedProcess {
  readonly pid: number;
  /** Undefined for a process that never ran. */
  readonly exit: Exit | undefined;
}

export function toDeletedRecord({ pid, exit }: DeletedProcess): Buffer {
  return Buffer.from(JSON.stringify({ pid, exit: toExitRecord(exit) }));
}

export function fromDeletedRecord(bytes: Buffer): DeletedProcess {
  const { pid, exit } = JSON.parse(bytes.toString()) as { pid: number; exit?: ExitRecord };
  return { pid, exit: fromExitRecord(exit) };
}

export interface ProcessRecord {
  readonly stdio: StdioRequest;
  readonly pid: number;
  /** Reaped, announced or not. */
  readonly reaped: ExitRecord | undefined;
  readonly exit: ExitRecord | undefined;
}

export interface ExecRecord extends ProcessRecord {
  readonly state: ExecState;
  readonly failed: boolean;
  readonly step: PendingStep | undefined;
}

/** What stays the same for the life of a container. */
export interface ContainerSettings {
  readonly id: string;
  readonly bundle: string;
  readonly options: EffectiveOptions;
  readonly systemdCgroup: boolean;
  /** Its init is not the first process of a pid namespace of its own. */
  readonly sharesPidNamespace: boolean;
  /** Output goes through pipes instead of straight into the FIFOs. */
  readonly copyOutput: boolean;
  /** Something of the container's own is to run when the runtime deletes it. Not known of containers of older engines. */
  readonly hasPoststopHooks: boolean | undefined;
  /** Directory of the checkpoint to restore from; empty for none. */
  readonly checkpoint: string;
}

export interface ContainerRecord extends ContainerSettings {
  /** The runtime knew no container of this id when create began. */
  readonly isFresh: boolean;
  /** Init's /proc/PID/cgroup right after create, a character for each byte (latin1). */
  readonly cgroup: string | undefined;
  /** OOM kills reported, decimal. */
  readonly oomKills: string | undefined;
  /** A shortage of memory in which nobody is killed was reported, and lasts. Not known of containers of older engines. */
  readonly isShort?: boolean | undefined;
  /** The limits in force, once they were changed. */
  readonly limits: LinuxResources | undefined;
  /** All processes are being signaled, and may be frozen meanwhile. */
  readonly isSignaling?: boolean;
  readonly state: InitState;
  readonly step: PendingStep | undefined;
  readonly init: ProcessRecord;
  readonly execs: Readonly<Record<string, ExecRecord>>;
}

/** What of a record stays the same for the life of the container. */
export function settingsOf(record: ContainerRecord): ContainerSettings {
  const { id, bundle, options, systemdCgroup, sharesPidNamespace, copyOutput, hasPoststopHooks, checkpoint } = record;
  return { id, bundle, options, systemdCgroup, sharesPidNamespace, copyOutput, hasPoststopHooks, checkpoint };
}

/** The parts of a container that change. */
export interface ContainerParts {
  readonly state: InitState;
  readonly step: PendingStep | undefined;
  readonly isFresh: boolean;
  readonly cgroup: string | undefined;
  readonly oomKills: string | undefined;
  readonly isShort?: boolean | undefined;
  readonly limits: LinuxResources | undefined;
  readonly isSignaling?: boolean;
  readonly init: TrackedProcess;
  readonly execs: Iterable<ExecProcess>;
}

export function toContainerRecord(settings: ContainerSettings, parts: ContainerParts): ContainerRecord {
  const execs: Record<string, ExecRecord> = {};
  for (const exec of parts.execs) {
    execs[exec.id] = { ...toProcessRecord(exec), state: exec.state, failed: exec.failed, step: exec.step };
  }
  return { ...settings, ...parts, init: toProcessRecord(parts.init), execs };
}

function toProcessRecord({ stdio, pid, reaped, exit }: TrackedProcess): ProcessRecord {
  return { stdio, pid, reaped: toExitRecord(reaped), exit: toExitRecord(exit) };
}

function toExitRecord(exit: Exit | undefined): ExitRecord | undefined {
  return exit === undefined ? undefined : { code: exit.code, timeNs: String(exit.timeNs) };
}

export function fromExitRecord(record: ExitRecord | undefined): Exit | undefined {
  return record === undefined ? undefined : { code: record.code, timeNs: BigInt(record.timeNs) };
}
