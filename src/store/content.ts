/** The files of blobs and ingests. A blob's file is one for all namespaces that have it. */

import { createHash, type Hash } from 'node:crypto';
import { closeSync, createReadStream, fstatSync, openSync, type ReadStream } from 'node:fs';
import { Code, isErrno, LaminaError } from '../base/index.js';
import { IngestWriter } from './ingest.js';
import { beginIngest, type ContentHost, type IngestOptions } from './ingest-files.js';
import { fileError, type Layout } from './layout.js';
import { parseDigest } from './names.js';
import { REPAIR } from './remedies.js';
import type { Actor, Ingest } from './types.js';

export interface ReadOptions {
  /** The place of the first byte, 0 without it. */
  readonly offset?: number | undefined;
  /** All that follows without it. */
  readonly length?: number | undefined;
}

export interface IngestStatus extends Ingest {
  /** How many bytes are there. */
  readonly offset: number;
}

export class ContentFiles {
  readonly #host: ContentHost;
  readonly #layout: Layout;

  constructor(host: ContentHost, layout: Layout) {
    this.#host = host;
    this.#layout = layout;
  }

  /**
   * Begins an ingest, or goes on with one that was given up: `offset` says where. One at a time per
   * ref, over all processes. Without a lease it is garbage after 24 hours.
   * @throws LaminaError AlreadyExists when the namespace has what is expected, which the lease then
   *   keeps; Unavailable while another writes this ref; NotFound for the lease; InvalidArgument
   */
  async ingest(options: IngestOptions): Promise<IngestWriter> {
    return new IngestWriter(this.#host, this.#layout, await beginIngest(this.#host, this.#layout, options));
  }

  /** @throws LaminaError NotFound; Unavailable while it is being written */
  abort(namespace: string, ref: string, by: Actor): void {
    this.#host.write(by, (tx) => tx.deleteIngest(namespace, ref));
  }

  /** The state of an ingest; undefined when there is none. */
  status(namespace: string, ref: string): IngestStatus | undefined {
    const ingest = this.#host.read((view) => view.ingest(namespace, ref));
    if (ingest === undefined) return undefined;
    const data = `${this.#layout.ingest(namespace, ref)}/data`;
    try {
      const file = openSync(data, 'r');
      try {
        return { ...ingest, offset: fstatSync(file).size };
      } finally {
        closeSync(file);
      }
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return { ...ingest, offset: 0 };
      throw fileError(error, data);
    }
  }

  /** The path of a blob's file, whether it is there or not. @throws LaminaError InvalidArgument */
  path(digest: string): string {
    return this.#layout.blob(digest);
  }

  /**
   * The bytes of a blob, or some of them. The digest is not checked: `verify` does that.
   * @throws LaminaError NotFound when the namespace has no such blob; OutOfRange for an offset
   *   beyond its end; DataLoss when its file is gone or has another size
   */
  read(namespace: string, digest: string, { offset = 0, length }: ReadOptions = {}): ReadStream {
    const { file, path, size } = this.#open(namespace, digest);
    const end = length === undefined ? size : Math.min(size, offset + length);
    if (!(offset >= 0 && offset <= size && end >= offset)) {
      closeSync(file);
      throw new LaminaError(Code.OutOfRange, `${digest}: ${offset} is beyond its ${size} bytes`, { subject: digest });
    }
    // A stream cannot be given no bytes: its end is inclusive.
    if (end === offset) {
      closeSync(file);
      return createReadStream('/dev/null');
    }
    return createReadStream(path, { fd: file, start: offset, end: end - 1 });
  }

  /**
   * Reads a blob whole and compares its digest.
   * @throws LaminaError NotFound; DataLoss, with the file and what to do
   */
  async verify(namespace: string, digest: string): Promise<void> {
    const hash = hashOf(digest);
    try {
      for await (const chunk of this.read(namespace, digest)) hash.update(chunk as Buffer);
    } catch (error) {
      throw fileError(error, this.path(digest));
    }
    const found = hash.digest('hex');
    if (found !== parseDigest(digest).hex) throw dataLoss(this.path(digest), `its content is not ${digest}`);
  }

  #open(namespace: string, digest: string): { file: number; path: string; size: number } {
    const path = this.#layout.blob(digest);
    const blob = this.#host.read((view) => view.blob(namespace, digest));
    if (blob === undefined) {
      throw new LaminaError(Code.NotFound, `content ${digest} of ${namespace}: not found`, { subject: digest });
    }
    let file: number;
    try {
      file = openSync(path, 'r');
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw fileError(error, path);
      const isDeleted = this.#host.read((view) => view.blob(namespace, digest)) === undefined;
      if (isDeleted) throw new LaminaError(Code.NotFound, `content ${digest}: deleted meanwhile`, { subject: digest });
      throw dataLoss(path, 'the file is gone');
    }
    const { size } = fstatSync(file);
    if (size === blob.size) return { file, path, size };
    closeSync(file);
    throw dataLoss(path, `it has ${size} bytes in place of ${blob.size}`);
  }
}

export function hashOf(digest: string): Hash {
  return createHash(parseDigest(digest).algorithm);
}

function dataLoss(path: string, why: string): LaminaError {
  return new LaminaError(Code.DataLoss, `${path}: ${why}: ${REPAIR}, then ingest it again`, {
    subject: path,
  });
}
