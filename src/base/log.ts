/**
 * Structured logging in the line format containerd forwards (logrus text): time="…" level=info
 * msg="…" key=value.
 *
 * A logger never blocks and never throws: its sink decides what to do with a line it cannot write.
 */

/** Levels as containerd names them, least to most severe. */
export const LOG_LEVELS = ['trace', 'debug', 'info', 'warning', 'error'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export type LogFields = Readonly<Record<string, unknown>>;

/** Takes one complete line, newline included. Must not block or throw. */
export type LogSink = (line: string) => void;

export interface Logger {
  trace(fields: LogFields, message: string): void;
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
  /** A logger that adds these fields to every line. */
  child(fields: LogFields): Logger;
}

function quote(text: string): string {
  return /^[A-Za-z0-9\-._/@^+:]+$/.test(text) ? text : JSON.stringify(text);
}

function valueText(value: unknown): string {
  if (value instanceof Error) return quote(value.message);
  if (typeof value === 'string') return quote(value);
  if (typeof value === 'object' && value !== null) return quote(JSON.stringify(value));
  return quote(String(value));
}

function formatLine(level: LogLevel, fields: LogFields, message: string): string {
  let line = `time="${new Date().toISOString()}" level=${level} msg=${JSON.stringify(message)}`;
  for (const key of Object.keys(fields)) {
    const value = fields[key];
    if (value !== undefined) line += ` ${key}=${valueText(value)}`;
  }
  return `${line}\n`;
}

/**
 * Creates a logger.
 * @param sink where lines go
 * @param level the least severe level that is written; a function is asked each time, so it can
 *   change
 */
export function createLogger(sink: LogSink, level: LogLevel | (() => LogLevel), bound: LogFields = {}): Logger {
  const write = (lineLevel: LogLevel, fields: LogFields, message: string): void => {
    const least = typeof level === 'function' ? level() : level;
    if (LOG_LEVELS.indexOf(lineLevel) < LOG_LEVELS.indexOf(least)) return;
    sink(formatLine(lineLevel, { ...bound, ...fields }, message));
  };
  return {
    trace: (fields, message) => write('trace', fields, message),
    debug: (fields, message) => write('debug', fields, message),
    info: (fields, message) => write('info', fields, message),
    warn: (fields, message) => write('warning', fields, message),
    error: (fields, message) => write('error', fields, message),
    child: (fields) => createLogger(sink, level, { ...bound, ...fields }),
  };
}

/** A logger that writes nothing. */
export const silentLogger: Logger = createLogger(() => undefined, 'error');
