/** Making a scope or slice. */
import { Code, codeOf, LaminaError, type UndoStack } from '../../base/index.js';
import type { LinuxResources } from '../../oci/index.js';
import { withUndo } from '../create.js';
import { containerDevicePolicy } from '../devices/index.js';
import { writeCgroupFile } from '../file.js';
import { readMembership } from '../membership.js';
import { assertPid } from '../move.js';
import type { CreateOptions } from '../options.js';
import { checkResources } from '../resources/index.js';
import { listProcesses } from '../tree.js';
import type { V2Cgroup } from '../v2/cgroup.js';
import type { V2CreateOptions } from '../v2/create.js';
import type { BusValue } from './bus.js';
import { defaultBus, managerFor, SystemdCgroup, UNDO_TIMEOUT_MS } from './cgroup.js';
import { SystemdError } from './errors.js';
import { textProperty } from './gvariant.js';
import type { SystemdManager, UnitProperty } from './manager.js';
import { DEFAULT_SLICE, parseSystemdPath, type SystemdPath, unitKind } from './names.js';
import { Placeholder } from './placeholder.js';
import { asSystemdHolds, creationProperties, unitProperties } from './properties.js';

/** Makes the group's object once systemd has made the group: see createV2Cgroup. */
export type OpenGroup = (options: V2CreateOptions) => Promise<V2Cgroup>;

/** What the steps of making a unit have in common. */
interface Making extends SystemdPath {
  readonly options: CreateOptions;
  readonly manager: SystemdManager;
  readonly version: number;
  /** As systemd can hold them. */
  readonly resources: LinuxResources;
  readonly undo: UndoStack;
}

/**
 * Makes a scope, or a slice, which may be there already, with its limits. When a step fails, the
 * unit is stopped, and its processes are put back to where they were, as far as this process may do
 * that.
 *
 * A scope needs a process from the first: without `options.pid` a waiting one holds it until
 * `apply`.
 * @throws {ResourceError, LaminaError} InvalidArgument before anything is done
 * @throws {SystemdError} AlreadyExists: there is such a unit; DeadlineExceeded; what systemd
 *   refuses
 */
export async function createSystemdCgroup(options: CreateOptions, open: OpenGroup): Promise<SystemdCgroup> {
  const { resources = {}, pid, systemd = {} } = options;
  if (pid !== undefined) assertPid(pid);
  checkResources(resources, {}, 'unified');
  const bus = systemd.bus ?? defaultBus();
  const place = parseSystemdPath(options.path, DEFAULT_SLICE[bus]);
  const manager = managerFor({ ...systemd, bus });
  const [version] = await Promise.all([manager.version(), assertFree(manager, place.unit)]);
  const held = asSystemdHolds({}, resources);
  return await withUndo((undo) => make({ ...place, options, manager, version, resources: held, undo }, open));
}

async function make(making: Making, open: OpenGroup): Promise<SystemdCgroup> {
  const { options, unit, manager, resources } = making;
  const { isNew, placeholder } = await startUnit(making);
  const path = await groupOf(making);
  const { pid: _, ...rest } = options;
  const inner = await open({ ...rest, path, resources: isNew ? resources : {}, mayBeUsed: true });
  const cgroup = new SystemdCgroup(inner, unit, { manager, devices: options.devices ?? 'apply', placeholder });
  // Of a slice that was there, systemd has not been told anything yet.
  if (isNew) await cgroup.tellIoWeight();
  else await cgroup.set(resources);
  return cgroup;
}

/**
 * Refuses a scope that is there. systemd would, too; but when it does not answer a start in time,
 * what is undone then must not be somebody else's unit. One that has failed is put away by the
 * start.
 */
async function assertFree(manager: SystemdManager, unit: string): Promise<void> {
  if (unitKind(unit) === 'slice') return;
  const state = (await manager.unitState(unit, ['ActiveState'])).get('ActiveState');
  if (state === 'inactive' || state === 'failed') return;
  throw new SystemdError(`there is such a unit already, ${state}`, {
    code: Code.AlreadyExists,
    unit,
    method: 'StartTransientUnit',
  });
}

/**
 * The properties the unit begins with. IOWeight comes later: what it is depends on a file of the
 * group.
 */
function propertiesOf({ slice, unit, options, version, resources }: Making, pids: readonly number[]): UnitProperty[] {
  const { systemd = {}, devices = 'apply' } = options;
  const kind = unitKind(unit);
  const policy =
    devices === 'apply' && resources.devices !== undefined ? containerDevicePolicy(resources.devices) : undefined;
  const limits = unitProperties(resources, resources, { version, kind, atCreation: true, devices: policy });
  const own = Object.entries(systemd.properties ?? {}).map(([name, property]) =>
    typeof property === 'string'
      ? textProperty(name, property)
      : { name, ...property, value: property.value as BusValue },
  );
  const description = systemd.description ?? `cgroup ${options.path}`;
  return [
    ...creationProperties({ kind, slice, description, pids }),
    ...limits.filter(({ name }) => name !== 'IOWeight'),
    ...own,
  ];
}

interface Started {
  readonly isNew: boolean;
  /** The process that holds the scope, if there is no other. */
  readonly placeholder: Placeholder | undefined;
}

async function startUnit(making: Making): Promise<Started> {
  const { unit, options, manager, undo } = making;
  const { pid } = options;
  const isScope = unitKind(unit) === 'scope';
  const placeholder = isScope && pid === undefined ? await Placeholder.start() : undefined;
  if (placeholder !== undefined) undo.add(`process that holds ${unit}`, () => placeholder.end());
  const member = pid ?? placeholder?.pid;
  const from = pid === undefined ? undefined : readMembership(pid).unified;
  const stop = async (): Promise<void> => {
    if (from !== undefined) await putBack(making, from);
    await manager.stopUnit(unit, { timeoutMs: UNDO_TIMEOUT_MS });
    await manager.resetFailedUnit(unit, { timeoutMs: UNDO_TIMEOUT_MS });
  };
  const mine = propertiesOf(making, member === undefined ? [] : [member]);
  try {
    const isNew = await manager.startTransientUnit(unit, mine);
    if (isNew) undo.add(`unit ${unit}`, stop);
    return { isNew, placeholder };
  } catch (error) {
    // Refused at once, there is nothing to stop. Without an answer there may be, later.
    const code = codeOf(error);
    if (code === Code.DeadlineExceeded || code === Code.Unavailable || isJobFailure(error))
      undo.add(`unit ${unit}`, stop);
    throw error;
  }
}

function isJobFailure(error: unknown): boolean {
  return error instanceof SystemdError && error.result !== undefined;
}

/** Where systemd has put the unit. */
async function groupOf({ unit, manager }: Making): Promise<string> {
  const path = (await manager.unitProperties(unit, ['ControlGroup'])).get('ControlGroup');
  if (typeof path === 'string' && path !== '') return path;
  throw new LaminaError(Code.FailedPrecondition, `${unit} has no cgroup: it has ended already`, {
    subject: unit,
  });
}

/** Moves the processes of a unit that is to be stopped back to where its first one came from. */
async function putBack({ manager, unit, options }: Making, from: string): Promise<void> {
  const mountPoint = options.layout?.mode === 'unified' ? options.layout.unified.mountPoint : '/sys/fs/cgroup';
  try {
    const path = (await manager.unitProperties(unit, ['ControlGroup'])).get('ControlGroup');
    if (typeof path !== 'string' || path === '') return;
    for (const pid of listProcesses(`${mountPoint}${path}`)) {
      writeCgroupFile(`${mountPoint}${from}/cgroup.procs`, String(pid));
    }
  } catch (error) {
    // It could be moved in and cannot be moved out, or has ended: then it ends with the unit.
    if (!(error instanceof LaminaError)) throw error;
  }
}
