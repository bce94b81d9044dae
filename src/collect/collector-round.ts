/**
 * One collector in one collection. Its code is not ours: each call has a deadline, each answer is
 * checked, and what fails costs its own type this round and no other type its references.
 */
import { Code, LaminaError, messageOf } from '../base/index.js';
import {
  type Answers,
  type Collection,
  type Collector,
  describeResource,
  type Held,
  RESOURCE_MAX,
  type Resource,
  type RunningCollector,
  typeName,
} from '../gc/index.js';
import { listed, within } from './deadline.js';

export interface CollectorLimits {
  /** For one call, in milliseconds. */
  readonly callMs: number;
  /** For one removal, and for `finish`. */
  readonly removalMs: number;
}

export const DEFAULT_LIMITS: CollectorLimits = { callMs: 10_000, removalMs: 30_000 };

/** Who may be asked `leased`. */
export interface NamespaceLeases {
  readonly namespace: string;
  readonly leases: readonly string[];
}

/** `changed`: the key belongs to another one now, which is not removed; `gone`: to none. */
export type Removal = 'removed' | 'changed' | 'gone';

/** Types to which resources of a collector were seen to refer, whatever it declares. */
const seenTargets = new WeakMap<Collector, Set<number>>();
/** Calls of earlier rounds that are not over. */
const unfinished = new WeakMap<Collector, number>();

function count(collector: Collector, change: number): void {
  unfinished.set(collector, (unfinished.get(collector) ?? 0) + change);
}

/**
 * Types that are not to be judged while a collector fails: those which its resources may refer to.
 */
export function protectedBy(collector: Collector): number[] {
  return [...new Set([...collector.refersTo, ...(seenTargets.get(collector) ?? [])])];
}

export class CollectorRound {
  readonly collector: Collector;
  readonly #collection: Collection;
  readonly #limits: CollectorLimits;
  #all: readonly Held[] = [];
  #isBroken = false;
  /** key → identity. */
  readonly #identities = new Map<string, string | undefined>();
  readonly #active = new Map<string, readonly Resource[]>();
  readonly #leased = new Map<string, readonly Resource[]>();
  readonly #backReferences = new Map<string, readonly (readonly [Resource, Resource])[]>();
  readonly #references = new Map<string, readonly Resource[]>();

  private constructor(collector: Collector, collection: Collection, limits: CollectorLimits) {
    this.collector = collector;
    this.#collection = collection;
    this.#limits = limits;
  }

  /**
   * Begins a round.
   * @throws LaminaError Unavailable while a call of an earlier round is not over; DeadlineExceeded;
   *   what `start` throws
   */
  static async start(collector: Collector, limits: CollectorLimits): Promise<CollectorRound> {
    const what = `collector of ${typeName(collector.type)}`;
    if ((unfinished.get(collector) ?? 0) > 0) {
      throw new LaminaError(Code.Unavailable, `${what}: a call of an earlier round is not over`, { subject: what });
    }
    let isWanted = true;
    count(collector, 1);
    try {
      const collection = await within(
        `${what}: start`,
        limits.callMs,
        async (signal) => {
          const started = await collector.start(signal);
          // Too late for the round: what it froze is let go.
          if (!isWanted) await started.cancel();
          return started;
        },
        () => count(collector, -1),
      );
      return new CollectorRound(collector, collection, limits);
    } finally {
      isWanted = false;
    }
  }

  /** It has failed to answer: nothing of it is to be removed, and the round to be cancelled. */
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** Asks for everything that `scan` reads. */
  async gather(namespaces: readonly NamespaceLeases[]): Promise<void> {
    this.#all = await this.#list('all', () => this.#collection.all());
    for (const held of this.#all) {
      this.#check('all', held, this.collector.type);
      if (held.identity !== undefined && this.#collection.identify === undefined) {
        throw this.#lie('all', `${describeResource(held)} has an identity, and there is no identify()`);
      }
      this.#identities.set(nameOf(held), held.identity);
    }
    for (const { namespace, leases } of namespaces) {
      this.#active.set(namespace, await this.#resources('active', () => this.#collection.active(namespace)));
      for (const lease of leases) await this.leasedBy(namespace, lease);
      const pairs = await this.#list('backReferences', () => this.#collection.backReferences?.(namespace) ?? []);
      for (const pair of pairs) {
        for (const resource of pair) this.#check('backReferences', resource);
        this.#refersTo(pair[1].type);
      }
      this.#backReferences.set(namespace, pairs);
    }
    if (this.#collection.references === undefined) return;
    for (const held of this.#all) {
      const targets = await this.#resources('references', () => this.#collection.references?.(held) ?? []);
      for (const { type } of targets) this.#refersTo(type);
      if (targets.length > 0) this.#references.set(nameOf(held), targets);
    }
  }

  /** What a lease holds, asked once. */
  async leasedBy(namespace: string, lease: string): Promise<readonly Resource[]> {
    const name = `${namespace}\0${lease}`;
    const known = this.#leased.get(name);
    if (known !== undefined) return known;
    const leased = await this.#resources('leased', () => this.#collection.leased(namespace, lease));
    this.#leased.set(name, leased);
    return leased;
  }

  /** What was gathered, for `scan`. */
  get running(): RunningCollector {
    const collection: Answers = {
      all: () => this.#all,
      active: (namespace) => this.#active.get(namespace) ?? [],
      leased: (namespace, lease) => this.#leased.get(`${namespace}\0${lease}`) ?? [],
      backReferences: (namespace) => this.#backReferences.get(namespace) ?? [],
      references: (resource) => this.#references.get(nameOf(resource)) ?? [],
    };
    return { collector: this.collector, collection };
  }

  /**
   * Removes one resource, if it is still the one that was listed.
   * @throws LaminaError DeadlineExceeded; what the collector throws
   */
  async remove(resource: Resource): Promise<Removal> {
    const what = describeResource(resource);
    const expected = this.#identities.get(nameOf(resource));
    if (expected !== undefined) {
      const now = await this.#call(`identify ${what}`, this.#limits.callMs, () =>
        this.#collection.identify?.(resource),
      );
      if (now !== expected) return now === undefined ? 'gone' : 'changed';
    }
    await this.#call(`remove ${what}`, this.#limits.removalMs, (signal) => this.#collection.remove(resource, signal));
    return 'removed';
  }

  /** The round is over. */
  async finish(): Promise<void> {
    await this.#call('finish', this.#limits.removalMs, (signal) => this.#collection.finish(signal));
  }

  /** The round failed. Never throws. */
  async cancel(): Promise<void> {
    await this.#call('cancel', this.#limits.callMs, () => this.#collection.cancel()).catch(() => undefined);
  }

  async #resources(what: string, listing: Parameters<typeof listed<Resource>>[2]): Promise<readonly Resource[]> {
    const found = await this.#list(what, listing);
    for (const resource of found) this.#check(what, resource);
    return found;
  }

  async #list<T>(what: string, listing: Parameters<typeof listed<T>>[2]): Promise<T[]> {
    try {
      return await listed(this.#name(what), this.#limits.callMs, listing);
    } catch (error) {
      this.#isBroken = true;
      throw error;
    }
  }

  async #call<T>(what: string, limitMs: number, work: (signal: AbortSignal) => T | Promise<T>): Promise<T> {
    count(this.collector, 1);
    return await within(this.#name(what), limitMs, work, () => count(this.collector, -1));
  }

  /** @param type when only this one may be named */
  #check(what: string, resource: unknown, type?: number): void {
    const given = resource as Partial<Resource> | null | undefined;
    const isResource =
      typeof given?.type === 'number' &&
      given.type > 0 &&
      given.type < RESOURCE_MAX &&
      typeof given.namespace === 'string' &&
      typeof given.key === 'string';
    if (!isResource)
      throw this.#lie(what, `it named something that is no resource: ${messageOf(JSON.stringify(resource))}`);
    if (type !== undefined && given.type !== type) {
      throw this.#lie(what, `it named a resource of another type: ${describeResource(given as Resource)}`);
    }
  }

  #refersTo(type: number): void {
    if (type === this.collector.type) return;
    const seen = seenTargets.get(this.collector) ?? new Set();
    seenTargets.set(this.collector, seen.add(type));
  }

  #lie(what: string, why: string): LaminaError {
    return new LaminaError(Code.InvalidArgument, `${this.#name(what)}: ${why}`, { subject: this.#name(what) });
  }

  #name(what: string): string {
    return `collector of ${typeName(this.collector.type)}: ${what}`;
  }
}

function nameOf({ namespace, key }: Resource): string {
  return `${namespace}\0${key}`;
}
