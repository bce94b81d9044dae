/**
 * What a successor engine must know of a container: one JSON document in the keeper, rewritten
 * before and after each step.
 */
import type { LinuxResources } from '../oci/index.js';
import { Fields, isPlainPath, unreadable } from './fields.js';
import type { StdioRequest } from './io/stdio.js';
import type { EffectiveOptions } from './options.js';
import type { ExecProcess } from './process/exec.js';
import { EXEC_REFUSALS, type ExecState, INIT_REFUSALS, type InitState } from './process/state.js';
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

/** @param what it is called, for errors @throws LaminaError DataLoss */
export function fromDeletedRecord(bytes: Buffer, what: string): DeletedProcess {
  const record = Fields.parse(bytes, what);
  return { pid: record.count('pid'), exit: fromExitRecord(record.optional('exit', exitRecord)) };
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
  /**
   * Something of the container's own is to run when the runtime deletes it. Not known of containers
   * of older engines.
   */
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
  /**
   * A shortage of memory in which nobody is killed was reported, and lasts. Not known of containers
   * of older engines.
   */
  readonly isShort: boolean | undefined;
  /** The limits in force, once they were changed. */
  readonly limits: LinuxResources | undefined;
  /**
   * All processes are being signaled, and may be frozen meanwhile. Not known of containers of older
   * engines.
   */
  readonly isSignaling: boolean | undefined;
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
  readonly isShort: boolean | undefined;
  readonly limits: LinuxResources | undefined;
  readonly isSignaling: boolean | undefined;
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

const INIT_STATES = Object.keys(INIT_REFUSALS) as InitState[];
const EXEC_STATES = Object.keys(EXEC_REFUSALS) as ExecState[];
const STEPS: readonly PendingStep[] = ['create', 'start', 'delete'];
const flag = (fields: Fields, key: string): boolean => fields.flag(key);
const text = (fields: Fields, key: string): string => fields.text(key);
const count = (fields: Fields, key: string): number => fields.count(key);
const digits = (fields: Fields, key: string): string => fields.digits(key);
const step = (fields: Fields, key: string): PendingStep => fields.oneOf(key, STEPS);

/**
 * Reads the record of a container as this engine or an older one has written it.
 * @param what it is called, for errors
 * @throws LaminaError DataLoss naming the field that cannot be used
 */
export function fromContainerRecord(bytes: Buffer, what: string): ContainerRecord {
  const fields = Fields.parse(bytes, what);
  const execs: [string, ExecRecord][] = [];
  for (const [id, exec] of fields.of('execs').each()) {
    const state = exec.oneOf('state', EXEC_STATES);
    execs.push([id, { ...processRecord(exec), state, failed: exec.flag('failed'), step: exec.optional('step', step) }]);
  }
  return {
    ...settingsRecord(fields),
    isFresh: fields.flag('isFresh'),
    cgroup: fields.optional('cgroup', text),
    oomKills: fields.optional('oomKills', digits),
    isShort: fields.optional('isShort', flag),
    limits: fields.optional('limits', (of, key) => of.of(key).raw as LinuxResources),
    isSignaling: fields.optional('isSignaling', flag),
    state: fields.oneOf('state', INIT_STATES),
    step: fields.optional('step', step),
    init: processRecord(fields.of('init')),
    execs: Object.fromEntries(execs),
  };
}

function settingsRecord(fields: Fields): ContainerSettings {
  const bundle = fields.text('bundle');
  if (!isPlainPath(bundle)) throw unreadable('bundle', 'is not a plain absolute path');
  return {
    id: fields.text('id'),
    bundle,
    options: optionsRecord(fields.of('options')),
    systemdCgroup: fields.flag('systemdCgroup'),
    sharesPidNamespace: fields.flag('sharesPidNamespace'),
    copyOutput: fields.flag('copyOutput'),
    hasPoststopHooks: fields.optional('hasPoststopHooks', flag),
    checkpoint: fields.text('checkpoint'),
  };
}

/** What nothing was asked for of may be missing. */
function optionsRecord(fields: Fields): EffectiveOptions {
  const textOf = (key: string): string => fields.optional(key, text) ?? '';
  const flagOf = (key: string): boolean => fields.optional(key, flag) ?? false;
  const countOf = (key: string): number => fields.optional(key, count) ?? 0;
  return {
    binaryName: fields.text('binaryName'),
    root: fields.text('root'),
    systemdCgroup: flagOf('systemdCgroup'),
    noPivotRoot: flagOf('noPivotRoot'),
    noNewKeyring: flagOf('noNewKeyring'),
    shimCgroup: textOf('shimCgroup'),
    ioUid: countOf('ioUid'),
    ioGid: countOf('ioGid'),
    criuPath: textOf('criuPath'),
    criuImagePath: textOf('criuImagePath'),
    criuWorkPath: textOf('criuWorkPath'),
  };
}

function processRecord(fields: Fields): ProcessRecord {
  const stdio = fields.of('stdio');
  const pid = fields.count('pid');
  if (pid > 0x7fff_ffff) throw unreadable('pid', `${pid} is none`);
  return {
    stdio: {
      stdin: stdio.text('stdin'),
      stdout: stdio.text('stdout'),
      stderr: stdio.text('stderr'),
      terminal: stdio.flag('terminal'),
    },
    pid,
    reaped: fields.optional('reaped', exitRecord),
    exit: fields.optional('exit', exitRecord),
  };
}

function exitRecord(fields: Fields, key: string): ExitRecord {
  const exit = fields.of(key);
  return { code: exit.count('code'), timeNs: exit.digits('timeNs') };
}
