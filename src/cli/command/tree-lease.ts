/** `lamina lease …` */
import { CONTAINERD_TIMEOUT } from './shared-options.js';
import type { CommandSpec } from './spec.js';
import { KEY } from './tree-gc.js';

export const LEASE_COMMANDS: readonly CommandSpec[] = [
  {
    words: 'lease ls',
    summary: 'list leases',
    description: [
      'Lists the leases of a namespace: what they are bound to, how many things they name, and their labels.',
    ],
    args: [],
    options: [CONTAINERD_TIMEOUT],
    shared: ['root', 'namespace', 'containerd', 'json'],
    examples: [['lamina lease ls', 'of the namespace default']],
    load: async () => (await import('../run/lease.js')).runList,
  },
  {
    words: 'lease create',
    summary: 'make a lease, and print its id',
    description: [
      'Prints the id alone, so that a script can take it. Without --expires and --pid the lease stays until it is removed.',
      'A lease bound to a process ends with that process, also when it is killed or the machine restarts; a later process with the same number does not count. A containerd does not know such leases.',
    ],
    args: [],
    options: [
      { flags: '--id ID', description: 'its id; default: one that is new' },
      { flags: '--expires DURATION', description: 'how long it lasts, such as 1h, 90m or 7d' },
      { flags: '--flat', description: 'keep only what it names, and not what that refers to' },
      { flags: '--label KEY=VALUE', description: 'a label', isMany: true },
      { flags: '--pid PID', description: 'end it with this process' },
      CONTAINERD_TIMEOUT,
    ],
    shared: ['root', 'namespace', 'containerd', 'json'],
    examples: [
      ['lease=$(lamina lease create --expires 1h)', 'for a script that may be killed'],
      ['lease=$(lamina lease create --pid $$)', 'until this shell ends, however it does'],
    ],
    load: async () => (await import('../run/lease.js')).runCreate,
  },
  {
    words: 'lease add',
    summary: 'name a thing in a lease',
    description: [
      'From now on the lease keeps it: content, a snapshot, an image or an ingest. It may come later than its name.',
    ],
    args: [
      { name: 'ID', description: 'of the lease' },
      { ...KEY, isMany: true },
    ],
    options: [CONTAINERD_TIMEOUT],
    shared: ['root', 'namespace', 'containerd', 'json'],
    examples: [['lamina lease add "$lease" image/docker.io/library/nginx:1', 'keep an image and all it needs']],
    load: async () => (await import('../run/lease.js')).runAdd,
  },
  {
    words: 'lease rm',
    summary: 'end leases',
    description: [
      'What only they kept is garbage then. It is collected at once, within half a second, and --verbose says what went; what is left goes with the next collection.',
      'With --containerd it returns when containerd has collected.',
    ],
    args: [{ name: 'ID', description: 'of a lease', isMany: true }],
    options: [CONTAINERD_TIMEOUT],
    shared: ['root', 'namespace', 'containerd', 'json', 'verbose'],
    examples: [['lamina lease rm "$lease" --verbose', 'and say what was collected']],
    load: async () => (await import('../run/lease.js')).runRemove,
  },
];
