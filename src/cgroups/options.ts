/** How groups are found and created. */
import type { LinuxResources } from '../oci/index.js';
import type { CgroupDriver } from './cgroup.js';
import type { Owner } from './delegate.js';
import type { CgroupLayout } from './detect.js';
import type { WriteSlowly } from './file.js';
import type { CgroupKernel } from './kernel.js';

interface PlaceOptions {
  /**
   * Default: this machine's. `{ mode: 'unified', unified: {…} }` picks the v2 hierarchy of a hybrid
   * host.
   */
  readonly layout?: CgroupLayout;
  /** Default: the native addon, loaded when something has to be watched. */
  readonly kernel?: CgroupKernel;
  /**
   * Does writes that may take long: a lowered memory limit reclaims, however slow the swap is.
   * Default: in a thread of libuv's pool, which others wait for, too.
   */
  readonly writeSlowly?: WriteSlowly;
  /**
   * Who owns the unit or the directory. 'fs' (the default) writes the files; 'systemd' tells
   * systemd as well what changes, so that it does not undo it. v2 only.
   */
  readonly driver?: CgroupDriver;
  /**
   * What to do with `resources.devices`: default 'apply' in groups created here, 'ignore' in
   * adopted ones.
   */
  readonly devices?: 'apply' | 'ignore';
}

export interface LoadOptions extends PlaceOptions {
  /**
   * The limits in force, as far as a later `set` has to know them: what `Cgroup.resources` begins
   * with. Nothing is written.
   */
  readonly resources?: LinuxResources;
}

/** What systemd is to be told when it makes the unit. */
export interface SystemdOptions {
  /** Default: the user's when this is not root, else the system's. */
  readonly bus?: 'system' | 'user';
  /** For every call and every job; default 30 s. */
  readonly timeoutMs?: number;
  /**
   * More unit properties: name → D-Bus signature and value, or GVariant text as in the annotation
   * org.systemd.property.NAME: `{ TimeoutStopSec: '5', CollectMode: "'inactive-or-failed'" }`.
   */
  readonly properties?: Readonly<Record<string, string | { readonly signature: string; readonly value: unknown }>>;
  readonly description?: string;
}

export interface CreateOptions extends PlaceOptions {
  /**
   * 'fs': "/jobs/build-7" from the mount point; a relative path begins where runc has it: beside
   * this process's own group on v2, below it on v1. 'systemd': "slice:prefix:name".
   */
  readonly path: string;
  /** The first limits (OCI linux.resources). */
  readonly resources?: LinuxResources;
  /** Who may manage groups below this one; v2 only. */
  readonly delegate?: Owner;
  /** A process to move in when all limits are set. */
  readonly pid?: number;
  readonly systemd?: SystemdOptions;
}
