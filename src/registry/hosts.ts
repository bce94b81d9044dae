/** The hosts of a registry: what containerd's configuration folder says, or the registry itself. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, messageOf } from '../base/index.js';
import { RegistryError } from './errors.js';
import { CAPABILITIES, type Capability, type HostEntry, parseHostsFile } from './hosts-file.js';
import { isLoopback, type PlainHttpRule } from './origin.js';

/** Where containerd's CRI plug-in, nerdctl and Docker have it by default. */
export const DEFAULT_HOSTS_DIR = '/etc/containerd/certs.d';

/** More than any real one has. */
const MAX_FILE = 1024 * 1024;

/** TLS of a host, its files read. */
export interface HostTls {
  readonly ca: readonly string[];
  readonly client: readonly { readonly cert: string; readonly key: string }[];
  readonly skipVerify: boolean;
}

/** A host that serves a registry's repositories. */
export interface RegistryHost {
  /** `auto`: TLS, and plain HTTP when what listens does not speak TLS; for loopback only. */
  readonly scheme: 'http' | 'https' | 'auto';
  /** `host[:port]` as in a URL. */
  readonly host: string;
  /** Before `/NAME/manifests/…`: `/v2`. */
  readonly path: string;
  readonly capabilities: readonly Capability[];
  readonly headers: Readonly<Record<string, readonly string[]>>;
  readonly tls: HostTls;
  readonly dialTimeoutMs: number | undefined;
  /** True where it serves more than one registry and must be told which. */
  readonly isMirror: boolean;
}

const DOCKER_HUB = 'registry-1.docker.io';

function readSmall(file: string): string {
  try {
    const status = statSync(file);
    if (!status.isFile() || status.size > MAX_FILE) {
      throw new RegistryError('config', `${file} is no file, or larger than ${MAX_FILE} bytes`, { subject: file });
    }
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if (cause instanceof RegistryError) throw cause;
    throw new RegistryError('config', `read ${file}: ${messageOf(cause)}`, { subject: file, cause });
  }
}

/**
 * The folders that may configure a registry, first found first: `host_5000_`, `host:5000`,
 * `_default`.
 */
export function hostFolders(root: string, domain: string): string[] {
  const port = /^(.+):(\d*)$/.exec(domain);
  const names = port === null ? [domain] : [`${port[1]}_${port[2]}_`, domain];
  return [...names, '_default'].map((name) => join(root, name));
}

function isThere(path: string): boolean {
  try {
    statSync(path);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return false;
    throw new RegistryError('config', `read ${path}: ${messageOf(error)}`, { subject: path, cause: error });
  }
}

/** Docker's layout: `*.crt` are authorities, `*.cert` with `*.key` client certificates. */
function certificateEntry(folder: string): HostEntry {
  const names = readdirSync(folder).sort();
  const client = names
    .filter((name) => name.endsWith('.cert'))
    .map((name): [string, string] => {
      const key = `${name.slice(0, -'.cert'.length)}.key`;
      return [join(folder, name), names.includes(key) ? join(folder, key) : ''];
    });
  const ca = names.filter((name) => name.endsWith('.crt')).map((name) => join(folder, name));
  const capabilities = CAPABILITIES;
  return { server: undefined, capabilities, ca, client, skipVerify: false, headers: {}, dialTimeoutMs: undefined };
}

function readFolder(folder: string, warn: (text: string) => void): readonly HostEntry[] {
  const file = join(folder, 'hosts.toml');
  if (!isThere(file)) return [certificateEntry(folder)];
  const { hosts, warnings } = parseHostsFile(readSmall(file), file, folder);
  for (const warning of warnings) warn(warning);
  return hosts;
}

/** How the registry itself is reached when nothing says it. */
function ownScheme(host: string, isPlain: PlainHttpRule): RegistryHost['scheme'] {
  const port = /:(\d+)$/.exec(host)?.[1];
  if (isPlain(host)) return 'http';
  if (!isLoopback(host)) return 'https';
  if (port === '80') return 'http';
  return port === undefined || port === '443' ? 'https' : 'auto';
}

function loadTls(entry: HostEntry): HostTls {
  return {
    ca: entry.ca.map(readSmall),
    client: entry.client.map(([certificate, key]) => {
      const cert = readSmall(certificate);
      return { cert, key: key === '' ? cert : readSmall(key) };
    }),
    skipVerify: entry.skipVerify,
  };
}

function toHost(entry: HostEntry, domain: string, isPlain: PlainHttpRule): RegistryHost {
  const { capabilities, headers, dialTimeoutMs, server } = entry;
  const own = domain === 'docker.io' ? DOCKER_HUB : domain;
  const common = { capabilities, headers, dialTimeoutMs, tls: loadTls(entry) };
  if (server === undefined) {
    return { ...common, scheme: ownScheme(own, isPlain), host: own, path: '/v2', isMirror: false };
  }
  const isOwn = [domain, own].includes(server.host);
  // Docker Hub's own name serves no registry.
  const host = server.host === 'docker.io' ? DOCKER_HUB : server.host;
  return { ...common, scheme: server.scheme, host, path: server.path, isMirror: !isOwn };
}

const NOTHING: HostEntry = {
  server: undefined,
  capabilities: CAPABILITIES,
  ca: [],
  client: [],
  skipVerify: false,
  headers: {},
  dialTimeoutMs: undefined,
};

export interface HostOptions {
  /** containerd's configuration folder; undefined: none. */
  readonly hostsDir: string | undefined;
  /** Whether a host is configured for plain HTTP. */
  readonly isPlain: PlainHttpRule;
  readonly warn: (text: string) => void;
}

/**
 * The hosts of a registry in the order in which they are tried, read anew each time, as containerd
 * does.
 * @param domain of a reference
 * @throws RegistryError `config` that names the file; unlike containerd, a file that cannot be used
 *   is not passed over
 */
export function findHosts(domain: string, options: HostOptions): RegistryHost[] {
  const folders = options.hostsDir === undefined ? [] : hostFolders(options.hostsDir, domain);
  const folder = folders.find(isThere);
  const entries = folder === undefined ? [NOTHING] : readFolder(folder, options.warn);
  const hosts = entries.map((entry) => toHost(entry, domain, options.isPlain));
  for (const { host } of hosts) {
    if (!URL.canParse(`https://${host}/`)) {
      throw new RegistryError('bad-reference', `"${host}" is no host`, { subject: domain });
    }
  }
  return hosts;
}
