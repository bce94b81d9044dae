/** What goes wrong between here and systemd. */
import { Code, LaminaError } from '../../base/index.js';

/**
 * Names of D-Bus errors, as systemd and the buses send them, and what they mean; systemd's own
 * errno errors end in the errno's name.
 */
const CODES: Readonly<Record<string, Code>> = {
  'org.freedesktop.systemd1.UnitExists': Code.AlreadyExists,
  'org.freedesktop.systemd1.NoSuchUnit': Code.NotFound,
  'org.freedesktop.systemd1.NoUnitForPID': Code.NotFound,
  'org.freedesktop.systemd1.NoSuchJob': Code.NotFound,
  'org.freedesktop.DBus.Error.UnknownObject': Code.NotFound,
  'org.freedesktop.systemd1.ScopeNotRunning': Code.FailedPrecondition,
  'org.freedesktop.systemd1.BadUnitSetting': Code.InvalidArgument,
  'org.freedesktop.DBus.Error.InvalidArgs': Code.InvalidArgument,
  'org.freedesktop.DBus.Error.PropertyReadOnly': Code.InvalidArgument,
  'org.freedesktop.DBus.Error.UnknownProperty': Code.InvalidArgument,
  'org.freedesktop.DBus.Error.NotSupported': Code.Unimplemented,
  'org.freedesktop.DBus.Error.UnknownMethod': Code.Unimplemented,
  'org.freedesktop.DBus.Error.AccessDenied': Code.PermissionDenied,
  'org.freedesktop.DBus.Error.AuthFailed': Code.PermissionDenied,
  'org.freedesktop.DBus.Error.InteractiveAuthorizationRequired': Code.PermissionDenied,
  'org.freedesktop.DBus.Error.LimitsExceeded': Code.ResourceExhausted,
  'org.freedesktop.DBus.Error.NoMemory': Code.ResourceExhausted,
  'org.freedesktop.DBus.Error.NoReply': Code.DeadlineExceeded,
  'org.freedesktop.DBus.Error.Timeout': Code.DeadlineExceeded,
  'org.freedesktop.DBus.Error.TimedOut': Code.DeadlineExceeded,
  'org.freedesktop.DBus.Error.ServiceUnknown': Code.Unavailable,
  'org.freedesktop.DBus.Error.NameHasNoOwner': Code.Unavailable,
  'org.freedesktop.DBus.Error.Disconnected': Code.Unavailable,
  'org.freedesktop.DBus.Error.UnixProcessIdUnknown': Code.NotFound,
  'System.Error.EROFS': Code.InvalidArgument,
  'System.Error.EINVAL': Code.InvalidArgument,
};

export interface SystemdErrorOptions {
  readonly code?: Code;
  readonly unit?: string | undefined;
  readonly method: string;
  /** The D-Bus error's name, when systemd answered with one. */
  readonly errorName?: string;
  /**
   * A job's result, when that is what went wrong: "canceled", "timeout", "failed", "dependency",
   * "skipped".
   */
  readonly result?: string;
  readonly cause?: unknown;
}

/**
 * systemd refused a call, did not answer in time, or a job of it did not end well. `subject` is the
 * unit, else the method.
 */
export class SystemdError extends LaminaError {
  readonly unit: string | undefined;
  readonly method: string;
  readonly errorName: string | undefined;
  readonly result: string | undefined;

  constructor(what: string, options: SystemdErrorOptions) {
    const { code = codeOfName(options.errorName), unit, method, errorName, result, cause } = options;
    const about = unit === undefined ? method : `${method} ${unit}`;
    super(code, `systemd: ${about}: ${what}`, { subject: unit ?? method, cause });
    this.unit = unit;
    this.method = method;
    this.errorName = errorName;
    this.result = result;
  }
}

function codeOfName(name: string | undefined): Code {
  return name === undefined ? Code.Unknown : (CODES[name] ?? Code.Unknown);
}

/** The connection ended before the answer came. */
export class ConnectionLostError extends LaminaError {
  constructor(what: string, cause?: unknown) {
    super(Code.Unavailable, `connection to systemd lost: ${what}`, { cause });
  }
}
