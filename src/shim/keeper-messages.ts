/**
 * What a keeper says, as values: the messages of native/README.md that carry more than their
 * numbers.
 */
import { Code, codeOfErrno, LaminaError } from '../base/index.js';
import type { ExitStatus } from '../oci/index.js';
import { LM_F_ENDED, LM_F_UNREAD, LM_MSG_RELAYED, type Message } from '../sys/index.js';
import { errnoName, errnoText } from './errno.js';

/** Who a keeper serves; see HELLO in native/README.md. */
export interface Hello {
  readonly keeperPid: number;
  readonly namespace: string;
  readonly id: string;
  readonly group: string;
  readonly bundle: string;
  readonly socket: string;
  readonly grpcAddress: string;
  readonly ttrpcAddress: string;
  readonly publishBinary: string;
  readonly debug: boolean;
  readonly stateDir: string;
  /** Lamina's version the keeper was built as. */
  readonly version: string;
  /**
   * Equal for keepers of equal code, 16 hex digits; empty for one from before there was a build.
   */
  readonly build: string;
  /** What the keeper understands beyond the first keepers. */
  readonly features: ReadonlySet<string>;
}

/** A child of the keeper was reaped. */
export interface ExitReport extends ExitStatus {
  readonly seq: number;
  readonly pid: number;
  /** What the child was called when it was spawned or adopted; empty for a stranger. */
  readonly name: string;
  /**
   * Some process of this keeper has written what its reader has not taken yet; it may be this one.
   */
  readonly isUnread: boolean;
}

/** The end of a relay, or its being alive (`ended` false) in a replay. */
export interface RelayState {
  readonly name: string;
  readonly ended: boolean;
  readonly bytes: number;
  /** Name of the error that ended it; undefined for end of file. */
  readonly error: string | undefined;
}

export function parseHello(message: Message): Hello {
  const values = new Map<string, string>();
  for (const field of message.fields) {
    const text = field.toString();
    const at = text.indexOf('=');
    if (at > 0) values.set(text.slice(0, at), text.slice(at + 1));
  }
  const value = (key: string): string => values.get(key) ?? '';
  return {
    keeperPid: Number(message.arg),
    namespace: value('namespace'),
    id: value('id'),
    group: value('group'),
    bundle: value('bundle'),
    socket: value('socket'),
    grpcAddress: value('grpc_address'),
    ttrpcAddress: value('ttrpc_address'),
    publishBinary: value('publish_binary'),
    debug: value('debug') === '1',
    stateDir: value('state_dir'),
    version: value('version'),
    build: value('build'),
    features: new Set(value('features').split(' ')),
  };
}

/** @returns undefined for a message that is cut off */
export function parseExitReport({
  flags,
  serial,
  arg,
  fields: [name, waitStatus, timeNs],
}: Message): ExitReport | undefined {
  if (waitStatus === undefined || waitStatus.length < 4 || timeNs === undefined || timeNs.length < 8) return undefined;
  const status = exitStatusOf(waitStatus.readInt32LE(), timeNs.readBigInt64LE());
  return {
    ...status,
    seq: serial,
    pid: Number(arg),
    name: name?.toString() ?? '',
    isUnread: (flags & LM_F_UNREAD) !== 0,
  };
}

/** Splits a wait(2) status. */
function exitStatusOf(waitStatus: number, timeNs: bigint): ExitStatus {
  const signal = waitStatus & 0x7f;
  return signal === 0
    ? { code: (waitStatus >> 8) & 0xff, signal: undefined, timeNs }
    : { code: 128 + signal, signal, timeNs };
}

/** RELAYED or RELAY_STATE. */
export function parseRelayState({ type, flags, serial, arg, fields: [name] }: Message): RelayState {
  return {
    name: name?.toString() ?? '',
    ended: type === LM_MSG_RELAYED || (flags & LM_F_ENDED) !== 0,
    bytes: Number(arg),
    error: serial === 0 ? undefined : errnoName(serial),
  };
}

/**
 * Why a request failed: what failed and the system's words for why, "execve /x: No such file or
 * directory", and the errno.
 */
export function parseFailure({ arg, fields: [field] }: Message): LaminaError {
  const text = field?.toString() ?? '';
  const errno = Number(arg);
  const name = errnoName(errno);
  const end = text.lastIndexOf(': ');
  const what = end < 0 ? text : text.slice(0, end);
  // Of a program that is to be started it says that there are too many processes.
  const code = name === 'EAGAIN' ? Code.ResourceExhausted : codeOfErrno(name);
  return new LaminaError(code, `${what}: ${errnoText(errno)}`, { subject: what });
}
