/**
 * A store in memory: the same answers as lamina/store's, and a place to write from between any two
 * steps.
 */
import { Code, LaminaError } from '../../../src/base/index.js';
import type { CollectStore, CollectTransaction, CollectView } from '../../../src/collect/index.js';
import type { NamespaceMetadata } from '../../../src/gc/index.js';
import {
  type Action,
  type Actor,
  type JournalEntry,
  type JournalFilter,
  type Json,
  type ObjectKind,
  type ObjectName,
  objectOf,
  type TrashItem,
} from '../../../src/store/index.js';

type Lists = Omit<NamespaceMetadata, 'name'>;
type Item = Lists[keyof Lists][number];

const KEYS: Readonly<Record<keyof Lists, readonly [kind: ObjectKind, key: string]>> = {
  leases: ['lease', 'id'],
  images: ['image', 'name'],
  content: ['content', 'digest'],
  ingests: ['ingest', 'ref'],
  snapshots: ['snapshot', 'key'],
  containers: ['container', 'id'],
  sandboxes: ['sandbox', 'id'],
};
const LISTS = new Map(Object.entries(KEYS).map(([list, [kind]]) => [kind, list as keyof Lists] as const));

interface State {
  readonly items: Map<string, Item>;
  readonly journal: JournalEntry[];
  readonly trash: (TrashItem & { readonly item: Item })[];
  readonly plans: Map<string, Json>;
}

const nameOf = (kind: ObjectKind, namespace: string, key: string): string => `${kind}\0${namespace}\0${key}`;

export class FakeStore implements CollectStore {
  readonly root = '/';
  /** Called before each read and each write: other processes do something. */
  onTurn: () => void = () => undefined;
  /** Called after each write with what it has removed. */
  onRemoved: (before: readonly NamespaceMetadata[], removed: readonly ObjectName[]) => void = () => undefined;
  /** Throws what the removal of an item fails with. */
  onTrash: (name: ObjectName) => void = () => undefined;
  reclaimed = 0;
  writes = 0;
  #state: State = { items: new Map(), journal: [], trash: [], plans: new Map() };
  #now: () => number;

  constructor(population: readonly NamespaceMetadata[] = [], now: () => number = Date.now) {
    this.#now = now;
    for (const namespace of population) {
      for (const list of Object.keys(KEYS) as (keyof Lists)[]) {
        for (const item of namespace[list]) this.put(list, namespace.name, item);
      }
    }
  }

  /** Creates or changes something, as another process would. */
  put(list: keyof Lists, namespace: string, item: Item): void {
    const [kind, field] = KEYS[list];
    const key = String((item as unknown as Record<string, unknown>)[field]);
    const name = nameOf(kind, namespace, key);
    this.#note(this.#state.items.has(name) ? 'update' : 'create', { kind, namespace, key }, { command: 'test' });
    this.#state.items.set(name, item);
  }

  delete(name: ObjectName): void {
    if (!this.#state.items.delete(nameOf(name.kind, name.namespace, name.key))) return;
    this.#note('delete', name, { command: 'test' });
  }

  has({ kind, namespace, key }: ObjectName): boolean {
    return this.#state.items.has(nameOf(kind, namespace, key));
  }

  /** `content a of default`, sorted. */
  names(): string[] {
    return Array.from(this.#state.items.keys(), (name) => name.replace('\0', ' ').replace(/\0(.*)$/s, '/$1')).sort(
      (a, b) => (a < b ? -1 : 1),
    );
  }

  metadata(): NamespaceMetadata[] {
    const namespaces = new Map<string, { -readonly [List in keyof NamespaceMetadata]: NamespaceMetadata[List] }>();
    for (const [name, item] of this.#state.items) {
      const [kind = '', namespace = ''] = name.split('\0');
      const found = namespaces.get(namespace) ?? {
        name: namespace,
        leases: [],
        images: [],
        content: [],
        ingests: [],
        snapshots: [],
        containers: [],
        sandboxes: [],
      };
      namespaces.set(namespace, found);
      const list = LISTS.get(kind as ObjectKind);
      if (list !== undefined) (found[list] as Item[]).push(item);
    }
    return [...namespaces.values()];
  }

  read<T>(work: (view: CollectView) => T): T {
    this.onTurn();
    return work(this.#view());
  }

  write<T>(by: Actor, work: (transaction: CollectTransaction) => T): T {
    this.onTurn();
    this.writes += 1;
    const before = this.metadata();
    const { items, journal, trash, plans } = this.#state;
    const old: State = { items: new Map(items), journal: [...journal], trash: [...trash], plans: new Map(plans) };
    const removed: ObjectName[] = [];
    try {
      const result = work(this.#transaction(by, removed));
      this.onRemoved(before, removed);
      return result;
    } catch (error) {
      this.#state = old;
      throw error;
    }
  }

  reclaim(): Promise<void> {
    this.reclaimed += 1;
    return Promise.resolve();
  }

  #note(action: Action, name: ObjectName, by: Actor, proof?: string): number {
    const sequence = this.#state.journal.length + 1;
    const { command, rule } = by;
    this.#state.journal.push({ ...name, sequence, time: this.#now(), uid: 0, pid: 1, command, rule, action, proof });
    return sequence;
  }

  #find<T>(kind: ObjectKind, namespace: string, key: string): T | undefined {
    return this.#state.items.get(nameOf(kind, namespace, key)) as T | undefined;
  }

  #view(): CollectView {
    const state = this.#state;
    const dated = { createdAt: 0, updatedAt: 0 };
    type Of<List extends keyof Lists> = Lists[List][number];
    const lease = (namespace: string, id: string) => {
      const found = this.#find<Of<'leases'>>('lease', namespace, id);
      return found && { id, labels: found.labels, createdAt: 0, expiresAt: undefined, owner: found.owner };
    };
    return {
      namespaces: () => this.metadata().map(({ name }) => name),
      namespacesOf: (digest) =>
        this.metadata()
          .filter(({ content }) => content.some((one) => one.digest === digest))
          .map(({ name }) => name),
      metadata: () => this.metadata(),
      sequence: () => state.journal.length,
      journal: ({ after = 0, namespace, key, limit = 1_000 }: JournalFilter = {}) =>
        state.journal
          .filter((one) => one.sequence > after)
          .filter((one) => namespace === undefined || one.namespace === namespace)
          .filter((one) => key === undefined || one.key === key)
          .slice(-limit),
      leases: (namespace) =>
        this.metadata()
          .filter(({ name }) => name === namespace)
          .flatMap(({ leases }) => leases)
          .flatMap(({ id }) => lease(namespace, id) ?? []),
      lease,
      leaseResources: (namespace, id) => {
        const found = this.#find<Of<'leases'>>('lease', namespace, id);
        if (found === undefined) return [];
        return [
          ...found.content.map((key) => ({ type: 'content', id: key })),
          ...found.ingests.map((key) => ({ type: 'ingests', id: key })),
          ...found.images.map((key) => ({ type: 'images', id: key })),
          ...found.snapshots.map((key) => {
            const [snapshotter, name = ''] = key.split('/');
            return { type: `snapshots/${snapshotter}`, id: name };
          }),
        ];
      },
      image: (namespace, name) => {
        const found = this.#find<Of<'images'>>('image', namespace, name);
        const target = { mediaType: '', digest: found?.target ?? '', size: 0 };
        return found && { name, target, labels: found.labels, ...dated };
      },
      blob: (namespace, digest) => {
        const found = this.#find<Of<'content'>>('content', namespace, digest);
        return found && { digest, size: found.bytes ?? 0, labels: found.labels, ...dated };
      },
      ingest: (namespace, ref) => {
        const found = this.#find<Of<'ingests'>>('ingest', namespace, ref);
        if (found === undefined) return undefined;
        const rest = { total: undefined, startedAt: 0, updatedAt: 0, owner: undefined };
        return { ref, expected: found.expected, expiresAt: found.expireAt, ...rest };
      },
      snapshot: (namespace, snapshotter, name) => {
        const found = this.#find<Of<'snapshots'>>('snapshot', namespace, `${snapshotter}/${name}`);
        if (found === undefined) return undefined;
        const parent = found.parent?.split('/')[1];
        return {
          snapshotter,
          name,
          parent,
          kind: 'committed',
          backend: name,
          usage: undefined,
          labels: found.labels,
          ...dated,
        };
      },
      container: (namespace, id) => {
        const found = this.#find<Of<'containers'>>('container', namespace, id);
        if (found === undefined) return undefined;
        const [snapshotter, snapshotKey] = found.snapshot?.split('/') ?? [];
        const rest = { image: undefined, sandbox: undefined, runtime: null, spec: null, extensions: null };
        return { id, snapshotter, snapshotKey, labels: found.labels, ...rest, ...dated };
      },
      sandbox: (namespace, id) => {
        const found = this.#find<Of<'sandboxes'>>('sandbox', namespace, id);
        const rest = { sandboxer: undefined, runtime: null, spec: null, extensions: null };
        return found && { id, labels: found.labels, ...rest, ...dated };
      },
      trash: () => state.trash,
      plans: () => [...state.plans].map(([id, body]) => ({ id, time: 0, body })),
      plan: (id) => {
        const body = state.plans.get(id);
        return body === undefined ? undefined : { id, time: 0, body };
      },
    };
  }

  #transaction(by: Actor, removed: ObjectName[]): CollectTransaction {
    const find = (id: number) => {
      const at = this.#state.trash.findIndex((item) => item.id === id);
      const found = this.#state.trash[at];
      if (found !== undefined) return { at, found };
      throw new LaminaError(Code.NotFound, `trash item ${id}: not found`);
    };
    return {
      ...this.#view(),
      toTrash: (resource, reason) => {
        const name = 'kind' in resource ? resource : objectOf(resource);
        if (name === undefined) throw new LaminaError(Code.InvalidArgument, 'a plug-in has it');
        const { kind, namespace, key } = name;
        const item = this.#find<Item>(kind, namespace, key);
        if (item === undefined) throw new LaminaError(Code.NotFound, `${kind} ${key}: not found`);
        const isParent = this.metadata().some(
          ({ name: of, snapshots }) =>
            kind === 'snapshot' && of === namespace && snapshots.some(({ parent }) => parent === key),
        );
        if (isParent) throw new LaminaError(Code.FailedPrecondition, `${key} is a parent`);
        this.onTrash(name);
        this.#state.items.delete(nameOf(kind, namespace, key));
        removed.push(name);
        const id = this.#note('trash', name, by, reason);
        const bytes = 'bytes' in item ? (item.bytes ?? 0) : 0;
        const labels = 'labels' in item ? item.labels : {};
        const target = 'target' in item ? item.target : undefined;
        const parent = 'parent' in item ? item.parent?.split('/')[1] : undefined;
        const digest = kind === 'content' ? key : undefined;
        const rest = { digest, leases: [], labels, target, parent, item };
        this.#state.trash.push({ kind, namespace, key, id, time: this.#now(), reason, bytes, ...rest });
        return id;
      },
      restore: (id) => {
        const { at, found } = find(id);
        const { kind, namespace, key, item } = found;
        if (this.has(found)) throw new LaminaError(Code.AlreadyExists, `${kind} ${key}: already exists`);
        this.#state.items.set(nameOf(kind, namespace, key), item);
        this.#state.trash.splice(at, 1);
        this.#note('restore', { kind, namespace, key }, by);
        return { kind, namespace, key };
      },
      dropTrash: (id) => {
        this.#state.trash.splice(find(id).at, 1);
      },
      putPlan: (id, body) => void this.#state.plans.set(id, body),
      deletePlan: (id) => void this.#state.plans.delete(id),
    };
  }
}
