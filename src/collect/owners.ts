/** Watches the processes to which leases are bound, so that a lease ends when its owner does. */
import { isGone, openProcess, type Pidfd, type ProcessIdentity } from '../sys/index.js';

/** So many are held by a descriptor; the others are looked at again and again. */
const MOST_WATCHED = 1_000;

export class OwnerWatch implements Disposable {
  readonly #onEnd: () => void;
  readonly #watched = new Map<string, Pidfd>();
  /** Not held: too many, or of another pid namespace. */
  readonly #others = new Map<string, ProcessIdentity>();

  /** @param onEnd called when an owner has ended */
  constructor(onEnd: () => void) {
    this.#onEnd = onEnd;
  }

  get count(): number {
    return this.#watched.size + this.#others.size;
  }

  /** Watches exactly these processes from now on. */
  watch(owners: Iterable<ProcessIdentity>): void {
    const wanted = new Map([...owners].map((owner) => [nameOf(owner), owner] as const));
    for (const [name, handle] of this.#watched) {
      if (wanted.has(name)) continue;
      handle[Symbol.dispose]();
      this.#watched.delete(name);
    }
    this.#others.clear();
    for (const [name, owner] of wanted) if (!this.#watched.has(name)) this.#begin(name, owner);
  }

  /** Looks at those that are not held by a descriptor. */
  look(): void {
    for (const [name, owner] of this.#others) {
      if (!isGone(owner)) continue;
      this.#others.delete(name);
      this.#onEnd();
    }
  }

  [Symbol.dispose](): void {
    for (const handle of this.#watched.values()) handle[Symbol.dispose]();
    this.#watched.clear();
    this.#others.clear();
  }

  #begin(name: string, owner: ProcessIdentity): void {
    const handle = this.#watched.size < MOST_WATCHED ? openProcess(owner) : undefined;
    if (handle === undefined) {
      // One that has ended is found by the next look.
      this.#others.set(name, owner);
      return;
    }
    this.#watched.set(name, handle);
    handle.exited.then(
      () => {
        this.#watched.delete(name);
        handle[Symbol.dispose]();
        this.#onEnd();
      },
      // It is watched no more.
      () => undefined,
    );
  }
}

function nameOf({ pid, startTime, bootId, pidNamespace = '' }: ProcessIdentity): string {
  return `${pid} ${startTime} ${bootId} ${pidNamespace}`;
}
