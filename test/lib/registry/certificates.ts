/** A certificate authority with certificates of its own, made by openssl. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** Paths of PEM files. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

function openssl(args: readonly string[]): void {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'ignore'] });
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-sha256'];

export class Authority {
  readonly folder: string;
  readonly ca: Certificate;

  constructor(folder: string, name = 'ca') {
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
    this.ca = this.#paths(name);
    const files = ['-keyout', this.ca.key, '-out', this.ca.cert];
    openssl(['req', '-x509', ...NEW_KEY, '-subj', `/CN=Lamina test ${name}`, '-days', '2', ...files]);
  }

  #paths(name: string): Certificate {
    return { cert: join(this.folder, `${name}.pem`), key: join(this.folder, `${name}.key`) };
  }

  /** A certificate for 127.0.0.1 and localhost, for servers and clients. */
  issue(name: string): Certificate {
    const made = this.#paths(name);
    const request = join(this.folder, `${name}.csr`);
    const extensions = join(this.folder, `${name}.ext`);
    writeFileSync(extensions, 'subjectAltName=IP:127.0.0.1,DNS:localhost\n');
    openssl(['req', '-new', ...NEW_KEY, '-subj', `/CN=${name}`, '-keyout', made.key, '-out', request]);
    const by = ['-CA', this.ca.cert, '-CAkey', this.ca.key, '-CAcreateserial'];
    openssl([
      'x509',
      '-req',
      '-in',
      request,
      ...by,
      '-days',
      '2',
      '-sha256',
      '-extfile',
      extensions,
      '-out',
      made.cert,
    ]);
    return made;
  }
}

export function readPair(certificate: Certificate): { cert: Buffer; key: Buffer } {
  return { cert: readFileSync(certificate.cert), key: readFileSync(certificate.key) };
}
