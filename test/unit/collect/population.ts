/**
 * Random populations, random changes of them, and the slow and plain definition of what can be
 * reached.
 */
import fc from 'fast-check';
import type { NamespaceMetadata } from '../../../src/gc/index.js';
import type { ObjectName } from '../../../src/store/index.js';
import { blob, container, image, ingest, lease, NOW, namespace, PAST, sandbox, snapshot } from '../gc/kit.js';
import type { FakeStore } from './fake-store.js';

const NAMES = ['a', 'b', 'c', 'd', 'e'];
const name = fc.constantFrom(...NAMES);
const NAMESPACES = ['ns1', 'ns2'];

/** Labels by their names without the prefix. */
const labels = fc.dictionary(
  fc.constantFrom('ref.content.0', 'ref.content.1', 'ref.snapshot.fs', 'ref.image', 'bref.image', 'bref.content'),
  name,
  { maxKeys: 2 },
);
const rooted = fc.tuple(labels, fc.boolean()).map(([own, isRoot]) => (isRoot ? { ...own, root: '' } : own));
const expiring = fc.tuple(labels, fc.boolean()).map(([own, isPast]) => (isPast ? { ...own, expire: PAST } : own));

/** One object to be put into a list of a namespace. */
export type Put = {
  [List in keyof Omit<NamespaceMetadata, 'name'>]: {
    readonly list: List;
    readonly item: NamespaceMetadata[List][number];
  };
}[keyof Omit<NamespaceMetadata, 'name'>];

/** Snapshots have parents that come before them by name, so that there are no cycles. */
const parentOf = (own: string, parent: string | null): string | undefined =>
  parent !== null && parent < own ? `fs/${parent}` : undefined;

export const puts: fc.Arbitrary<Put> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(name, rooted).map(([key, own]): Put => ({ list: 'content', item: blob(key, own) })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(name, fc.option(name), rooted)
      .map(
        ([key, parent, own]): Put => ({ list: 'snapshots', item: snapshot(`fs/${key}`, parentOf(key, parent), own) }),
      ),
  },
  fc.tuple(name, name, expiring).map(([key, target, own]): Put => ({ list: 'images', item: image(key, target, own) })),
  fc
    .tuple(name, fc.option(name), labels)
    .map(
      ([id, of, own]): Put => ({ list: 'containers', item: container(id, of === null ? undefined : `fs/${of}`, own) }),
    ),
  fc.tuple(name, labels).map(([id, own]): Put => ({ list: 'sandboxes', item: sandbox(id, own) })),
  fc.tuple(name, fc.boolean(), fc.option(name)).map(
    ([ref, isOld, expected]): Put => ({
      list: 'ingests',
      item: ingest(ref, isOld ? NOW - 1 : NOW + 3_600_000, expected ?? undefined),
    }),
  ),
  fc
    .record({
      id: name,
      content: fc.uniqueArray(name, { maxLength: 2 }),
      snapshots: fc.uniqueArray(name, { maxLength: 2 }),
      images: fc.uniqueArray(name, { maxLength: 1 }),
      isOver: fc.boolean(),
      isFlat: fc.boolean(),
    })
    .map(({ id, content, snapshots, images, isOver, isFlat }): Put => {
      const own = { ...(isOver ? { expire: PAST } : {}), ...(isFlat ? { flat: '' } : {}) };
      return {
        list: 'leases',
        item: lease(id, { content, snapshots: snapshots.map((one) => `fs/${one}`), images, labels: own }),
      };
    }),
);

/** What a writer does: puts something, takes a root away, or nothing. */
export type Change =
  | { readonly kind: 'put'; readonly namespace: string; readonly put: Put }
  | { readonly kind: 'delete'; readonly object: ObjectName }
  | { readonly kind: 'none' };

export const changes: fc.Arbitrary<Change> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc
      .tuple(fc.constantFrom(...NAMESPACES), puts)
      .map(([of, put]): Change => ({ kind: 'put', namespace: of, put })),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom(...NAMESPACES), fc.constantFrom('image', 'container', 'lease', 'content'), name)
      .map(([of, kind, key]): Change => ({ kind: 'delete', object: { kind, namespace: of, key } as ObjectName })),
  },
  { weight: 1, arbitrary: fc.constant<Change>({ kind: 'none' }) },
);

export function apply(store: FakeStore, change: Change): void {
  if (change.kind === 'put') store.put(change.put.list, change.namespace, change.put.item);
  if (change.kind === 'delete') store.delete(change.object);
}

/** Two namespaces of some objects each. */
export const populations: fc.Arbitrary<NamespaceMetadata[]> = fc
  .array(fc.tuple(fc.constantFrom(...NAMESPACES), puts), { maxLength: 24 })
  .map((drawn) =>
    NAMESPACES.map((of) => {
      const lists: Record<string, unknown[]> = {};
      for (const { list, item } of drawn.filter(([own]) => own === of).map(([, put]) => put)) {
        lists[list] = [...(lists[list] ?? []), item];
      }
      return namespace(of, lists);
    }),
  );
