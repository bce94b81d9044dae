/** Debian's docker-registry, one process with its own folder. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LATE_MS, until, within } from '../wait.js';
import type { Certificate } from './certificates.js';

/** Of the registry with passwords: `htpasswd` knows bcrypt only. */
export const USER = { username: 'tester', password: 'open sesame' };
const HTPASSWD = 'tester:$2b$05$abcdefghijklmnopqrstuupx2xBUC4954936wVIjyyPHmUBFu0wCW\n';

export interface DebianRegistryOptions {
  readonly tls?: Certificate;
  /** The file of authorities that clients need certificates of. */
  readonly clientCa?: string;
  readonly htpasswd?: boolean;
  /** Tokens: where they come from, and the certificate they are signed with. */
  readonly token?: { readonly realm: string; readonly certificate: string };
}

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

async function accepts(port: number): Promise<boolean> {
  const socket = createConnection(port, '127.0.0.1');
  try {
    return await new Promise<boolean>((resolve) => {
      socket.once('connect', () => resolve(true));
      socket.once('error', () => resolve(false));
    });
  } finally {
    socket.destroy();
  }
}

export class DebianRegistry {
  readonly folder: string;
  readonly port: number;
  readonly #child: ChildProcess;

  private constructor(folder: string, port: number, child: ChildProcess) {
    this.folder = folder;
    this.port = port;
    this.#child = child;
  }

  /** `127.0.0.1:PORT`. */
  get host(): string {
    return `127.0.0.1:${this.port}`;
  }

  static async start(options: DebianRegistryOptions = {}): Promise<DebianRegistry> {
    const folder = mkdtempSync(join(tmpdir(), 'lamina-registry-'));
    mkdirSync(join(folder, 'data'));
    const port = await freePort();
    const { tls, clientCa, token } = options;
    const http = {
      addr: `127.0.0.1:${port}`,
      ...(tls === undefined
        ? {}
        : {
            tls: {
              certificate: tls.cert,
              key: tls.key,
              ...(clientCa === undefined ? {} : { clientcas: [clientCa] }),
            },
          }),
    };
    const passwords = join(folder, 'htpasswd');
    writeFileSync(passwords, HTPASSWD);
    const config = {
      version: '0.1',
      log: { level: 'warn' },
      storage: { filesystem: { rootdirectory: join(folder, 'data') }, delete: { enabled: true } },
      http,
      ...(options.htpasswd === true ? { auth: { htpasswd: { realm: 'test', path: passwords } } } : {}),
      ...(token === undefined
        ? {}
        : {
            auth: {
              token: {
                realm: token.realm,
                service: 'registry.test',
                issuer: 'lamina test',
                rootcertbundle: token.certificate,
              },
            },
          }),
    };
    const file = join(folder, 'config.yml');
    // JSON is YAML.
    writeFileSync(file, JSON.stringify(config));
    const log = openSync(join(folder, 'log'), 'w');
    const child = spawn('docker-registry', ['serve', file], { stdio: ['ignore', log, log] });
    const registry = new DebianRegistry(folder, port, child);
    await until('docker-registry listens', async () => child.exitCode !== null || (await accepts(port)), {
      detail: () => registry.log(),
    });
    if (child.exitCode !== null) throw new Error(`docker-registry has ended: ${registry.log()}`);
    return registry;
  }

  log(): string {
    return readFileSync(join(this.folder, 'log'), 'utf8').slice(-4000);
  }

  async stop(): Promise<void> {
    const ended = new Promise<void>((resolve) => this.#child.once('close', () => resolve()));
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL');
      await within('docker-registry has ended', LATE_MS, ended);
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}
