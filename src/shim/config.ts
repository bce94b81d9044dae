/**
 * Lamina's configuration file: /etc/lamina/config.toml, or what LAMINA_CONFIG names. No file means
 * defaults; an unknown key or a bad value is an error that names it.
 */
import { readFileSync } from 'node:fs';
import { Code, isErrno, LaminaError, LOG_LEVELS, type LogLevel, messageOf } from '../base/index.js';

export const DEFAULT_CONFIG_PATH = '/etc/lamina/config.toml';

export interface Config {
  /** One engine for all keepers of the node, or one for each. */
  readonly engine: 'shared' | 'dedicated';
  /** OCI runtime when a container's options name none: a name looked up in PATH, or a path. */
  readonly runtime: string;
  /**
   * How init's output reaches the daemon's FIFO: the FIFO itself is the container's stdout, or the
   * keeper copies.
   */
  readonly io: 'direct' | 'copy';
  readonly logLevel: LogLevel;
  readonly timeouts: Timeouts;
}

/** Limits in milliseconds. */
export interface Timeouts {
  /** One run of the OCI runtime (create, start, exec, delete, ...). */
  readonly runtimeMs: number;
  /** What Delete waits for output that nobody reads: less than those wait who have asked for it. */
  readonly drainMs: number;
  /**
   * What a reader gets to take what a process has written last, before its exit is told:
   * containerd's client closes its FIFOs when it hears of the exit, with what is in them. Long for
   * a reader that has to wait for a processor, short for those who wait for the exit while a reader
   * has stopped.
   */
  readonly readMs: number;
  /** How long a shared engine without keepers lives on. */
  readonly engineIdleMs: number;
  /** How long a keeper without a container and without a connection lives on. */
  readonly keeperIdleMs: number;
  /** What a logging binary has to report that it is ready. */
  readonly loggerMs: number;
}

export const DEFAULT_CONFIG: Config = {
  engine: 'shared',
  runtime: 'runc',
  io: 'direct',
  logLevel: 'info',
  timeouts: {
    runtimeMs: 120_000,
    drainMs: 2_000,
    readMs: 500,
    engineIdleMs: 60_000,
    keeperIdleMs: 60_000,
    loggerMs: 30_000,
  },
};

/**
 * The configuration of a running engine. With a file that cannot be used nobody could tell the user
 * why nothing starts, so the engine runs with the defaults and every Create fails with the reason
 * (`check`), until the file has been mended.
 */
export class ConfigFile {
  #current: Config = DEFAULT_CONFIG;
  #error: unknown;

  static async open(): Promise<ConfigFile> {
    const file = new ConfigFile();
    await file.#load();
    return file;
  }

  get current(): Config {
    return this.#current;
  }

  /** Why the file cannot be used; undefined when it can. */
  get error(): unknown {
    return this.#error;
  }

  /** @throws LaminaError why the file cannot be used, after another look at it */
  async check(): Promise<void> {
    if (this.#error !== undefined) await this.#load();
    if (this.#error !== undefined) throw this.#error;
  }

  async #load(): Promise<void> {
    try {
      this.#current = await loadConfig();
      this.#error = undefined;
    } catch (error) {
      this.#error = error;
    }
  }
}

/**
 * Reads the configuration.
 * @param given the file that must be there; null: the standard place, where there may be none
 * @throws LaminaError InvalidArgument naming the file and key
 */
export async function loadConfig(given: string | null = process.env['LAMINA_CONFIG'] ?? null): Promise<Config> {
  const path = given ?? DEFAULT_CONFIG_PATH;
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT') && given === null) return DEFAULT_CONFIG;
    const remedy = given === null ? '' : " (LAMINA_CONFIG of the daemon's environment names this file)";
    throw new LaminaError(Code.InvalidArgument, `read ${path}: ${messageOf(error)}${remedy}`, {
      subject: path,
      cause: error,
    });
  }
  return parseConfig(text, path);
}

/** Parses a configuration text. `path` is only for errors. */
export async function parseConfig(text: string, path: string): Promise<Config> {
  const table = await parseToml(text, path);
  const config: { -readonly [K in keyof Config]: Config[K] } = { ...DEFAULT_CONFIG };
  for (const [key, value] of Object.entries(table)) {
    switch (key) {
      case 'engine':
        config.engine = oneOf(path, key, value, ['shared', 'dedicated']);
        break;
      case 'io':
        config.io = oneOf(path, key, value, ['direct', 'copy']);
        break;
      case 'library':
        // For the shim's program, which finds the engine by it: native/keeper/library.c.
        if (typeof value !== 'string' || !value.startsWith('/')) throw bad(path, key, value, 'an absolute path');
        break;
      case 'log_level':
        config.logLevel = oneOf(path, key, value, LOG_LEVELS);
        break;
      case 'runtime':
        if (typeof value !== 'string' || value === '') throw bad(path, key, value, 'a program name or path');
        config.runtime = value;
        break;
      case 'timeouts':
        config.timeouts = parseTimeouts(path, value);
        break;
      default:
        throw new LaminaError(Code.InvalidArgument, `${path}: unknown key "${key}"`, { subject: key });
    }
  }
  return config;
}

/** The keys of the [timeouts] table, in milliseconds, and the fields they set. */
const TIMEOUT_KEYS: Readonly<Record<string, keyof Timeouts>> = {
  runtime_ms: 'runtimeMs',
  drain_ms: 'drainMs',
  read_ms: 'readMs',
  engine_idle_ms: 'engineIdleMs',
  keeper_idle_ms: 'keeperIdleMs',
  logger_ms: 'loggerMs',
};

/** A day. */
const LONGEST_MS = 86_400_000;

function parseTimeouts(path: string, value: unknown): Timeouts {
  if (typeof value !== 'object' || value === null) throw bad(path, 'timeouts', value, 'a table');
  const timeouts: { -readonly [K in keyof Timeouts]: number } = { ...DEFAULT_CONFIG.timeouts };
  for (const [key, limitMs] of Object.entries(value)) {
    const field = TIMEOUT_KEYS[key];
    if (field === undefined) {
      throw new LaminaError(Code.InvalidArgument, `${path}: unknown key "timeouts.${key}"`, { subject: key });
    }
    if (typeof limitMs !== 'number' || !(limitMs > 0) || limitMs > LONGEST_MS) {
      throw bad(path, `timeouts.${key}`, limitMs, `milliseconds, more than 0 and at most ${LONGEST_MS}`);
    }
    timeouts[field] = Math.round(limitMs);
  }
  return timeouts;
}

/**
 * Parses TOML; the parser is loaded on first use only.
 * @throws LaminaError InvalidArgument naming `source`
 */
export async function parseToml(text: string, source: string): Promise<Record<string, unknown>> {
  const { parse } = await import('smol-toml');
  try {
    return parse(text);
  } catch (error) {
    throw new LaminaError(Code.InvalidArgument, `${source}: ${messageOf(error)}`, { subject: source, cause: error });
  }
}

function oneOf<T extends string>(path: string, key: string, value: unknown, allowed: readonly T[]): T {
  const found = allowed.find((item) => item === value);
  if (found === undefined) throw bad(path, key, value, `one of ${allowed.map((item) => `"${item}"`).join(', ')}`);
  return found;
}

function bad(path: string, key: string, value: unknown, expected: string): LaminaError {
  return new LaminaError(Code.InvalidArgument, `${path}: ${key} is ${JSON.stringify(value)}, expected ${expected}`, {
    subject: key,
  });
}
