/**
 * What a successor engine must know of a container: one JSON document in the keeper, rewritten before and after each step.
 */
import type { Process } from '../oci/index.js';
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
  /** The OCI process; needed until it was started. */
  readonly spec: Process | undefined;
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
  readonly hasRootfsMounts: boolean;
  /** Directory of the checkpoint to restore from; empty for none. */
  readonly checkpoint: string;
}

export interface ContainerRecord extends ContainerSettings {
  readonly state: InitState;
  readonly step: PendingStep | undefined;
  readonly init: ProcessRecord;
  readonly execs: Readonly<Record<string, ExecRecord>>;
}

export function toContainerRecord(
  settings: ContainerSettings,
  state: InitState,
  step: PendingStep | undefined,
  init: TrackedProcess,
  execs: Iterable<ExecProcess>,
): ContainerRecord {
  const execRecords: Record<string, ExecRecord> = {};
  for (const exec of execs) {
    execRecords[exec.id] = {
      ...toProcessRecord(exec),
      state: exec.state,
      failed: exec.failed,
      step: exec.step,
      spec: exec.state === 'created' ? exec.spec : undefined,
    };
  }
  return { ...settings, state, step, init: toProcessRecord(init), execs: execRecords };
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
