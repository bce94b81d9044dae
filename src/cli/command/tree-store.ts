/** `lamina store …` */
import type { CommandSpec } from './spec.js';

export const STORE_COMMANDS: readonly CommandSpec[] = [
  {
    words: 'store fsck',
    summary: 'check the store, and repair it',
    description: [
      'Checks the database, and whether blobs, ingests and snapshots are where the metadata says. Exit status 1 if something is wrong and was not repaired.',
    ],
    args: [],
    options: [
      { flags: '--repair', description: 'repair what can be repaired, and not only say it' },
      { flags: '--digests', description: 'also read every blob, and compare its digest' },
    ],
    shared: ['root', 'json'],
    examples: [
      ['lamina store fsck', 'what is wrong'],
      ['lamina store fsck --repair', 'and mend it'],
    ],
    load: async () => (await import('../run/store.js')).runCheck,
  },
  {
    words: 'store backup',
    summary: 'copy the metadata while it is in use',
    description: ['Writes one file with the metadata as it is at a moment. Blobs and snapshots are not in it.'],
    args: [{ name: 'FILE', description: 'must not be there yet', completes: 'file' }],
    options: [],
    shared: ['root', 'json'],
    examples: [['lamina store backup /backup/lamina-$(date +%F).db', 'each day']],
    load: async () => (await import('../run/store.js')).runBackup,
  },
  {
    words: 'store rebuild',
    summary: 'make the metadata anew from the files',
    description: [
      'For a database that is lost or broken: what lies in the folders of content and snapshots is entered again. Labels, leases and images cannot be known from files; everything found is a root until it is looked at. The broken database stays beside the new one.',
    ],
    args: [],
    options: [],
    shared: ['root', 'json'],
    examples: [['lamina store rebuild', 'when lamina store fsck --repair has failed']],
    load: async () => (await import('../run/store.js')).runRebuild,
  },
];
