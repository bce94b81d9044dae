/**
 * Docker's config.json (docker/cli: cli/config/configfile): credentials in it, and the helpers it
 * names.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { isErrno, messageOf } from '../base/index.js';
import { askHelper, type HelperOptions } from './credential-helper.js';
import { type CredentialSource, type Credentials, credentialHost } from './credentials.js';
import { RegistryError } from './errors.js';

const MAX_FILE = 4 * 1024 * 1024;
/** The key of Docker Hub's credentials. */
const HUB_KEY = 'https://index.docker.io/v1/';

/** The parts of a config.json that matter here. */
export interface DockerConfig {
  /** By host, or by URL as `docker login` once wrote it. */
  readonly auths: Readonly<Record<string, Credentials>>;
  readonly credHelpers: Readonly<Record<string, string>>;
  readonly credsStore: string | undefined;
}

type Fields = Readonly<Record<string, unknown>>;

function table(value: unknown, key: string, file: string): Fields {
  if (value === undefined || value === null) return {};
  if (typeof value === 'object' && !Array.isArray(value)) return value as Fields;
  throw new RegistryError('config', `${file}: "${key}" is no object`, { subject: file });
}

function text(fields: Fields, name: string): string {
  const value = Object.hasOwn(fields, name) ? fields[name] : undefined;
  return typeof value === 'string' ? value : '';
}

function parseEntry(fields: Fields, key: string, file: string): Credentials | undefined {
  const identity = text(fields, 'identitytoken');
  if (identity !== '') return { kind: 'identity', token: identity };
  const bearer = text(fields, 'registrytoken');
  if (bearer !== '') return { kind: 'bearer', token: bearer };
  const encoded = text(fields, 'auth');
  let pair = `${text(fields, 'username')}:${text(fields, 'password')}`;
  if (encoded !== '') {
    pair = Buffer.from(encoded, 'base64').toString('utf8');
    if (!pair.includes(':')) {
      throw new RegistryError('config', `${file}: auths."${key}": auth is no "user:password" in base64`, {
        subject: file,
      });
    }
  }
  const colon = pair.indexOf(':');
  const username = pair.slice(0, colon);
  // Old versions of Docker padded it.
  const password = pair.slice(colon + 1).replace(/\0+$/, '');
  return username === '' && password === '' ? undefined : { kind: 'password', username, password };
}

/**
 * Parses a config.json.
 * @param file its path, for errors
 * @throws RegistryError `config`
 */
export function parseDockerConfig(content: string, file: string): DockerConfig {
  let parsed: unknown;
  try {
    parsed = JSON.parse(content);
  } catch {
    // The content is secret, and the error would quote it.
    throw new RegistryError('config', `${file}: no JSON`, { subject: file });
  }
  const config = table(parsed, 'the whole', file);
  const auths = Object.entries(table(config['auths'], 'auths', file)).flatMap(([key, value]) => {
    const entry = parseEntry(table(value, `auths."${key}"`, file), key, file);
    return entry === undefined ? [] : [[key, entry] as const];
  });
  const helpers = Object.entries(table(config['credHelpers'], 'credHelpers', file)).filter(
    (entry): entry is [string, string] => typeof entry[1] === 'string' && entry[1] !== '',
  );
  return {
    auths: Object.fromEntries(auths),
    credHelpers: Object.fromEntries(helpers),
    credsStore: text(config, 'credsStore') || undefined,
  };
}

/** The host in a key of config.json: it may have a scheme and a path. */
export function hostOfKey(key: string): string {
  const bare = key.replace(/^https?:\/\//, '');
  return credentialHost(bare.replace(/\/.*$/s, ''));
}

function lookUp<T>(entries: Readonly<Record<string, T>>, host: string): T | undefined {
  const exact = Object.hasOwn(entries, host) ? entries[host] : undefined;
  if (exact !== undefined) return exact;
  return Object.entries(entries).find(([key]) => hostOfKey(key) === credentialHost(host))?.[1];
}

/**
 * The credentials of a configuration for a host: of its helper, of the store, or of the file, in
 * this order.
 * @param mayRun false: the file was not written by who runs this, so no program that it names is
 *   run
 */
export async function credentialsIn(
  config: DockerConfig,
  host: string,
  mayRun: boolean,
  options: HelperOptions,
): Promise<Credentials | undefined> {
  const helper = lookUp(config.credHelpers, host) ?? config.credsStore;
  if (helper === undefined) return lookUp(config.auths, host);
  if (!mayRun) {
    throw new RegistryError(
      'credentials',
      `the credential helper "${helper}" is not run: others than you can write the file that names it`,
    );
  }
  const isHub = credentialHost(host) === 'index.docker.io';
  const found = await askHelper(helper, isHub ? HUB_KEY : host, options);
  return found ?? lookUp(config.auths, host);
}

export interface DockerConfigOptions {
  /** The file; default: `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`. */
  readonly file?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** The time limit of one run of a helper. */
  readonly helperTimeLimitMs?: number;
}

function read(file: string): { content: string; mayRun: boolean } | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const status = fstatSync(fd);
    if (!status.isFile() || status.size > MAX_FILE) {
      throw new RegistryError('config', `${file} is no file, or too large`, { subject: file });
    }
    const isOurs = status.uid === 0 || status.uid === process.getuid?.();
    return { content: readFileSync(fd, 'utf8'), mayRun: isOurs && (status.mode & 0o022) === 0 };
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    if (error instanceof RegistryError) throw error;
    throw new RegistryError('config', `read ${file}: ${messageOf(error)}`, { subject: file, cause: error });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/**
 * Credentials as Docker has them: `docker login` is enough. The file is read at each look-up; none
 * means none.
 */
export function dockerCredentials(options: DockerConfigOptions = {}): CredentialSource {
  const env = options.env ?? process.env;
  const folder = env['DOCKER_CONFIG'] || join(env['HOME'] || homedir(), '.docker');
  const file = options.file ?? join(folder, 'config.json');
  return async (host, signal) => {
    const found = read(file);
    if (found === undefined) return undefined;
    const helper = {
      env,
      signal,
      ...(options.helperTimeLimitMs === undefined ? {} : { timeLimitMs: options.helperTimeLimitMs }),
    };
    return await credentialsIn(parseDockerConfig(found.content, file), host, found.mayRun, helper);
  };
}
