/** Options of several commands. */
import type { OptionSpec, SharedOption } from './spec.js';

export const DEFAULT_ROOT = '/var/lib/lamina';
export const DEFAULT_NAMESPACE = 'default';

export const SHARED_OPTIONS: Readonly<Record<SharedOption, OptionSpec>> = {
  root: { flags: '--root DIR', description: `the store; default: ${DEFAULT_ROOT}`, completes: 'folder' },
  namespace: { flags: '-n, --namespace NAME', description: `the namespace; default: ${DEFAULT_NAMESPACE}` },
  containerd: {
    flags: '--containerd ADDRESS',
    description: 'ask the containerd that listens there, and not the store, such as /run/containerd/containerd.sock',
    completes: 'file',
  },
  json: { flags: '--json', description: 'as JSON, for programs: docs/cli.md has the shapes' },
  verbose: { flags: '--verbose', description: 'also say what was collected' },
};

/** What goes with `--containerd`. */
export const CONTAINERD_TIMEOUT: OptionSpec = {
  flags: '--timeout SECONDS',
  description: 'how long containerd may take for one answer; default: 30',
};
