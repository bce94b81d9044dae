/**
 * Puts a session back together after its engine has died, from what the predecessor left in the
 * keeper (entries, relays).
 *
 * Finished steps are simply known again. Containers are there at once, so that State and Kill are
 * answered; how far a start came that was under way is found out in the container's own queue
 * (`Container.resolve`). A create that was under way is undone, and the Create request, which the
 * keeper replays, makes it anew.
 */
import { closeSync } from 'node:fs';
import { basename } from 'node:path';
import { type LaminaError, messageOf } from '../base/index.js';
import { type Process, parseProcess } from '../oci/index.js';
import { unmountRecursive } from '../sys/index.js';
import { Container } from './container.js';
import type { ContainerContext } from './context.js';
import { execSpecEntry } from './execs.js';
import { isPlainPath, unreadable } from './fields.js';
import { endLeftLoggers } from './io/logger.js';
import { ioPrefix, type LeftStreams, ProcessIo } from './io/process-io.js';
import type { Hello, RelayState } from './keeper-messages.js';
import { keeperWork } from './keeper-work.js';
import { LostContainer } from './lost-container.js';
import { fromContainerRecord } from './record.js';

/**
 * What the predecessor stored: bytes and descriptor by name. Descriptors that are not taken over
 * are closed here.
 */
export type StoredEntries = ReadonlyMap<string, { readonly bytes: Buffer; readonly fd: number | undefined }>;

export interface Recovered {
  readonly containers: readonly Container[];
  /** Those whose record cannot be used: their processes may be alive. */
  readonly lost: readonly LostContainer[];
  /** By id. */
  readonly undoing: ReadonlyMap<string, Undoing>;
}

/** The undoing of a create that was under way. */
export interface Undoing {
  /** Never rejects. A new Create of that id has to wait for it. */
  readonly done: Promise<void>;
  /** What that Create goes on with; whoever takes it clears it here. */
  streams: ProcessIo | undefined;
}

const NOTHING: Undoing = { done: Promise.resolve(), streams: undefined };

/** @param stored what the predecessor stored; descriptors that are not taken over are closed */
export function recoverContainers(
  context: ContainerContext,
  hello: Hello,
  stored: StoredEntries,
  relays: ReadonlyMap<string, RelayState>,
): Recovered {
  const containers: Container[] = [];
  const lost: LostContainer[] = [];
  const undoing = new Map<string, Undoing>();
  const taken = new Set<string>();
  const leftOf = (id: string): LeftStreams => ({ entries: stored, relays, taken, specs: storedSpecs(stored, id) });
  for (const [name, { bytes }] of stored) {
    if (!name.startsWith('c/')) continue;
    const id = name.slice(2);
    try {
      const record = fromContainerRecord(bytes, name);
      if (record.id !== id) throw unreadable(name, `it is of ${record.id}`);
      const container = Container.restore(context, record, leftOf(id));
      if (record.step === 'create') undoing.set(id, container.abandon());
      else containers.push(container);
    } catch (error) {
      lost.push(new LostContainer(id, messageOf(error), { context, hello, stored, relays: relays.keys() }));
      context.log.error({ container: id, error: messageOf(error) }, 'what is recorded of a container cannot be read');
    }
  }
  const known = new Set([...containers, ...lost].map(({ id }) => id));
  for (const [name, { bytes }] of stored) {
    if (!name.startsWith('m/')) continue;
    const id = name.slice(2);
    if (!isRootfs(bytes.toString())) {
      const { message } = unreadable(name, 'it is no rootfs of a bundle');
      context.log.error({ container: id, error: message }, 'what was mounted cannot be read: it stays mounted');
      context.link.del(name);
      continue;
    }
    // Created after all: only the entry is left over.
    if (known.has(id)) context.link.del(name);
    else {
      const first = undoing.get(id);
      undoing.set(id, { ...NOTHING, ...first, done: undoMounts(context, name, bytes.toString(), first?.done) });
    }
  }
  // The predecessor had undone a create and not come to do it again.
  for (const name of stored.keys()) {
    const [folder, id = '', execId] = name.split('/');
    if (folder !== 'io' || execId !== '' || known.has(id)) continue;
    const undone = undoing.get(id) ?? { ...NOTHING };
    undone.streams ??= ProcessIo.restore(context.link, ioPrefix(id, ''), leftOf(id)).carryOn();
    undoing.set(id, undone);
  }
  const lostIds = lost.map(({ id }) => id);
  endLeftLoggers(context.link, lostIds);
  for (const [name, { fd }] of stored) if (fd !== undefined && !taken.has(name)) closeSync(fd);
  if (containers.length > 0) context.log.info({ containers: containers.length }, 'a new engine has taken over');
  return { containers, lost, undoing };
}

/** Events a predecessor had stored and not delivered, by their numbers. */
export function storedEvents(stored: StoredEntries): Map<number, Uint8Array> {
  const events = new Map<number, Uint8Array>();
  for (const [name, { bytes }] of stored) {
    const [, seq] = /^ev\/(\d{1,15})$/.exec(name) ?? [];
    if (seq !== undefined) events.set(Number(seq), bytes);
  }
  return events;
}

function storedSpecs(stored: StoredEntries, id: string): Map<string, Process | LaminaError> {
  const prefix = execSpecEntry(id, '');
  const specs = new Map<string, Process | LaminaError>();
  for (const [name, { bytes }] of stored) {
    if (name.startsWith(prefix)) specs.set(name.slice(prefix.length), storedSpec(name, bytes));
  }
  return specs;
}

function storedSpec(name: string, bytes: Buffer): Process | LaminaError {
  try {
    return parseProcess(bytes);
  } catch (error) {
    return unreadable(name, messageOf(error));
  }
}

/** What is unmounted must be a bundle's rootfs, whatever an entry says. */
function isRootfs(path: string): boolean {
  return isPlainPath(path) && basename(path) === 'rootfs';
}

/** A predecessor had mounted a rootfs for a container that it did not come to create. */
async function undoMounts(
  context: ContainerContext,
  entry: string,
  rootfs: string,
  first: Promise<void> | undefined,
): Promise<void> {
  await first;
  try {
    const { children } = context.link;
    const id = entry.slice(2);
    // The predecessor's mounting may be under way.
    await children.inheritedRuns(id, context.config.timeouts.runtimeMs, () => true);
    await unmountRecursive(rootfs, { work: keeperWork(children, id) });
  } catch (error) {
    context.log.error({ rootfs, error: messageOf(error) }, 'unmount what a predecessor had mounted');
  }
  context.link.del(entry);
}
