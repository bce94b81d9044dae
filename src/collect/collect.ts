/**
 * A collection. Metadata is read and marked while writers go on; what they change meanwhile is
 * taken for roots; garbage goes into the trash in short transactions; what has been there long
 * enough is freed.
 */
import { messageOf } from '../base/index.js';
import type { Collector, ScanOptions } from '../gc/index.js';
import type { Actor } from '../store/index.js';
import { Changes } from './changes.js';
import type { CollectorLimits } from './collector-round.js';
import { type GcMetrics, leasesByAge, quiet } from './metrics.js';
import { removeOfPlugins } from './plugins.js';
import { type Reading, readAndMark } from './reading.js';
import { type CollectionResult, Tally } from './result.js';
import { inSpan, type SpanNotes } from './spans.js';
import type { CollectStore } from './store.js';
import { PACE, Sweep } from './sweep.js';
import { DEFAULT_TRASH, drop, dueItems, type Space, spaceOf, type TrashPolicy } from './trash.js';

export interface CollectOptions {
  /** For the journal. */
  readonly by: Actor;
  readonly collectors?: readonly Collector[];
  readonly limits?: Partial<CollectorLimits>;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
  /** Ends the collection where that leaves everything whole. */
  readonly signal?: AbortSignal;
  /** So many milliseconds, after which no further batch is begun. Default: as long as it takes. */
  readonly budgetMs?: number;
  /** Removes nothing: the counts say what would be removed. */
  readonly dryRun?: boolean;
  readonly trash?: Partial<TrashPolicy>;
  readonly metrics?: GcMetrics;
  /** How long a batch keeps writers waiting, in milliseconds, beside its commit. Default 5. */
  readonly batchMs?: number;
  /** How long they get their turn between two. Default 20. */
  readonly gapMs?: number;
  /** Whether the owner of a lease has ended. Default: looks at /proc. */
  readonly hasEnded?: ScanOptions['hasEnded'];
  /** What is left on the store's file system. Default: statfs. */
  readonly space?: () => Space;
}

const RULE = 'collect';

/**
 * Removes what nothing keeps. Nothing that can be reached is removed, whatever other processes
 * write meanwhile and whatever a collector does. A failing item or collector is in `failures`; the
 * rest goes on.
 * @throws LaminaError DataLoss when metadata is damaged: nothing was removed; Unavailable when
 *   other writers hold the lock for too long; Aborted when the journal has lost what they did
 */
export async function collect(store: CollectStore, options: CollectOptions): Promise<CollectionResult> {
  const metrics = quiet(options.metrics);
  try {
    const result = await inSpan('lamina.gc.collect', { 'lamina.gc.dry_run': options.dryRun ?? false }, (notes) =>
      new Pass(store, options).run(notes),
    );
    report(metrics, result);
    metrics.count('lamina_gc_collections_total', 1, { result: result.result });
    return result;
  } catch (error) {
    metrics.count('lamina_gc_collections_total', 1, { result: 'fail' });
    throw error;
  }
}

class Pass {
  readonly #store: CollectStore;
  readonly #options: CollectOptions;
  readonly #by: Actor;
  readonly #tally = new Tally();
  readonly #end: number;
  #isStopped = false;

  constructor(store: CollectStore, options: CollectOptions) {
    this.#store = store;
    this.#options = options;
    this.#by = { rule: RULE, ...options.by };
    this.#end = performance.now() + (options.budgetMs ?? Number.POSITIVE_INFINITY);
  }

  async run(notes: SpanNotes): Promise<CollectionResult> {
    const { dryRun = false } = this.#options;
    const reading = await inSpan('lamina.gc.mark', {}, () => readAndMark(this.#store, this.#options, this.#tally));
    let isFinished = false;
    try {
      this.#countKept(reading, dryRun);
      if (!dryRun && !this.#isOver()) {
        await this.#sweep(reading);
        isFinished = true;
      }
    } finally {
      if (!isFinished) await Promise.all(reading.rounds.map((round) => round.cancel()));
    }
    const freedBytes = dryRun ? 0 : await this.#free();
    const result = this.#result(reading, freedBytes);
    for (const { subject, message } of result.failures) notes.event('failure', { subject, message });
    return result;
  }

  #isOver = (): boolean => {
    if (this.#options.signal?.aborted !== true && performance.now() < this.#end) return false;
    this.#isStopped = true;
    return true;
  };

  #countKept({ scan, marking }: Reading, dryRun: boolean): void {
    for (let id = 0; id < scan.graph.nodeCount; id += 1) {
      if (!scan.isCandidate(id)) continue;
      const { type } = scan.graph.resource(id);
      if (marking.isReached(id)) this.#tally.add(type, 'kept');
      else if (dryRun) this.#tally.add(type, 'removed', scan.bytes(id));
    }
  }

  async #sweep(reading: Reading): Promise<void> {
    const changes = new Changes(reading);
    const { batchMs = PACE.batchMs, gapMs = PACE.gapMs } = this.#options;
    const sweep = await inSpan('lamina.gc.sweep', {}, async (notes) => {
      await this.#tally.during('catch_up', async () => {
        this.#store.read((view) => changes.catchUp(view));
        await changes.askCollectors();
      });
      const isOver = this.#isOver;
      const made = new Sweep(this.#store, reading, changes, { by: this.#by, batchMs, gapMs, isOver });
      await this.#tally.during('sweep', async () => await made.run());
      notes.set({ 'lamina.gc.batches': this.#tally.pauses.length });
      return made;
    });
    await inSpan('lamina.gc.remove', { 'lamina.gc.count': sweep.plugins.length }, async () => {
      await this.#tally.during('remove', async () => {
        await removeOfPlugins(this.#store, reading, changes, sweep.plugins, this.#isOver);
      });
    });
  }

  async #free(): Promise<number> {
    return await inSpan('lamina.gc.free', {}, async (notes) => {
      try {
        return await this.#tally.during('free', async () => {
          const { now = Date.now, space = () => spaceOf(this.#store.root), signal } = this.#options;
          const policy = { ...DEFAULT_TRASH, ...this.#options.trash };
          const items = dueItems(
            this.#store.read((view) => view.trash()),
            now(),
            policy,
            space(),
          );
          const by = { ...this.#by, rule: 'trash' };
          const { bytes } = await drop(this.#store, by, items, (ms) => this.#tally.pause(ms));
          await this.#store.reclaim(signal);
          notes.set({ 'lamina.gc.bytes': bytes });
          return bytes;
        });
      } catch (error) {
        // Garbage has gone already; what was not freed is freed the next time.
        this.#tally.fail('trash', error);
        notes.event('failure', { subject: 'trash', message: messageOf(error) });
        return 0;
      }
    });
  }

  #result(reading: Reading, freedBytes: number): CollectionResult {
    const { types, phases, pauses, failures } = this.#tally;
    const trash = this.#store.read((view) => view.trash());
    return {
      result: this.#isStopped ? 'stopped' : 'success',
      isPartial: this.#isStopped,
      types: Object.fromEntries(types),
      markedCount: reading.marking.reachedCount,
      phases,
      pauses: { count: pauses.length, longestMs: pauses.reduce((most, ms) => Math.max(most, ms), 0), eachMs: pauses },
      pauseMs: pauses.reduce((sum, ms) => sum + ms, 0),
      failures,
      freedBytes,
      trash: { items: trash.length, bytes: trash.reduce((sum, { bytes }) => sum + bytes, 0) },
      nextExpiry: reading.scan.nextExpiry,
      leaseAges: this.#options.metrics === undefined ? [] : leaseAges(this.#store, (this.#options.now ?? Date.now)()),
    };
  }
}

function leaseAges(store: CollectStore, now: number): number[] {
  return store.read((view) =>
    view.namespaces().flatMap((namespace) => view.leases(namespace).map(({ createdAt }) => now - createdAt)),
  );
}

function report(metrics: GcMetrics, result: CollectionResult): void {
  for (const [phase, ms] of Object.entries(result.phases)) {
    metrics.observe('lamina_gc_phase_seconds', ms / 1000, { phase });
  }
  for (const ms of result.pauses.eachMs) metrics.observe('lamina_gc_writer_pause_seconds', ms / 1000, {});
  for (const [type, counts] of Object.entries(result.types)) {
    for (const outcome of ['kept', 'removed', 'changed', 'failed'] as const) {
      metrics.count('lamina_gc_resources_total', counts[outcome], { type, outcome });
    }
    metrics.count('lamina_gc_removed_bytes_total', counts.bytes, { type });
  }
  metrics.count('lamina_gc_freed_bytes_total', result.freedBytes, {});
  for (const [age, value] of leasesByAge(result.leaseAges)) metrics.set('lamina_gc_leases', value, { age });
  metrics.set('lamina_gc_trash_items', result.trash.items, {});
  metrics.set('lamina_gc_trash_bytes', result.trash.bytes, {});
  metrics.set('lamina_gc_next_expiry_timestamp_seconds', (result.nextExpiry ?? 0) / 1000, {});
}
