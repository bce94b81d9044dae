/** What a service can export of collections. The names here are the ones in docs/gc.md. */

export const METRICS = {
  lamina_gc_collections_total: {
    kind: 'counter',
    labels: ['result'],
    help: 'Collections: success, stopped (budget or request), fail.',
  },
  lamina_gc_phase_seconds: {
    kind: 'histogram',
    labels: ['phase'],
    help: 'Time of a phase: collectors, read, mark, catch_up, sweep, remove, free.',
  },
  lamina_gc_writer_pause_seconds: {
    kind: 'histogram',
    labels: [],
    help: 'How long one transaction of a collection kept writers waiting.',
  },
  lamina_gc_resources_total: {
    kind: 'counter',
    labels: ['type', 'outcome'],
    help: 'Resources a collection looked at: kept, removed, failed, changed meanwhile.',
  },
  lamina_gc_removed_bytes_total: { kind: 'counter', labels: ['type'], help: 'Bytes moved into the trash.' },
  lamina_gc_freed_bytes_total: { kind: 'counter', labels: [], help: 'Bytes given back to the file system.' },
  lamina_gc_leases: {
    kind: 'gauge',
    labels: ['age'],
    help: 'Leases by age: 1m, 1h, 1d, 7d, older; each counted once, under the first that fits.',
  },
  lamina_gc_trash_items: { kind: 'gauge', labels: [], help: 'Things in the trash.' },
  lamina_gc_trash_bytes: { kind: 'gauge', labels: [], help: 'Bytes in the trash.' },
  lamina_gc_next_expiry_timestamp_seconds: {
    kind: 'gauge',
    labels: [],
    help: 'When the next lease, image or ingest expires; 0: none does.',
  },
} as const;

type Catalog = typeof METRICS;
type NameOf<Kind extends string> = {
  [Name in keyof Catalog]: Catalog[Name]['kind'] extends Kind ? Name : never;
}[keyof Catalog];
export type MetricLabels<Name extends keyof Catalog> = Readonly<Record<Catalog[Name]['labels'][number], string>>;

/**
 * Where measurements go. Times are seconds, sizes bytes. What a method throws is ignored: it is no
 * reason to fail a collection.
 */
export interface GcMetrics {
  count<Name extends NameOf<'counter'>>(name: Name, value: number, labels: MetricLabels<Name>): void;
  observe<Name extends NameOf<'histogram'>>(name: Name, value: number, labels: MetricLabels<Name>): void;
  set<Name extends NameOf<'gauge'>>(name: Name, value: number, labels: MetricLabels<Name>): void;
}

const NO_METRICS: GcMetrics = { count: () => undefined, observe: () => undefined, set: () => undefined };

/** The same metrics; a call of theirs that throws is ignored. */
export function quiet(metrics: GcMetrics | undefined): GcMetrics {
  if (metrics === undefined) return NO_METRICS;
  const trying = (work: () => void): void => {
    try {
      work();
    } catch {
      // An exporter's trouble is its own.
    }
  };
  return {
    count: (name, value, labels) => trying(() => metrics.count(name, value, labels)),
    observe: (name, value, labels) => trying(() => metrics.observe(name, value, labels)),
    set: (name, value, labels) => trying(() => metrics.set(name, value, labels)),
  };
}

const AGES: readonly (readonly [name: string, belowMs: number])[] = [
  ['1m', 60_000],
  ['1h', 3_600_000],
  ['1d', 86_400_000],
  ['7d', 604_800_000],
  ['older', Number.POSITIVE_INFINITY],
];

/** Counts leases by age. @param ages in milliseconds */
export function leasesByAge(ages: Iterable<number>): ReadonlyMap<string, number> {
  const counts = new Map<string, number>(AGES.map(([name]) => [name, 0]));
  for (const age of ages) {
    const [name] = AGES.find(([, below]) => age < below) ?? ['older'];
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  return counts;
}
