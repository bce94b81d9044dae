/** Failures of a registry as one typed error, and the words a registry may put into it. */
import { Code, LaminaError } from '../base/index.js';

/** The class of a failure. It decides whether a request is tried again, and labels metrics. */
export type ErrorKind =
  | 'aborted'
  | 'bad-reference'
  | 'config'
  | 'credentials'
  | 'denied'
  | 'digest'
  | 'insecure'
  | 'limit'
  | 'network'
  | 'no-platform'
  | 'not-found'
  | 'protocol'
  | 'rate-limited'
  | 'redirect'
  | 'rejected'
  | 'server'
  | 'size'
  | 'timeout'
  | 'tls'
  | 'unauthorized'
  | 'unsupported';

const CODES: Readonly<Record<ErrorKind, Code>> = {
  aborted: Code.Canceled,
  'bad-reference': Code.InvalidArgument,
  config: Code.InvalidArgument,
  credentials: Code.Unauthenticated,
  denied: Code.PermissionDenied,
  digest: Code.DataLoss,
  insecure: Code.FailedPrecondition,
  limit: Code.ResourceExhausted,
  network: Code.Unavailable,
  'no-platform': Code.NotFound,
  'not-found': Code.NotFound,
  protocol: Code.DataLoss,
  'rate-limited': Code.ResourceExhausted,
  redirect: Code.FailedPrecondition,
  rejected: Code.InvalidArgument,
  server: Code.Unavailable,
  size: Code.DataLoss,
  timeout: Code.DeadlineExceeded,
  tls: Code.FailedPrecondition,
  unauthorized: Code.Unauthenticated,
  unsupported: Code.Unimplemented,
};

/** The kinds worth another try: the same request may get another answer. */
const TRANSIENT: ReadonlySet<ErrorKind> = new Set(['network', 'rate-limited', 'server', 'timeout']);

export interface RegistryErrorOptions {
  /** The subject of the error: a reference, a file, a host. */
  readonly subject?: string;
  readonly cause?: unknown;
  /** The HTTP status, where there was an answer. */
  readonly status?: number;
  /** How long the registry wants to be left alone, in milliseconds. */
  readonly retryAfterMs?: number;
  /** False for a failure that lasts although its kind does not. */
  readonly isTransient?: boolean;
  /** True for what no other host can make good. */
  readonly isFinal?: boolean;
}

/** Every failure of this library. */
export class RegistryError extends LaminaError {
  readonly kind: ErrorKind;
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
  /** True when the same request may succeed later. */
  readonly isTransient: boolean;
  /** True when another host of the registry cannot do better. */
  readonly isFinal: boolean;

  constructor(kind: ErrorKind, message: string, options: RegistryErrorOptions = {}) {
    super(CODES[kind], message, options);
    this.kind = kind;
    this.status = options.status;
    this.retryAfterMs = options.retryAfterMs;
    this.isFinal = options.isFinal ?? kind === 'aborted';
    this.isTransient = !this.isFinal && (options.isTransient ?? TRANSIENT.has(kind));
  }

  /** The same failure with another message, or final. */
  with(options: { readonly message?: string; readonly subject?: string; readonly isFinal?: boolean }): RegistryError {
    const subject = options.subject ?? this.subject;
    return new RegistryError(this.kind, options.message ?? this.message, {
      cause: this,
      isTransient: this.isTransient,
      isFinal: options.isFinal ?? this.isFinal,
      ...(subject === undefined ? {} : { subject }),
      ...(this.status === undefined ? {} : { status: this.status }),
      ...(this.retryAfterMs === undefined ? {} : { retryAfterMs: this.retryAfterMs }),
    });
  }
}

/** How much of a registry's own words is shown. */
const SHOWN_CHARACTERS = 300;

/**
 * A registry's words for a terminal or a log: one line, without controls or marks that turn the
 * text, bounded.
 */
export function cleanText(text: string, most = SHOWN_CHARACTERS): string {
  // Enough that what is cut is longer than what is shown, however much of it is removed.
  const start = text.slice(0, most * 8);
  const clean = start.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\s]+/gu, ' ').trim();
  const shown = [...clean].slice(0, most).join('');
  return shown.length < clean.length || start.length < text.length ? `${shown}…` : shown;
}

/** Codes in the body of a refusal that say more than the status does. */
const KINDS_OF_CODES: Readonly<Record<string, ErrorKind>> = {
  DENIED: 'denied',
  TOOMANYREQUESTS: 'rate-limited',
  UNAUTHORIZED: 'unauthorized',
  UNSUPPORTED: 'unsupported',
};

function kindOfStatus(status: number): ErrorKind {
  if (status === 401) return 'unauthorized';
  if (status === 403) return 'denied';
  if (status === 404 || status === 410) return 'not-found';
  if (status === 405) return 'unsupported';
  if (status === 408) return 'timeout';
  if (status === 429) return 'rate-limited';
  if (status >= 500) return 'server';
  return status >= 400 ? 'rejected' : 'protocol';
}

/** The errors in a refusal's body, `{"errors": [{"code", "message"}]}`; empty for anything else. */
function bodyErrors(body: string): { code: string; message: string }[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    return [];
  }
  if (typeof parsed !== 'object' || parsed === null || !('errors' in parsed) || !Array.isArray(parsed.errors))
    return [];
  return parsed.errors.slice(0, 4).map((entry: unknown) => {
    const fields = typeof entry === 'object' && entry !== null ? (entry as Record<string, unknown>) : {};
    const text = (value: unknown): string => (typeof value === 'string' ? value : '');
    return { code: text(fields['code']), message: text(fields['message']) };
  });
}

/** The words of a body for a message; none of a page made for browsers. */
function wordsOf(body: string, errors: readonly { code: string; message: string }[]): string {
  const said = errors
    .map(({ code, message }) => (message === '' ? code : message))
    .filter((text) => text !== '')
    .join('; ');
  if (said !== '') return cleanText(said);
  return /^\s*</.test(body) ? '' : cleanText(body);
}

/**
 * The error for an answer that is a refusal.
 * @param host named in the message
 * @param body what was read of the answer's body: JSON of the specification, or anything
 */
export function refusal(
  host: string,
  status: number,
  body: string,
  options: { readonly retryAfterMs?: number } = {},
): RegistryError {
  const errors = bodyErrors(body);
  const byStatus = kindOfStatus(status);
  // A registry's own code decides between 4xx only: a status that is transient stays so.
  const byCode = errors.map(({ code }) => KINDS_OF_CODES[code]).find((kind) => kind !== undefined);
  const kind = status >= 400 && status < 500 && byStatus !== 'rate-limited' ? (byCode ?? byStatus) : byStatus;
  const words = wordsOf(body, errors);
  return new RegistryError(kind, `${host} answered ${status}${words === '' ? '' : ` "${words}"`}`, {
    status,
    ...options,
    // A server that does not implement it will not do so in a second.
    ...(status === 501 || status === 505 ? { isTransient: false } : {}),
  });
}

/** The error of a signal that was aborted. */
export function abortError(signal: AbortSignal): RegistryError {
  return new RegistryError('aborted', 'given up', { cause: signal.reason });
}

/** Throws when the signal was aborted. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortError(signal);
}
