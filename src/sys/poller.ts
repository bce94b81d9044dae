/**
 * Readiness of descriptors, level-triggered: as long as a descriptor is ready and watched, its
 * call-back is called again.
 *
 * INVARIANTS: no call-back of a registration runs after it was disposed, not even when its event
 * was already on the way, and an event of a closed descriptor never reaches whoever watches the
 * same number next. A call-back runs in the async context in which its watch was begun; a failing
 * one does not keep the others from running, and its error becomes an uncaught exception of that
 * context. A registration must be disposed before its descriptor is closed.
 */
import { Code, LaminaError, ownWork } from '../base/index.js';
import type { NativePoller } from './binding.js';
import { binding } from './load-binding.js';

/** Event bits, as in poll(2). ERR and HUP are reported whether asked for or not. */
export const POLLIN = 1;
export const POLLPRI = 2;
export const POLLOUT = 4;
export const POLLERR = 8;
export const POLLHUP = 16;

/** Called with the events that are there now. */
export type ReadyCallback = (events: number) => void;

export interface WatchOptions {
  /** Whether the registration keeps the event loop alive. Default true. */
  readonly ref?: boolean;
}

/** One watched descriptor. */
export interface Registration {
  readonly fd: number;
  /** Watches for other events from now on; 0 pauses: not even ERR and HUP are reported then. */
  setEvents(events: number): void;
  /** Stops watching; idempotent. The descriptor stays open. */
  [Symbol.dispose](): void;
}

interface Watched {
  readonly fd: number;
  readonly callback: ReadyCallback;
  readonly ref: boolean;
  /**
   * The batch that was being delivered when this began: events of that batch are a predecessor's.
   */
  readonly since: number;
  events: number;
  /** Whether epoll will report it: it is one-shot. */
  armed: boolean;
}

export class Poller {
  readonly #native: NativePoller;
  /** fd → its registration, removed by unwatch or close. */
  readonly #watched = new Map<number, Watched>();
  #refs = 0;
  #batch = 0;

  constructor() {
    this.#native = binding().createPoller((ready) => this.#deliver(ready));
  }

  /** How many descriptors are watched. */
  get size(): number {
    return this.#watched.size;
  }

  /**
   * Watches fd.
   * @param events POLLIN, POLLPRI, POLLOUT; 0 starts paused. Pressure triggers lose their events
   *   here: NativeBinding.watchPriority
   * @throws LaminaError AlreadyExists when fd is watched already; EPERM for what epoll cannot watch
   *   (regular files)
   */
  watch(fd: number, events: number, callback: ReadyCallback, options: WatchOptions = {}): Registration {
    if (this.#watched.has(fd)) {
      throw new LaminaError(Code.AlreadyExists, `watch descriptor ${fd}: it is watched already`, {
        subject: String(fd),
      });
    }
    this.#native.add(fd, events);
    const own = ownWork(callback);
    const watched: Watched = { fd, callback: own, ref: options.ref ?? true, since: this.#batch, events, armed: true };
    this.#watched.set(fd, watched);
    if (watched.ref && this.#refs++ === 0) this.#native.ref();
    return {
      fd,
      setEvents: (wanted) => this.#change(watched, wanted),
      [Symbol.dispose]: () => this.#unwatch(watched),
    };
  }

  /** Stops watching everything, for good. */
  close(): void {
    for (const watched of [...this.#watched.values()]) this.#unwatch(watched);
    this.#native.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #change(watched: Watched, events: number): void {
    if (this.#watched.get(watched.fd) !== watched || watched.events === events) return;
    watched.events = events;
    // What fires while it is paused is swallowed, and found again here: arming asks the kernel for
    // the state now.
    if (events !== 0) this.#arm(watched);
  }

  #unwatch(watched: Watched): void {
    if (this.#watched.get(watched.fd) !== watched) return;
    this.#watched.delete(watched.fd);
    this.#native.remove(watched.fd);
    if (watched.ref && --this.#refs === 0) this.#native.unref();
  }

  #arm(watched: Watched): void {
    watched.armed = true;
    this.#native.rearm(watched.fd, watched.events);
  }

  #deliver(ready: readonly number[]): void {
    this.#batch += 1;
    for (let i = 0; i + 1 < ready.length; i += 2) {
      const fd = ready[i] ?? -1;
      const watched = this.#watched.get(fd);
      if (watched === undefined || watched.since === this.#batch) continue;
      watched.armed = false;
      const events = (ready[i + 1] ?? 0) & (watched.events | POLLERR | POLLHUP);
      if (watched.events === 0) continue;
      if (events !== 0) watched.callback(events);
      if (this.#watched.get(fd) === watched && watched.events !== 0 && !watched.armed) this.#arm(watched);
    }
  }
}

let shared: Poller | undefined;

/** The poller everybody in this thread uses who is not given another. */
export function sharedPoller(): Poller {
  shared ??= new Poller();
  return shared;
}
