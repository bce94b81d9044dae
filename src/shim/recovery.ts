/**
 * Puts a session back together after its engine has died, from what the predecessor left in the keeper (entries, relays).
 *
 * Finished steps are simply known again. Containers are there at once, so that State and Kill are answered; how far a start came that was under way is found out
 * in the container's own queue (`Container.resolve`). A create that was under way is undone, and the Create request, which the keeper replays, makes it anew.
 */
import { closeSync } from 'node:fs';
import { messageOf } from '../base/index.js';
import type { Process } from '../oci/index.js';
import { unmountRecursive } from '../sys/index.js';
import { Container } from './container.js';
import type { ContainerContext } from './context.js';
import { execSpecEntry } from './execs.js';
import { endLeftLoggers } from './io/logger.js';
import { ioPrefix, type LeftStreams, ProcessIo } from './io/process-io.js';
import type { RelayState } from './keeper-messages.js';
import type { ContainerRecord } from './record.js';

/** What the predecessor stored: bytes and descriptor by name. Descriptors that are not taken over are closed here. */
export type StoredEntries = ReadonlyMap<string, { readonly bytes: Buffer; readonly fd: number | undefined }>;

export interface Recovered {
  readonly containers: readonly Container[];
  /** Ids whose record could not be used: their processes may be alive. */
  readonly lost: readonly string[];
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
  stored: StoredEntries,
  relays: ReadonlyMap<string, RelayState>,
): Recovered {
  const containers: Container[] = [];
  const lost: string[] = [];
  const undoing = new Map<string, Undoing>();
  const taken = new Set<string>();
  const leftOf = (id: string): LeftStreams => ({ entries: stored, relays, taken, specs: storedSpecs(stored, id) });
  for (const [name, { bytes }] of stored) {
    if (!name.startsWith('c/')) continue;
    const id = name.slice(2);
    try {
      const record = JSON.parse(bytes.toString()) as ContainerRecord;
      const container = Container.restore(context, record, leftOf(id));
      if (record.step === 'create') undoing.set(id, container.abandon());
      else containers.push(container);
    } catch (error) {
      lost.push(id);
      context.log.error({ container: id, error: messageOf(error) }, 'recover a container');
    }
  }
  const known = new Set(containers.map(({ id }) => id));
  for (const [name, { bytes }] of stored) {
    if (!name.startsWith('m/')) continue;
    const id = name.slice(2);
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
    if (folder !== 'io' || execId !== '' || known.has(id) || lost.includes(id)) continue;
    const undone = undoing.get(id) ?? { ...NOTHING };
    undone.streams ??= ProcessIo.restore(context.link, ioPrefix(id, ''), leftOf(id)).carryOn();
    undoing.set(id, undone);
  }
  endLeftLoggers(context.link, lost);
  for (const [name, { fd }] of stored) if (fd !== undefined && !taken.has(name)) closeSync(fd);
  if (containers.length > 0) context.log.info({ containers: containers.length }, 'a new engine has taken over');
  return { containers, lost, undoing };
}

/** Events a predecessor had stored and not delivered, by their numbers. */
export function storedEvents(stored: StoredEntries): Map<number, Uint8Array> {
  const events = new Map<number, Uint8Array>();
  for (const [name, { bytes }] of stored) if (name.startsWith('ev/')) events.set(Number(name.slice(3)), bytes);
  return events;
}

function storedSpecs(stored: StoredEntries, id: string): Map<string, Process> {
  const prefix = execSpecEntry(id, '');
  const specs = new Map<string, Process>();
  for (const [name, { bytes }] of stored) {
    if (name.startsWith(prefix)) specs.set(name.slice(prefix.length), JSON.parse(bytes.toString()) as Process);
  }
  return specs;
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
    await unmountRecursive(rootfs);
  } catch (error) {
    context.log.error({ rootfs, error: messageOf(error) }, 'unmount what a predecessor had mounted');
  }
  context.link.del(entry);
}
