/**
 * containerd's `hosts.toml` (docs/hosts.md there): which hosts serve a registry's images, in which
 * order, and how they are reached.
 */
import { isAbsolute, join } from 'node:path';
import { parse } from 'smol-toml';
import { messageOf, parseDuration } from '../base/index.js';
import { RegistryError } from './errors.js';

export const CAPABILITIES = ['pull', 'resolve', 'push', 'referrers'] as const;

/** The operations a host is trusted with. `resolve`: to say what a tag is. */
export type Capability = (typeof CAPABILITIES)[number];

/** One host as it is configured; paths are absolute. */
export interface HostEntry {
  /** Undefined: the registry itself. */
  readonly server: { readonly scheme: 'http' | 'https'; readonly host: string; readonly path: string } | undefined;
  readonly capabilities: readonly Capability[];
  /** PEM files of certificate authorities, trusted beside the system's. */
  readonly ca: readonly string[];
  /** Client certificates; an empty key: it is in the file of the certificate. */
  readonly client: readonly (readonly [certificate: string, key: string])[];
  readonly skipVerify: boolean;
  /** Sent with each request to this host. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
  /** To connect, in milliseconds. */
  readonly dialTimeoutMs: number | undefined;
}

type Table = Readonly<Record<string, unknown>>;

const HOST_KEYS = ['capabilities', 'ca', 'client', 'skip_verify', 'header', 'override_path', 'dial_timeout'];

function isTable(value: unknown): value is Table {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/** Reads one file. */
class HostsFile {
  readonly warnings: string[] = [];
  readonly #file: string;
  readonly #folder: string;

  constructor(file: string, folder: string) {
    this.#file = file;
    this.#folder = folder;
  }

  bad(key: string, want: string): RegistryError {
    return new RegistryError('config', `${this.#file}: ${key}: ${want} expected`, { subject: this.#file });
  }

  checkKeys(table: Table, known: readonly string[], where: string): void {
    for (const key of Object.keys(table)) {
      if (!known.includes(key)) this.warnings.push(`${this.#file}: ${where}"${key}" is not known and has no effect`);
    }
  }

  #path(value: unknown, key: string): string {
    if (typeof value !== 'string' || value.includes('\0')) throw this.bad(key, 'the path of a file');
    if (value === '') return '';
    return isAbsolute(value) ? value : join(this.#folder, value);
  }

  #paths(value: unknown, key: string): string[] {
    const list = Array.isArray(value) ? value : value === undefined ? [] : [value];
    return list.map((entry) => this.#path(entry, key));
  }

  #pairs(value: unknown): (readonly [string, string])[] {
    const list = Array.isArray(value) ? value : value === undefined ? [] : [value];
    return list.map((entry) => {
      if (!Array.isArray(entry)) return [this.#path(entry, 'client'), ''] as const;
      const [certificate = '', key = '', ...more] = this.#paths(entry, 'client');
      if (certificate === '' || entry.length !== 2 || more.length > 0) throw this.bad('client', 'pairs of paths');
      return [certificate, key] as const;
    });
  }

  #headers(value: unknown): Record<string, string[]> {
    if (value === undefined) return {};
    if (!isTable(value)) throw this.bad('header', 'a table');
    const entries = Object.entries(value).map(([name, entry]): [string, string[]] => {
      const values = Array.isArray(entry) ? entry : [entry];
      if (!/^[\w!#$%&'*+.^`|~-]+$/.test(name)) throw this.bad(`header.${name}`, "a header's name");
      if (!values.every((text) => typeof text === 'string' && /^[\t\x20-\x7e\x80-\xff]*$/.test(text))) {
        throw this.bad(`header.${name}`, 'text or a list of texts');
      }
      return [name.toLowerCase(), values as string[]];
    });
    return Object.fromEntries(entries);
  }

  #capabilities(value: unknown): Capability[] {
    if (value === undefined || (Array.isArray(value) && value.length === 0)) return [...CAPABILITIES];
    if (!Array.isArray(value)) throw this.bad('capabilities', 'a list');
    return value.map((entry) => {
      const found = CAPABILITIES.find((name) => typeof entry === 'string' && name === entry.toLowerCase());
      if (found === undefined) throw this.bad('capabilities', CAPABILITIES.join(', '));
      return found;
    });
  }

  #flag(table: Table, key: string): boolean {
    const value = table[key] ?? false;
    if (typeof value !== 'boolean') throw this.bad(key, 'true or false');
    return value;
  }

  #dialTimeout(value: unknown): number | undefined {
    if (value === undefined || value === '') return undefined;
    const ms = typeof value === 'string' ? parseDuration(value) : undefined;
    if (ms === undefined || ms <= 0) throw this.bad('dial_timeout', 'a duration such as "3s"');
    return ms;
  }

  #server(text: string, isPathWhole: boolean): HostEntry['server'] {
    if (text === '') return undefined;
    let url: URL;
    try {
      url = new URL(text.startsWith('http') ? text : `https://${text}`);
    } catch {
      throw this.bad(`"${text}"`, 'the URL of a host');
    }
    const scheme = url.protocol === 'http:' ? 'http' : url.protocol === 'https:' ? 'https' : undefined;
    if (scheme === undefined || url.username !== '' || url.password !== '' || url.search !== '') {
      throw this.bad(`"${text}"`, 'http:// or https://, a host, and at most a path');
    }
    const path = url.pathname.replace(/\/{2,}/g, '/').replace(/\/$/, '');
    return { scheme, host: url.host, path: isPathWhole || path.endsWith('/v2') ? path : `${path}/v2` };
  }

  entry(server: unknown, table: Table): HostEntry {
    if (server !== undefined && typeof server !== 'string') throw this.bad('server', 'text');
    return {
      server: this.#server(server ?? '', this.#flag(table, 'override_path')),
      capabilities: this.#capabilities(table['capabilities']),
      ca: this.#paths(table['ca'], 'ca'),
      client: this.#pairs(table['client']),
      skipVerify: this.#flag(table, 'skip_verify'),
      headers: this.#headers(table['header']),
      dialTimeoutMs: this.#dialTimeout(table['dial_timeout']),
    };
  }

  hosts(table: Table): HostEntry[] {
    const hosts = table['host'] ?? {};
    if (!isTable(hosts)) throw this.bad('host', 'tables');
    return Object.entries(hosts).map(([server, host]) => {
      if (!isTable(host) || server === '') throw this.bad(`host."${server}"`, 'a table');
      this.checkKeys(host, HOST_KEYS, `host."${server}": `);
      return this.entry(server, host);
    });
  }
}

/**
 * Parses a `hosts.toml`: its hosts in their order, the server last.
 * @param file its path, for errors
 * @param folder what paths in it are relative to
 * @returns the hosts, and what was found that has no effect
 * @throws RegistryError `config` that names file and key
 */
export function parseHostsFile(
  content: string,
  file: string,
  folder: string,
): { readonly hosts: readonly HostEntry[]; readonly warnings: readonly string[] } {
  let table: Table;
  try {
    table = parse(content);
  } catch (cause) {
    throw new RegistryError('config', `${file}: ${messageOf(cause)}`, { subject: file, cause });
  }
  const reader = new HostsFile(file, folder);
  reader.checkKeys(table, [...HOST_KEYS, 'server', 'host'], '');
  const hosts = [...reader.hosts(table), reader.entry(table['server'], table)];
  return { hosts, warnings: reader.warnings };
}
