/** Which OCI runtime a binary is, and where its command line differs. */
import { basename } from 'node:path';

export type RuntimeKind = 'runc' | 'crun';

export interface RuntimeAbilities {
  /** `events --stats`. */
  readonly hasEvents: boolean;
  /** `restore --no-subreaper`. */
  readonly hasNoSubreaper: boolean;
  /** What `update --resources` takes for "standard input". */
  readonly stdinPath: string;
  /** Where containers are recorded unless `--root` says otherwise, for uid 0. */
  readonly defaultRoot: string;
}

export const RUNTIME_ABILITIES: Readonly<Record<RuntimeKind, RuntimeAbilities>> = {
  runc: { hasEvents: true, hasNoSubreaper: true, stdinPath: '-', defaultRoot: '/run/runc' },
  crun: { hasEvents: false, hasNoSubreaper: false, stdinPath: '/dev/stdin', defaultRoot: '/run/crun' },
};

/**
 * Guesses by the file name; anything that is not called crun is taken to have runc's command line,
 * as youki and wrappers do.
 */
export function runtimeKindOf(binary: string): RuntimeKind {
  return basename(binary).startsWith('crun') ? 'crun' : 'runc';
}
