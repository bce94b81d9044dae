/** Writing an ingest, and making it a blob. */
import { closeSync, fstatSync, fsyncSync, linkSync, openSync, statSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { Code, isErrno, LaminaError } from '../base/index.js';
import type { Labels } from '../gc/index.js';
import { type BegunIngest, type ContentHost, forgetIngest, releaseIngest, writeText } from './ingest-files.js';
import { fileError, type Layout } from './layout.js';
import { checkLabels, parseDigest } from './names.js';
import type { Transaction } from './transaction.js';

export interface CommitOptions {
  /** How many bytes it must have. */
  readonly size?: number | undefined;
  /** The digest it must have. */
  readonly digest?: string | undefined;
  readonly labels?: Labels | undefined;
}

export class IngestWriter implements AsyncDisposable {
  readonly namespace: string;
  readonly ref: string;
  readonly #host: ContentHost;
  readonly #layout: Layout;
  readonly #begun: BegunIngest;
  #offset: number;
  #isOpen = true;
  /** Writes one after the other, whether the caller waits or not. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(host: ContentHost, layout: Layout, begun: BegunIngest) {
    this.namespace = begun.options.namespace;
    this.ref = begun.options.ref;
    this.#host = host;
    this.#layout = layout;
    this.#begun = begun;
    this.#offset = begun.offset;
  }

  /** How many bytes are there: what is written next is to follow them. */
  get offset(): number {
    return this.#offset;
  }

  /**
   * Appends bytes.
   * @throws LaminaError ResourceExhausted without space: what was there before stays, and can be
   *   gone on with; FailedPrecondition after the end, or when nothing is missing
   */
  async write(chunk: Uint8Array): Promise<void> {
    const mine = this.#last.then(() => this.#append(chunk));
    this.#last = mine.catch(() => undefined);
    await mine;
  }

  async #append(chunk: Uint8Array): Promise<void> {
    const { data, hash, folder } = this.#begun;
    this.#needOpen();
    if (data === undefined) throw this.#refuse('another namespace has all of it: commit it');
    try {
      for (let done = 0; done < chunk.length; ) {
        const { bytesWritten } = await data.write(chunk, done, chunk.length - done, this.#offset + done);
        done += bytesWritten;
      }
    } catch (error) {
      // The bytes that did arrive are not in the digest.
      await data.truncate(this.#offset).catch(() => this.#end());
      throw fileError(error, `${folder}/data`);
    }
    hash.update(chunk);
    this.#offset += chunk.length;
  }

  /**
   * Makes it a blob of its namespace: on the disk, under its digest, kept by its lease. The writer
   * has ended then.
   * @returns the digest
   * @throws LaminaError FailedPrecondition for another size or digest than was asked for;
   *   AlreadyExists when the namespace has it already, which the lease then keeps; the ingest is
   *   gone then too
   */
  async commit({ size, digest, labels = {} }: CommitOptions = {}): Promise<string> {
    await this.#last;
    this.#needOpen();
    checkLabels(labels);
    const actual = this.#checkDigest(size, digest);
    const { data, folder } = this.#begun;
    const path = this.#layout.blob(actual);
    try {
      await data?.chmod(0o400);
      await data?.sync();
      if (data !== undefined) this.#link(path);
    } catch (error) {
      await this.#abandon(actual);
      throw fileError(error, path);
    }
    let isNew: boolean;
    try {
      isNew = this.#host.write(this.#begun.by, (tx) => this.#record(tx, actual, path, labels));
    } catch (error) {
      await this.#abandon(actual);
      throw fileError(error, path);
    }
    await this.#end();
    forgetIngest(folder);
    if (isNew) return actual;
    throw new LaminaError(Code.AlreadyExists, `content ${actual}: already exists`, { subject: actual });
  }

  /** The commit failed: its file is not left under a name that no record has. */
  async #abandon(digest: string): Promise<void> {
    try {
      await this.close();
      this.#host.settleBlob(digest);
    } catch (error) {
      // The error of the commit is the one to be told; a check finds the file.
      if (!(error instanceof LaminaError)) throw error;
    }
  }

  #checkDigest(size: number | undefined, digest: string | undefined): string {
    const { hash, algorithm, data, options } = this.#begun;
    const shared = options.expected ?? '';
    const actual = data === undefined ? shared : `${algorithm}:${hash.copy().digest('hex')}`;
    for (const wanted of [size, options.total]) {
      if (wanted !== undefined && wanted !== this.#offset) {
        throw this.#refuse(`it has ${this.#offset} bytes, not ${wanted}`);
      }
    }
    for (const wanted of [digest, options.expected]) {
      if (wanted === undefined) continue;
      parseDigest(wanted);
      if (wanted !== actual) throw this.#refuse(`its digest is ${actual}, not ${wanted}`);
    }
    return actual;
  }

  /** Puts the data under its digest, unless a file is there. */
  #link(path: string): void {
    this.#layout.makeFolder(dirname(path));
    try {
      linkSync(`${this.#begun.folder}/data`, path);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) {
        throw new LaminaError(Code.NotFound, `ingest ${this.ref}: deleted meanwhile`, { subject: this.ref });
      }
      if (!isErrno(error, 'EEXIST')) throw error;
    }
    syncFolder(dirname(path));
  }

  /** @returns false when the namespace had it */
  #record(tx: Transaction, digest: string, path: string, labels: Labels): boolean {
    const { namespace, ref } = this;
    this.#needFile(tx, digest, path);
    const leases = tx.leasesOf(namespace, { type: 'ingests', id: ref });
    tx.deleteIngest(namespace, ref, `committed as ${digest}`);
    const isNew = tx.blob(namespace, digest) === undefined;
    if (isNew) tx.addBlob(namespace, { digest, size: this.#offset, labels });
    for (const lease of leases) tx.addLeaseResource(namespace, lease, { type: 'content', id: digest });
    return isNew;
  }

  /** The lock is held: what is at the path now stays. */
  #needFile(tx: Transaction, digest: string, path: string): void {
    const { data } = this.#begun;
    const there = statSync(path, { throwIfNoEntry: false });
    if (data === undefined) {
      if (there !== undefined) return;
      throw new LaminaError(Code.Unavailable, `${path}: deleted meanwhile: begin again`, { subject: path });
    }
    const own = fstatSync(data.fd);
    if (there?.ino === own.ino || (there !== undefined && tx.namespacesOf(digest).length > 0)) return;
    // A file that no namespace has was left by a crash: nothing says that it is whole.
    if (there !== undefined) unlinkSync(path);
    this.#link(path);
  }

  /** Gives the ingest up: nothing is left of it. */
  async abort(): Promise<void> {
    await this.#last;
    this.#needOpen();
    await this.#end();
    this.#host.write(this.#begun.by, (tx) => tx.deleteIngest(this.namespace, this.ref));
    forgetIngest(this.#begun.folder);
  }

  /** Ends writing. The bytes stay, and the next writer of this ref goes on after them. */
  async close(): Promise<void> {
    await this.#last;
    if (!this.#isOpen) return;
    await this.#end();
    const { folder, by } = this.#begun;
    releaseIngest(folder);
    const { namespace, ref } = this;
    await writeText(`${folder}/updatedat`, new Date(this.#host.now()).toISOString()).catch(() => undefined);
    this.#host.write(by, (tx) => {
      const ingest = tx.ingest(namespace, ref);
      if (ingest !== undefined) tx.putIngest(namespace, { ...ingest, owner: undefined });
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #end(): Promise<void> {
    this.#isOpen = false;
    await this.#begun.data?.close().catch(() => undefined);
  }

  #needOpen(): void {
    if (!this.#isOpen) throw this.#refuse('it has ended');
  }

  #refuse(why: string): LaminaError {
    return new LaminaError(Code.FailedPrecondition, `ingest ${this.ref}: ${why}`, { subject: this.ref });
  }
}

/** Makes names in a directory durable. */
function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}
