/** `lamina content ingest [FILE]` */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { constants } from 'node:os';
import type { Readable } from 'node:stream';
import { Code, codeOf, isErrno, LaminaError } from '../../base/index.js';
import type { IngestWriter, Store } from '../../store/index.js';
import type { Invocation } from '../command/spec.js';
import { note, printJson, printLine } from '../output/print.js';
import { formatBytes } from '../output/units.js';
import { usageError } from '../usage.js';
import { actorOf, labelsOf, namespaceOf, openStore } from './context.js';

const CHUNK_BYTES = 1 << 20;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** @returns 128 and the number of the signal that ended it, else 0 */
export async function runIngest(invocation: Invocation): Promise<number> {
  const stop = new Interruption();
  const file = invocation.arg(0) ?? '-';
  if (file === '-' && process.stdin.isTTY) {
    throw usageError(invocation, 'standard input is a terminal: give a FILE, or a pipe');
  }
  using store = await openStore(invocation, { readOnly: false });
  const ingest = new Ingest(invocation, store, stop);
  try {
    const digest = await ingest.run(file);
    if (invocation.flag('json')) printJson({ digest });
    else printLine(digest);
    return 0;
  } catch (error) {
    if (stop.signal === undefined) throw error;
    return 128 + constants.signals[stop.signal];
  } finally {
    stop[Symbol.dispose]();
  }
}

/** A signal that ends the work in order. A second one kills. */
class Interruption implements Disposable {
  signal: (typeof SIGNALS)[number] | undefined;
  readonly #abort = new AbortController();
  readonly #listeners = SIGNALS.map((name) => [name, () => this.#end(name)] as const);

  constructor() {
    for (const [name, listener] of this.#listeners) process.once(name, listener);
  }

  get aborted(): AbortSignal {
    return this.#abort.signal;
  }

  #end(name: (typeof SIGNALS)[number]): void {
    this.signal = name;
    this.#abort.abort();
  }

  [Symbol.dispose](): void {
    for (const [name, listener] of this.#listeners) process.off(name, listener);
  }
}

class Ingest {
  readonly #invocation: Invocation;
  readonly #store: Store;
  readonly #stop: Interruption;
  readonly #namespace: string;
  readonly #labels: Readonly<Record<string, string>>;
  readonly #expected: string | undefined;
  readonly #lease: string | undefined;

  constructor(invocation: Invocation, store: Store, stop: Interruption) {
    this.#invocation = invocation;
    this.#store = store;
    this.#stop = stop;
    this.#namespace = namespaceOf(invocation);
    this.#labels = labelsOf(invocation);
    this.#expected = invocation.text('expected');
    this.#lease = invocation.text('lease');
  }

  /** @returns the digest, which the namespace has then */
  async run(file: string): Promise<string> {
    const given = this.#invocation.text('ref');
    const ref = given ?? (this.#expected === undefined ? undefined : `ingest-${this.#expected}`);
    // Opened before anything is made, so that a file that is not there leaves nothing.
    const source = await openSource(file);
    const { aborted } = this.#stop;
    // It may wait for bytes that never come.
    const end = (): void => {
      source.destroy(aborted.reason);
    };
    aborted.addEventListener('abort', end, { once: true });
    try {
      aborted.throwIfAborted();
      const writer = await this.#begin(ref, given === undefined);
      if (typeof writer === 'string') return writer;
      return await this.#fill(writer, source, file, ref);
    } finally {
      aborted.removeEventListener('abort', end);
      source.destroy();
    }
  }

  /** @returns the digest where the namespace has what is expected */
  async #begin(ref: string | undefined, mayTakeAnother: boolean): Promise<IngestWriter | string> {
    const options = {
      namespace: this.#namespace,
      expected: this.#expected,
      lease: this.#lease,
      by: actorOf(this.#invocation),
    };
    // Where another process writes the same, this one writes it too, and the first to end wins.
    const names = ref === undefined ? [randomRef()] : mayTakeAnother ? [ref, randomRef()] : [ref];
    for (const [at, name] of names.entries()) {
      try {
        return await this.#store.content.ingest({ ...options, ref: name });
      } catch (error) {
        if (codeOf(error) === Code.AlreadyExists) return this.#known(error);
        if (codeOf(error) !== Code.Unavailable || at === names.length - 1) throw error;
      }
    }
    throw new LaminaError(Code.Internal, 'an ingest without a name');
  }

  async #fill(writer: IngestWriter, source: Readable, file: string, ref: string | undefined): Promise<string> {
    const resumedAt = writer.offset;
    // What was there has to be the beginning of what comes: the digest of all that comes shows it.
    const hash = resumedAt > 0 && this.#expected === undefined ? createHash('sha256') : undefined;
    let seen = 0;
    try {
      for await (const chunk of source) {
        this.#stop.aborted.throwIfAborted();
        const bytes = chunk as Buffer;
        hash?.update(bytes);
        const known = Math.min(Math.max(resumedAt - seen, 0), bytes.length);
        seen += bytes.length;
        if (known < bytes.length) await writer.write(bytes.subarray(known));
      }
      this.#stop.aborted.throwIfAborted();
    } catch (error) {
      await this.#giveUp(writer, ref, seen);
      throw sourceError(error, file);
    }
    try {
      if (seen < resumedAt)
        throw new LaminaError(
          Code.FailedPrecondition,
          `${file}: it has ${seen} bytes, fewer than the ${resumedAt} that were there of the ingest`,
        );
      const digest = hash === undefined ? this.#expected : `sha256:${hash.digest('hex')}`;
      return await writer.commit({ digest, labels: this.#labels });
    } catch (error) {
      if (codeOf(error) === Code.AlreadyExists) {
        await writer.close();
        return this.#known(error);
      }
      // Bytes that are not what they are to be are of no use to a later try.
      if (codeOf(error) === Code.FailedPrecondition) await writer.abort();
      else await writer.close();
      throw error;
    }
  }

  /** What has a name of its own can be gone on with. */
  async #giveUp(writer: IngestWriter, ref: string | undefined, seen: number): Promise<void> {
    if (ref === undefined) {
      await writer.abort();
      if (this.#stop.signal !== undefined) note('ingest given up: nothing is left of it');
      return;
    }
    const { offset } = writer;
    await writer.close();
    if (this.#stop.signal !== undefined) {
      note(
        `ingest ${ref} given up after ${formatBytes(Math.max(offset, seen))}: the same command goes on with it within a day`,
      );
    }
  }

  /** The namespace has it already: labels are added to those that are there. */
  #known(error: unknown): string {
    const digest = error instanceof LaminaError ? error.subject : undefined;
    if (digest === undefined) throw error;
    if (Object.keys(this.#labels).length > 0) {
      const name = { kind: 'content', namespace: this.#namespace, key: digest } as const;
      this.#store.write(actorOf(this.#invocation), (tx) => tx.patchLabels(name, this.#labels));
    }
    return digest;
  }
}

function randomRef(): string {
  return `ingest-${crypto.randomUUID()}`;
}

/** @throws LaminaError that names the file */
async function openSource(file: string): Promise<Readable> {
  if (file === '-') return process.stdin;
  const stream = createReadStream(file, { highWaterMark: CHUNK_BYTES });
  await new Promise<void>((resolve, reject) => {
    stream.once('open', () => resolve());
    stream.once('error', (error) => reject(sourceError(error, file)));
  });
  return stream;
}

function sourceError(error: unknown, file: string): unknown {
  if (!isErrno(error) || error instanceof LaminaError) return error;
  const name = file === '-' ? 'standard input' : file;
  const why = error.code === 'EISDIR' ? 'it is a folder: pack it, for example with tar' : error.message;
  return new LaminaError(codeOf(error), `${name}: ${why}`, { subject: file, cause: error });
}
