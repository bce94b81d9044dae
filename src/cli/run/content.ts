/** `lamina content ls|get|rm` */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Code, LaminaError } from '../../base/index.js';
import { objectOf, type Store } from '../../store/index.js';
import type { Invocation } from '../command/spec.js';
import { parseKey } from '../key.js';
import { labelText, printJson, printLine, printTable } from '../output/print.js';
import { formatBytes, formatTime } from '../output/units.js';
import { actorOf, namespaceOf, openStore, resourceOf } from './context.js';
import { collectAtEnd } from './gc-run.js';

export async function runList(invocation: Invocation): Promise<undefined> {
  const namespace = namespaceOf(invocation);
  using store = await openStore(invocation, { readOnly: true });
  const { blobs, ingests } = store.read((view) => ({ blobs: view.blobs(namespace), ingests: view.ingests(namespace) }));
  if (invocation.flag('json')) {
    const underWay = ingests.map(({ ref }) => {
      const { offset = 0, total, expected, startedAt, expiresAt } = store.content.status(namespace, ref) ?? {};
      return { ref, offset, total: total ?? null, expected: expected ?? null, startedAt, expiresAt: expiresAt ?? null };
    });
    printJson({
      content: blobs.map(({ digest, size, createdAt, labels }) => ({ digest, size, createdAt, labels })),
      ingests: underWay,
    });
    return;
  }
  if (invocation.flag('quiet')) {
    process.stdout.write(blobs.map(({ digest }) => `${digest}\n`).join(''));
    return;
  }
  const columns = ['DIGEST', 'SIZE', 'CREATED', 'LABELS'].map((title) => ({ title, isRight: title === 'SIZE' }));
  const rows = blobs.map(({ digest, size, createdAt, labels }) => [
    ...[digest, formatBytes(size), formatTime(createdAt)],
    labelText(labels),
  ]);
  const open = ingests.map(({ ref, startedAt }) => {
    const offset = store.content.status(namespace, ref)?.offset ?? 0;
    return [`(ingest) ${ref}`, formatBytes(offset), formatTime(startedAt), ''];
  });
  printTable(columns, [...rows, ...open]);
}

export async function runGet(invocation: Invocation): Promise<undefined> {
  const namespace = namespaceOf(invocation);
  using store = await openStore(invocation, { readOnly: true });
  const digest = await digestOf(store, namespace, invocation.arg(0) ?? '');
  const hash = createHash(digest.slice(0, digest.indexOf(':')));
  for await (const chunk of store.content.read(namespace, digest)) {
    hash.update(chunk as Buffer);
    // No faster than it is read.
    if (!process.stdout.write(chunk as Buffer)) await once(process.stdout, 'drain');
  }
  if (hash.digest('hex') === digest.slice(digest.indexOf(':') + 1)) return;
  const path = store.content.path(digest);
  throw new LaminaError(
    Code.DataLoss,
    `${path}: what was written is not ${digest}: the file is damaged: run lamina store fsck --digests --repair, then ingest it again`,
    { subject: path },
  );
}

export async function runRemove(invocation: Invocation): Promise<undefined> {
  const namespace = namespaceOf(invocation);
  using store = await openStore(invocation, { readOnly: false });
  const digests: string[] = [];
  for (const text of invocation.args) digests.push(await digestOf(store, namespace, text));
  const unique = [...new Set(digests)];
  // All or none.
  store.write(actorOf(invocation), (tx) => {
    for (const key of unique) tx.toTrash({ kind: 'content', namespace, key }, 'removed by hand');
  });
  await collectAtEnd(invocation, store);
  if (invocation.flag('json')) printJson({ removed: unique });
  else for (const digest of unique) printLine(digest);
}

/**
 * @throws LaminaError InvalidArgument for what names no blob, NotFound, FailedPrecondition
 *   (ambiguous)
 */
async function digestOf(store: Store, namespace: string, text: string): Promise<string> {
  const named = objectOf({ ...parseKey(text), namespace });
  if (named?.kind !== 'content') {
    throw new LaminaError(Code.InvalidArgument, `${text} is no digest, nor the beginning of one`, { subject: text });
  }
  const digests = (): string[] => store.read((view) => view.blobs(namespace).map(({ digest }) => digest));
  const { key } = await resourceOf(text, namespace, digests);
  return key;
}
