/**
 * systemd's manager as this library uses it (org.freedesktop.systemd1(5)): typed calls with
 * deadlines, jobs awaited to their end, and a connection that is made when first needed, made again
 * when it was lost, and never keeps the process alive.
 */
import { Code, codeOf, createDeferred } from '../../base/index.js';
import type { AddressEnvironment, BusKind } from './address.js';
import { type BusCall, type BusValue, BusVariant } from './bus.js';
import { type BusConnection, type Deadline, deadlineIn, remainingMs } from './connection.js';
import { ConnectionLostError, SystemdError } from './errors.js';
import { BusLink } from './link.js';
import { type UnitKind, unitKind, unitObjectPath } from './names.js';

/** A property of a unit, with its D-Bus type. */
export interface UnitProperty {
  readonly name: string;
  readonly signature: string;
  readonly value: BusValue;
}

export interface ManagerOptions {
  /** Default: the machine's. */
  readonly bus?: BusKind;
  /** For each call, and for the whole of a call with its job; default 30 s. */
  readonly timeoutMs?: number;
  /** Default: this process's. */
  readonly environment?: AddressEnvironment;
}

export interface CallOptions {
  /** Instead of the manager's. */
  readonly timeoutMs?: number | undefined;
}

const TIMEOUT_MS = 30_000;
const SERVICE = 'org.freedesktop.systemd1';
const MANAGER_PATH = '/org/freedesktop/systemd1';
const MANAGER = `${SERVICE}.Manager`;
const PROPERTIES = 'org.freedesktop.DBus.Properties';
const JOB_REMOVED = `type='signal',sender='${SERVICE}',path='${MANAGER_PATH}',interface='${MANAGER}',member='JobRemoved'`;

const INTERFACE: Readonly<Record<UnitKind, string>> = { scope: `${SERVICE}.Scope`, slice: `${SERVICE}.Slice` };

/**
 * Parses the manager's Version: "262.1-1", "v245.4-1.fc32". 0, older than anything, if there is no
 * number in front.
 */
export function parseVersion(text: string): number {
  return Number(/^v?(\d{1,6})/.exec(text)?.[1] ?? 0);
}

/** Collects the results of jobs, from before a job is asked for. */
class JobWatch implements Disposable {
  readonly #connection: BusConnection;
  readonly #listeners: readonly Disposable[];
  // Job → how it ended; goes with the watch.
  readonly #results = new Map<string, string>();
  readonly #changed: Set<() => void> = new Set();
  #lost: ConnectionLostError | undefined;

  constructor(connection: BusConnection) {
    this.#connection = connection;
    this.#listeners = [
      connection.onSignal(({ interface: from, member, body: [, job, , result] }) => {
        if (from !== MANAGER || member !== 'JobRemoved' || typeof job !== 'string') return;
        this.#results.set(job, String(result));
        for (const wake of this.#changed) wake();
      }),
      connection.onLost((error) => {
        this.#lost = error;
        for (const wake of this.#changed) wake();
      }),
    ];
  }

  /**
   * Asks the bus for the signals; systemd itself sends them unasked. The bus keeps the order of
   * what it is sent, so nobody need wait.
   */
  async subscribe(deadline: Deadline): Promise<void> {
    if (!this.#connection.isPrivate) await this.#connection.callBus('AddMatch', deadline, JOB_REMOVED);
  }

  /** @returns undefined if the deadline passes. @throws {ConnectionLostError} */
  async result(job: string, deadline: Deadline): Promise<string | undefined> {
    const { promise, resolve } = createDeferred<void>();
    const timer = setTimeout(resolve, remainingMs(deadline));
    const check = (): void => {
      if (this.#results.has(job) || this.#lost !== undefined) resolve();
    };
    this.#changed.add(check);
    check();
    await promise;
    clearTimeout(timer);
    this.#changed.delete(check);
    const result = this.#results.get(job);
    if (result === undefined && this.#lost !== undefined) throw this.#lost;
    return result;
  }

  [Symbol.dispose](): void {
    for (const listener of this.#listeners) listener[Symbol.dispose]();
    if (!this.#connection.isPrivate) this.#connection.sendBus('RemoveMatch', JOB_REMOVED);
  }
}

interface Call {
  readonly method: string;
  readonly signature: string;
  readonly body: readonly BusValue[];
  readonly unit?: string;
}

export class SystemdManager {
  readonly bus: BusKind;
  readonly timeoutMs: number;
  readonly #link: BusLink;
  // Asked once per connection: systemd may be upgraded under a process that runs for months.
  #version: { readonly of: BusConnection; readonly value: number } | undefined;

  /** @param link a connection to share */
  constructor(options: ManagerOptions = {}, link?: BusLink) {
    this.bus = options.bus ?? 'system';
    this.timeoutMs = options.timeoutMs ?? TIMEOUT_MS;
    this.#link = link ?? new BusLink(this.bus, options.environment);
  }

  /** The same, on the same connection, with another deadline. */
  withTimeout(timeoutMs: number): SystemdManager {
    return new SystemdManager({ bus: this.bus, timeoutMs }, this.#link);
  }

  /** systemd's version: 262. @throws {LaminaError} Unavailable, DeadlineExceeded */
  async version(): Promise<number> {
    const deadline = this.#deadline();
    return await this.#link.run(deadline, async (connection) => {
      if (this.#version?.of === connection) return this.#version.value;
      const value = parseVersion(String(await this.#property(connection, deadline, MANAGER_PATH, MANAGER, 'Version')));
      this.#version = { of: connection, value };
      return value;
    });
  }

  /**
   * The cgroup this systemd has: "" for the machine's,
   * "/user.slice/user-1000.slice/user@1000.service" for a user's.
   */
  async controlGroup(): Promise<string> {
    const deadline = this.#deadline();
    return await this.#link.run(deadline, async (connection) =>
      String(await this.#property(connection, deadline, MANAGER_PATH, MANAGER, 'ControlGroup')).replace(/\/$/, ''),
    );
  }

  /**
   * Starts a transient unit and waits until its job is done.
   *
   * A unit of that name that has failed before is put away and the start repeated once. A slice
   * that exists is only started.
   * @returns whether the unit was made by this call
   * @throws {SystemdError} AlreadyExists; DeadlineExceeded; with `result` if the job did not end
   *   well, the unit then being reset
   */
  async startTransientUnit(
    unit: string,
    properties: readonly UnitProperty[],
    options: CallOptions = {},
  ): Promise<boolean> {
    const deadline = this.#deadline(options);
    const body = [unit, 'replace', properties.map(toStruct), []];
    const call = { method: 'StartTransientUnit', signature: 'ssa(sv)a(sa(sv))', body, unit };
    try {
      await this.#job(call, deadline);
      return true;
    } catch (error) {
      if (codeOf(error) !== Code.AlreadyExists) throw error;
      if (unitKind(unit) === 'slice') {
        // It may be there as a file only.
        await this.#job({ method: 'StartUnit', signature: 'ss', body: [unit, 'replace'], unit }, deadline);
        return false;
      }
      await this.resetFailedUnit(unit, { timeoutMs: remainingMs(deadline) });
      await this.#job(call, deadline);
      return true;
    }
  }

  /**
   * Stops a unit, and waits until its job is done. A unit that is not there is no error.
   * @throws {SystemdError} DeadlineExceeded; with `result` if the job did not end well
   */
  async stopUnit(unit: string, options: CallOptions = {}): Promise<void> {
    try {
      await this.#job({ method: 'StopUnit', signature: 'ss', body: [unit, 'replace'], unit }, this.#deadline(options));
    } catch (error) {
      if (codeOf(error) !== Code.NotFound) throw error;
    }
  }

  /**
   * Makes systemd forget that a unit has failed, and with that the unit. One that is not there is
   * no error.
   * @throws {SystemdError}
   */
  async resetFailedUnit(unit: string, options: CallOptions = {}): Promise<void> {
    try {
      await this.#call({ method: 'ResetFailedUnit', signature: 's', body: [unit], unit }, this.#deadline(options));
    } catch (error) {
      if (codeOf(error) !== Code.NotFound) throw error;
    }
  }

  /** Sets properties of a unit until the next boot. @throws {SystemdError} */
  async setUnitProperties(unit: string, properties: readonly UnitProperty[], options: CallOptions = {}): Promise<void> {
    const body = [unit, true, properties.map(toStruct)];
    await this.#call({ method: 'SetUnitProperties', signature: 'sba(sv)', body, unit }, this.#deadline(options));
  }

  /**
   * Moves processes into a unit's group, or into the group `below` it ("/sub").
   * @throws {SystemdError} NotFound: no such unit or process
   */
  async attachProcessesToUnit(unit: string, pids: readonly number[], below = '/'): Promise<void> {
    const call = { method: 'AttachProcessesToUnit', signature: 'ssau', body: [unit, below, pids], unit };
    await this.#call(call, this.#deadline());
  }

  /**
   * The values of properties of a scope or slice, as they are now.
   * @throws {SystemdError} InvalidArgument: this systemd has no such property
   */
  async unitProperties(unit: string, names: readonly string[]): Promise<Map<string, unknown>> {
    return await this.#read(unit, INTERFACE[unitKind(unit)], names);
  }

  /** The values of properties every unit has: ActiveState, LoadState, … @throws {SystemdError} */
  async unitState(unit: string, names: readonly string[]): Promise<Map<string, unknown>> {
    return await this.#read(unit, `${SERVICE}.Unit`, names);
  }

  /** Closes the connection; the next call makes another. */
  close(): void {
    this.#link.close();
  }

  #deadline(options: CallOptions = {}): Deadline {
    return deadlineIn(options.timeoutMs ?? this.timeoutMs);
  }

  async #read(unit: string, from: string, names: readonly string[]): Promise<Map<string, unknown>> {
    const path = unitObjectPath(unit);
    const deadline = this.#deadline();
    return await this.#link.run(deadline, async (connection) => {
      const read = names.map(
        async (name): Promise<[string, unknown]> => [
          name,
          await this.#property(connection, deadline, path, from, name, unit),
        ],
      );
      return new Map(await Promise.all(read));
    });
  }

  async #property(
    connection: BusConnection,
    deadline: Deadline,
    ...[path, from, name, unit]: [path: string, from: string, name: string, unit?: string]
  ): Promise<unknown> {
    const call = { path, interface: PROPERTIES, member: 'Get', signature: 'ss', body: [from, name] };
    const [value] = await connection.call(this.#addressed(connection, call), deadline, { unit: unit ?? name });
    return value;
  }

  async #call(call: Call, deadline: Deadline): Promise<readonly unknown[]> {
    return await this.#link.run(deadline, async (connection) => await this.#send(connection, call, deadline));
  }

  async #send(
    connection: BusConnection,
    { method, signature, body, unit }: Call,
    deadline: Deadline,
  ): Promise<readonly unknown[]> {
    const call = { path: MANAGER_PATH, interface: MANAGER, member: method, signature, body };
    return await connection.call(this.#addressed(connection, call), deadline, { unit });
  }

  #addressed(connection: BusConnection, call: BusCall): BusCall {
    return connection.isPrivate ? call : { ...call, destination: SERVICE };
  }

  /** Calls a method that answers with a job, and waits for the job. */
  async #job(call: Call, deadline: Deadline): Promise<void> {
    const result = await this.#jobResult(call, deadline);
    if (result === 'done') return;
    const about = { unit: call.unit, method: call.method };
    if (result === undefined) {
      throw new SystemdError(`the job is not done within ${deadline.timeoutMs} ms`, {
        ...about,
        code: Code.DeadlineExceeded,
      });
    }
    // Else a unit that could not be started is listed as failed from now on.
    if (call.unit !== undefined) await this.resetFailedUnit(call.unit, { timeoutMs: remainingMs(deadline) });
    throw new SystemdError(`the job ended with "${result}"`, { ...about, code: Code.FailedPrecondition, result });
  }

  async #jobResult(call: Call, deadline: Deadline): Promise<string | undefined> {
    let job: string | undefined;
    try {
      return await this.#link.run(
        deadline,
        async (connection) => {
          using watch = new JobWatch(connection);
          const [, [answer]] = await Promise.all([watch.subscribe(deadline), this.#send(connection, call, deadline)]);
          job = String(answer);
          return await watch.result(job, deadline);
        },
        () => job === undefined,
      );
    } catch (error) {
      if (!(error instanceof ConnectionLostError) || job === undefined) throw error;
      return await this.#lostJobResult(job, call, deadline);
    }
  }

  /** What became of a job whose end was not heard because the connection was lost. */
  async #lostJobResult(job: string, { unit, method }: Call, deadline: Deadline): Promise<string | undefined> {
    const result = await this.#link.run(deadline, async (connection) => {
      using watch = new JobWatch(connection);
      await watch.subscribe(deadline);
      const call = { method: 'GetJob', signature: 'u', body: [Number(job.split('/').at(-1))] };
      try {
        await this.#send(connection, call, deadline);
      } catch (error) {
        if (codeOf(error) === Code.NotFound) return 'unknown';
        throw error;
      }
      return await watch.result(job, deadline);
    });
    if (result !== 'unknown' || unit === undefined) return result;
    const state = String((await this.unitState(unit, ['ActiveState'])).get('ActiveState'));
    return (state === 'active') === (method === 'StartTransientUnit') ? 'done' : state;
  }
}

function toStruct({ name, signature, value }: UnitProperty): BusValue {
  return [name, new BusVariant(signature, value)];
}

// Bus → its manager, for everybody in this process; lives as long as it.
const shared = new Map<BusKind, SystemdManager>();

/** The manager everybody in this process shares, with one connection. */
export function systemdManager(bus: BusKind = 'system'): SystemdManager {
  let manager = shared.get(bus);
  if (manager === undefined) {
    manager = new SystemdManager({ bus });
    shared.set(bus, manager);
  }
  return manager;
}
