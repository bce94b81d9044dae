/** Reports to a user of the library while it works: for metrics, log fields and progress. */
import type { ErrorKind } from './errors.js';

export type Operation = 'resolve' | 'manifest' | 'blob' | 'tags' | 'referrers' | 'upload' | 'push-manifest' | 'delete';

/** One try of one request, redirects and authentication included. */
export interface AttemptReport {
  readonly operation: Operation;
  readonly host: string;
  /** `docker.io/library/alpine`. */
  readonly repository: string;
  readonly digest: string | undefined;
  /** From 0, over all hosts. */
  readonly index: number;
  /** Undefined when it succeeded. */
  readonly error: ErrorKind | undefined;
  /** The HTTP status of a refusal. */
  readonly status: number | undefined;
  readonly durationMs: number;
  /** Bytes of content, received or sent. */
  readonly bytes: number;
  /** The pause before the next try, in milliseconds; undefined when there is none. */
  readonly pauseMs: number | undefined;
}

/** The end of an operation. */
export interface OperationReport {
  readonly operation: Operation;
  readonly repository: string;
  readonly digest: string | undefined;
  /** The host that was asked last. */
  readonly host: string;
  readonly result: 'ok' | 'stopped' | ErrorKind;
  readonly attempts: number;
  readonly durationMs: number;
  readonly bytes: number;
}

/** Functions that are called; what they throw is dropped. */
export interface Observer {
  readonly onAttempt?: (report: AttemptReport) => void;
  readonly onOperation?: (report: OperationReport) => void;
  /** News for a user: a key without effect in hosts.toml, a Warning header. */
  readonly onWarning?: (text: string) => void;
}

/** An observer that cannot disturb. */
export function quiet(observer: Observer): Required<Observer> {
  const guard =
    <T>(call: ((value: T) => void) | undefined) =>
    (value: T): void => {
      try {
        call?.(value);
      } catch {
        // Metrics do not stop a transfer.
      }
    };
  return {
    onAttempt: guard(observer.onAttempt),
    onOperation: guard(observer.onOperation),
    onWarning: guard(observer.onWarning),
  };
}
