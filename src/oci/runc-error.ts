/**
 * What a failed run of the OCI runtime becomes: RuncError, whose message is the text users of
 * containerd and Docker know.
 *
 * Docker decides its own exit code by words in this text ("executable file not found"), so the
 * runtime's words pass unchanged.
 */
import { Code, LaminaError, type LaminaErrorOptions } from '../base/index.js';
import type { RuncLogEntry } from './runc-log.js';

export interface RuncErrorOptions extends LaminaErrorOptions {
  /** The runtime's command: "create", "kill", ... */
  readonly command: string;
  /** The whole argument vector, program first. */
  readonly args: readonly string[];
  /** Undefined when a signal ended it, or it never ran. */
  readonly exitCode: number | undefined;
  readonly signal: number | undefined;
  /** The end of what it printed, at most 4 KiB; empty when its output was the container's own. */
  readonly stderrTail: string;
  /** What it logged during this run. */
  readonly logEntries: readonly RuncLogEntry[];
  /** The runtime's own words, without our prefix; empty when it said nothing. */
  readonly runtimeMessage: string;
}

/** A run of the OCI runtime that failed. `subject` is the container's id. */
export class RuncError extends LaminaError {
  readonly command: string;
  readonly args: readonly string[];
  readonly exitCode: number | undefined;
  readonly signal: number | undefined;
  readonly stderrTail: string;
  readonly logEntries: readonly RuncLogEntry[];
  readonly runtimeMessage: string;

  constructor(code: Code, message: string, options: RuncErrorOptions) {
    super(code, message, options);
    this.command = options.command;
    this.args = options.args;
    this.exitCode = options.exitCode;
    this.signal = options.signal;
    this.stderrTail = options.stderrTail;
    this.logEntries = options.logEntries;
    this.runtimeMessage = options.runtimeMessage;
  }
}

/** containerd's wording where it is not "OCI runtime COMMAND failed". */
const PREFIXES: Readonly<Record<string, string>> = { delete: 'failed to delete task' };

/** What goes before the runtime's own words: `OCI runtime create failed`. */
export function failurePrefix(command: string): string {
  return PREFIXES[command] ?? `OCI runtime ${command} failed`;
}

/** What is known of a run that ended with a failure. */
export interface Failure {
  readonly command: string;
  readonly exitCode: number | undefined;
  readonly signal: number | undefined;
  readonly output: string;
  readonly logEntries: readonly RuncLogEntry[];
  /** Why the log could not be used; undefined when it could. */
  readonly logTrouble: string | undefined;
}

function loggedMessageOf(failure: Failure): string {
  const isSevere = (entry: RuncLogEntry) => /^(error|fatal|panic)$/.test(entry.level);
  return failure.logEntries.findLast(isSevere)?.msg.trim() ?? '';
}

/**
 * The runtime's own words for a failure: its last logged error, else what it printed, else empty.
 */
export function runtimeMessageOf(failure: Failure): string {
  return loggedMessageOf(failure) || failure.output;
}

/** `exit status 1` or `signal: 9`. */
export function exitText(failure: Pick<Failure, 'exitCode' | 'signal'>): string {
  return failure.signal === undefined ? `exit status ${failure.exitCode ?? 0}` : `signal: ${failure.signal}`;
}

/** The code and text of a failure of any command. */
export function describeFailure(failure: Failure): { code: Code; message: string } {
  const text = runtimeMessageOf(failure);
  if (failure.command === 'kill') return describeKillFailure(text || exitText(failure));
  const prefix = failurePrefix(failure.command);
  const code = codeOfRuntimeMessage(text);
  const logged = loggedMessageOf(failure);
  if (logged !== '') return { code, message: `${prefix}: ${logged}` };
  const printed = failure.output === '' ? exitText(failure) : `${failure.output}: ${exitText(failure)}`;
  if (failure.logTrouble === undefined) return { code, message: `${prefix}: ${printed}` };
  return { code, message: `${prefix}: unable to retrieve OCI runtime error (${failure.logTrouble}): ${printed}` };
}

const ALREADY_FINISHED = /os: process already finished|container (`\S+` )?(is )?not running|no such process/i;

// What crun says of a container it does not know: 1.8 to everything the first, 1.28 only to delete
// the second.
const CRUN_UNKNOWN =
  /(error opening file `[^`]*\/status`|cannot open directory ['`][^'`]*['`]): No such file or directory/;

/** Whether a runtime's message to a kill or delete says that it knows no such container. */
export function saysNoContainer(text: string): boolean {
  return text.includes('does not exist') || CRUN_UNKNOWN.test(text);
}

/** containerd's mapping: clients take NotFound from a kill as "already stopped". */
function describeKillFailure(text: string): { code: Code; message: string } {
  if (ALREADY_FINISHED.test(text)) return { code: Code.NotFound, message: 'process already finished' };
  if (saysNoContainer(text)) return { code: Code.NotFound, message: 'no such container' };
  const code = /unknown signal|invalid signal|invalid argument/i.test(text) ? Code.InvalidArgument : Code.Unknown;
  return { code, message: `unknown error after kill: ${text}` };
}

/** ENOSPC, EDQUOT, EMFILE, ENFILE, EAGAIN (of fork), ENOMEM in the words of Go and of libc. */
const EXHAUSTED =
  /no space left on device|disk quota exceeded|too many open files|resource temporarily unavailable|cannot allocate memory/i;

// runc: "container does not exist", "container with id exists: web" (1.0), "container with given ID
// already exists"; crun: "container `web` does not exist", "container `web` already exists".
function codeOfRuntimeMessage(text: string): Code {
  if (/\bcontainer (\S+ )?does not exist/.test(text) || CRUN_UNKNOWN.test(text)) return Code.NotFound;
  if (/\bcontainer (\S+|with given ID) already exists|container with id exists/i.test(text)) return Code.AlreadyExists;
  return EXHAUSTED.test(text) ? Code.ResourceExhausted : Code.Unknown;
}
