/**
 * What writers did since the metadata was read. Everything that was created or changed since is
 * taken for a root, with all it refers to now: so whatever a writer has made use of meanwhile is
 * kept.
 */
import { Code, LaminaError } from '../base/index.js';
import {
  type NamespaceMetadata,
  RESOURCE_MAX,
  type Resource,
  ResourceType,
  type ScanOptions,
  scan,
  typeName,
} from '../gc/index.js';
import { type ObjectName, resourceOf } from '../store/index.js';
import type { Reading } from './reading.js';
import type { CollectView } from './store.js';

const WHY = 'changed during the collection';

export class Changes {
  readonly #reading: Reading;
  #sequence: number;
  /** Leases that have changed since and for which the collectors were not asked yet. */
  #leases: ObjectName[] = [];

  constructor(reading: Reading) {
    this.#reading = reading;
    this.#sequence = reading.sequence;
  }

  /** The number of the last journal entry that the marking knows. */
  get sequence(): number {
    return this.#sequence;
  }

  /**
   * Brings the marking up to a view. Within a transaction it is then right until its end.
   * @returns how many objects had changed
   * @throws LaminaError Aborted when the journal lacks entries: nothing may be removed then
   */
  catchUp(view: CollectView): number {
    const last = view.sequence();
    if (last === this.#sequence) return 0;
    const entries = view.journal({ after: this.#sequence, limit: Number.MAX_SAFE_INTEGER });
    if (entries.length !== last - this.#sequence) {
      const what = `${entries.length} of ${last - this.#sequence} entries of the journal are left`;
      throw new LaminaError(Code.Aborted, `collect: ${what}: collect again`, { subject: 'journal' });
    }
    const changed = new Map<string, ObjectName>();
    for (const { action, kind, namespace, key } of entries) {
      // What was removed refers to nothing any more, and what made it again has an entry of its
      // own.
      if (action === 'delete' || action === 'trash') continue;
      changed.set(`${kind}\0${namespace}\0${key}`, { kind, namespace, key });
    }
    this.#reach(view, [...changed.values()]);
    this.#sequence = last;
    return changed.size;
  }

  /**
   * Asks the collectors what changed leases hold, which a transaction cannot wait for. One that
   * fails is broken from then on: what it answered before is right, as its view is frozen.
   */
  async askCollectors(): Promise<void> {
    const leases = this.#leases;
    this.#leases = [];
    for (const round of this.#reading.rounds) {
      try {
        for (const { namespace, key } of leases) {
          if (round.isBroken) break;
          for (const resource of await round.leasedBy(namespace, key)) this.#reachResource(resource);
        }
      } catch (error) {
        this.#reading.tally.fail(`collector of ${typeName(round.collector.type)}`, error);
      }
    }
  }

  #reach(view: CollectView, changed: readonly ObjectName[]): void {
    const namespaces = Map.groupBy(changed, ({ namespace }) => namespace);
    for (const [namespace, objects] of namespaces) {
      const metadata = readObjects(view, namespace, objects);
      const { graph } = scan([metadata], laterOptions(this.#reading.options));
      for (let id = 0; id < graph.nodeCount; id += 1) this.#reachResource(graph.resource(id));
      for (const object of objects) {
        if (object.kind === 'lease') this.#leases.push(object);
        // Also what is gone again: only for this round, and it costs nothing.
        const resource = resourceOf(object);
        if (resource !== undefined) this.#reachResource(resource);
      }
    }
  }

  #reachResource({ type, namespace, key }: Resource): void {
    const id = this.#reading.scan.graph.find({ type: type & RESOURCE_MAX, namespace, key });
    if (id !== undefined) this.#reading.marking.reach(id, WHY);
  }
}

/** Reference labels mean the same; what the collectors answered is in the marking already. */
function laterOptions({ now, collectors = [] }: ScanOptions): ScanOptions {
  const nothing = { all: () => [], active: () => [], leased: () => [] };
  return { now, collectors: collectors.map(({ collector }) => ({ collector, collection: nothing })) };
}

/** The metadata of some objects as they are now; those that are gone are left out. */
function readObjects(view: CollectView, namespace: string, objects: readonly ObjectName[]): NamespaceMetadata {
  const of = <T>(kind: ObjectName['kind'], read: (key: string) => T | undefined): T[] =>
    objects.flatMap((object) => {
      if (object.kind !== kind) return [];
      const found = read(object.key);
      return found === undefined ? [] : [found];
    });
  return {
    name: namespace,
    leases: of('lease', (id) => readLease(view, namespace, id)),
    images: of('image', (name) => {
      const image = view.image(namespace, name);
      return image && { name, target: image.target.digest, labels: image.labels };
    }),
    content: of('content', (digest) => view.blob(namespace, digest)),
    ingests: of('ingest', (ref) => {
      const ingest = view.ingest(namespace, ref);
      return ingest && { ref, expected: ingest.expected, expireAt: ingest.expiresAt };
    }),
    snapshots: of('snapshot', (key) => {
      const [snapshotter = '', name = ''] = key.split(/\/(.*)/s);
      const snapshot = view.snapshot(namespace, snapshotter, name);
      if (snapshot === undefined) return undefined;
      const parent = snapshot.parent === undefined ? undefined : `${snapshotter}/${snapshot.parent}`;
      return { key, parent, labels: snapshot.labels };
    }),
    containers: of('container', (id) => {
      const container = view.container(namespace, id);
      if (container === undefined) return undefined;
      const { snapshotter = '', snapshotKey, labels } = container;
      return { id, labels, snapshot: (snapshotKey ?? '') === '' ? undefined : `${snapshotter}/${snapshotKey}` };
    }),
    sandboxes: of('sandbox', (id) => view.sandbox(namespace, id)),
  };
}

function readLease(view: CollectView, namespace: string, id: string): NamespaceMetadata['leases'][number] | undefined {
  const lease = view.lease(namespace, id);
  if (lease === undefined) return undefined;
  const resources = view.leaseResources(namespace, id);
  const keys = (type: string): string[] => resources.filter((one) => one.type === type).map((one) => one.id);
  const snapshots = resources
    .filter(({ type }) => type.startsWith('snapshots/'))
    .map((one) => `${one.type.slice('snapshots/'.length)}/${one.id}`);
  return {
    id,
    labels: lease.labels,
    content: keys('content'),
    ingests: keys('ingests'),
    images: keys('images'),
    snapshots,
  };
}

/** True for what the store holds, false for a plug-in's. */
export function isMetadata({ type }: Resource): boolean {
  return (
    type === ResourceType.Content ||
    type === ResourceType.Snapshot ||
    type === ResourceType.Image ||
    type === ResourceType.Lease ||
    type === ResourceType.Ingest
  );
}
