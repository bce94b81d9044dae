/**
 * Puts a session back together after its engine has died, from what the predecessor left in the keeper (entries, relays).
 *
 * Finished steps are simply known again. A step that was begun is resolved by asking the OCI runtime: a container that was being created is undone, so that the
 * Create request, which the keeper replays, makes it anew; for a start or a delete the runtime's state tells how far it came.
 */
import { closeSync } from 'node:fs';
import { messageOf } from '../base/index.js';
import { unmountRecursive } from '../sys/index.js';
import { Container } from './container.js';
import type { ContainerContext } from './context.js';
import type { RelayState } from './keeper-link.js';
import type { Publisher } from './publisher.js';
import type { ContainerRecord } from './record.js';
import { waitForRuntime } from './runtime-wait.js';

/** What the predecessor stored: bytes and descriptor by name. Descriptors that are not taken over are closed here. */
export type StoredEntries = ReadonlyMap<string, { readonly bytes: Buffer; readonly fd: number | undefined }>;

/** @returns the containers that exist */
export async function recoverContainers(
  context: ContainerContext,
  stored: StoredEntries,
  relays: ReadonlyMap<string, RelayState>,
  publisher: Publisher,
): Promise<Container[]> {
  const containers: Container[] = [];
  const taken = new Set<string>();
  const entries = new Map<string, number | undefined>();
  for (const [name, { fd }] of stored) if (name.startsWith('io/')) entries.set(name, fd);
  publisher.restore(storedEvents(stored));
  for (const [name, { bytes }] of stored) {
    if (!name.startsWith('c/')) continue;
    try {
      const record = JSON.parse(bytes.toString()) as ContainerRecord;
      const container = Container.restore(context, record, { entries, relays, taken });
      if (record.step === 'create') {
        await waitForRuntime(context.keeperPid, record.options.binaryName, record.id);
        await container.discard();
        continue;
      }
      await container.resolvePendingStep();
      containers.push(container);
    } catch (error) {
      context.log.error({ entry: name, error: messageOf(error) }, 'recover a container');
    }
  }
  const known = new Set(containers.map(({ id }) => id));
  for (const [name, { bytes }] of stored) {
    if (!name.startsWith('m/')) continue;
    // Created after all: only the entry is left over.
    if (known.has(name.slice(2))) context.link.del(name);
    else await undoMounts(context, name, bytes.toString());
  }
  for (const [name, { fd }] of stored) if (fd !== undefined && !taken.has(name)) closeSync(fd);
  if (containers.length > 0) context.log.info({ containers: containers.length }, 'a new engine has taken over');
  return containers;
}

/** A predecessor was mounting a rootfs, for a container that it did not come to create. */
async function undoMounts(context: ContainerContext, entry: string, rootfs: string): Promise<void> {
  try {
    await unmountRecursive(rootfs);
  } catch (error) {
    context.log.error({ rootfs, error: messageOf(error) }, 'unmount what a predecessor had mounted');
  }
  context.link.del(entry);
}

function storedEvents(stored: StoredEntries): Map<number, Uint8Array> {
  const events = new Map<number, Uint8Array>();
  for (const [name, { bytes }] of stored) if (name.startsWith('ev/')) events.set(Number(name.slice(3)), bytes);
  return events;
}
