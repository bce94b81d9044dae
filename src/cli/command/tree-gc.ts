/** `lamina gc …`, `lamina df`. */
import { CONTAINERD_TIMEOUT } from './shared-options.js';
import type { ArgumentSpec, CommandSpec } from './spec.js';

export const KEY: ArgumentSpec = {
  name: 'KEY',
  description:
    'content/DIGEST, image/NAME, snapshot/SNAPSHOTTER/NAME, lease/ID, ingest/REF, container/ID; or a digest alone. Of a digest its beginning is enough, where only one begins so',
};

export const GC_COMMANDS: readonly CommandSpec[] = [
  {
    words: 'gc run',
    summary: 'remove all garbage now',
    description: [
      'Collects: what nothing keeps goes into the trash, where it stays for an hour (less when the disk is short), and lamina gc undo brings it back. All namespaces are looked at.',
      'With --containerd it asks that containerd to collect, by removing a lease of its own, and says what is gone afterwards. containerd has no trash.',
    ],
    args: [],
    options: [CONTAINERD_TIMEOUT],
    shared: ['root', 'containerd', 'json', 'verbose'],
    examples: [['lamina gc run', 'what was removed, by type']],
    load: async () => (await import('../run/gc-run.js')).runCollect,
  },
  {
    words: 'gc plan',
    summary: 'what a collection would remove, and why',
    description: [
      'Shows what nothing keeps, with its bytes and what it lacks, and removes nothing. The plan has an id: lamina gc apply ID removes exactly what was shown, and refuses if something of it has changed.',
    ],
    args: [],
    options: [CONTAINERD_TIMEOUT],
    shared: ['root', 'containerd', 'json'],
    examples: [
      ['lamina gc plan', 'as a table'],
      ['lamina gc plan --containerd /run/containerd/containerd.sock', 'what that containerd would remove'],
    ],
    load: async () => (await import('../run/gc-plan.js')).runPlan,
  },
  {
    words: 'gc apply',
    summary: 'remove what a plan has shown',
    description: [
      'Removes exactly the items of a plan. If one of them is kept now, or is another thing under the same name, nothing is removed, and what has changed is named.',
      'With --containerd the plan is made anew, and when it is still the same one, containerd is asked to collect.',
    ],
    args: [{ name: 'ID', description: 'as lamina gc plan has said it' }],
    options: [CONTAINERD_TIMEOUT],
    shared: ['root', 'containerd', 'json', 'verbose'],
    examples: [['lamina gc apply 3f2a', 'after a look at the plan']],
    load: async () => (await import('../run/gc-plan.js')).runApply,
  },
  {
    words: 'gc why',
    summary: 'why a thing is kept, or what it lacks',
    description: [
      'Prints the way from a root to the thing: each line is kept by the one above it, for the reason that stands beside it. Of garbage it prints what refers to it and is garbage itself, or what has removed it from where it was.',
      'Exit status 1 when there is no such thing.',
    ],
    args: [KEY],
    options: [CONTAINERD_TIMEOUT],
    shared: ['root', 'namespace', 'containerd', 'json'],
    examples: [
      ['lamina gc why image/docker.io/library/nginx:1', 'an image'],
      ['lamina gc why 4bc6', 'the blob whose digest begins with sha256:4bc6'],
      [
        'lamina gc why snapshot/overlayfs/web -n k8s.io --containerd /run/containerd/containerd.sock',
        'a snapshot of containerd',
      ],
    ],
    load: async () => (await import('../run/gc-why.js')).runWhy,
  },
  {
    words: 'gc journal',
    summary: 'what was changed and removed, by whom',
    description: [
      'Lists changes of the store, the newest last: when, by which user, process and command, what, and for a removal the rule and the proof.',
    ],
    args: [],
    options: [
      { flags: '--key KEY', description: 'only of one thing' },
      { flags: '--after NUMBER', description: 'only entries with a higher number' },
      { flags: '--limit COUNT', description: 'at most so many, the newest; default: 100' },
    ],
    shared: ['root', 'namespace', 'json'],
    examples: [['lamina gc journal --key image/docker.io/library/nginx:1', 'where that image has gone']],
    load: async () => (await import('../run/gc-journal.js')).runJournal,
  },
  {
    words: 'gc undo',
    summary: 'bring back what is in the trash',
    description: [
      'Without a number it lists the trash. With numbers, or --since, it puts these things back where they were. What nothing keeps is removed again by the next collection: name it in a lease (--lease), or give it what it lacks.',
    ],
    args: [{ name: 'NUMBER', description: 'of an item in the trash', isOptional: true, isMany: true }],
    options: [
      { flags: '--since DURATION', description: 'all that was removed in the last so long, such as 10m' },
      { flags: '--lease ID', description: 'name what comes back in this lease' },
    ],
    shared: ['root', 'json'],
    examples: [
      ['lamina gc undo', 'what could come back'],
      ['lamina gc undo --since 10m', 'all of the last ten minutes'],
    ],
    load: async () => (await import('../run/gc-undo.js')).runUndo,
  },
  {
    words: 'gc empty',
    summary: 'free the bytes of the trash now',
    description: ['Removes what is in the trash for good, and says how many bytes that freed.'],
    args: [],
    options: [{ flags: '--older-than DURATION', description: 'only what was removed longer ago; default: all' }],
    shared: ['root', 'json'],
    examples: [['lamina gc empty --older-than 10m', 'all but the last ten minutes']],
    load: async () => (await import('../run/gc-undo.js')).runEmpty,
  },
  {
    words: 'df',
    summary: 'bytes, by what keeps them',
    description: [
      'For each lease, image and container: bytes that it alone keeps, and bytes that others keep too. Then what nothing keeps (lamina gc run frees it), and the trash (lamina gc empty frees it).',
    ],
    args: [],
    options: [CONTAINERD_TIMEOUT],
    shared: ['root', 'containerd', 'json'],
    examples: [['lamina df', 'of the store']],
    load: async () => (await import('../run/df.js')).runDf,
  },
];
