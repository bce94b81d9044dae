/** `lamina content …` */
import type { CommandSpec } from './spec.js';

const DIGEST = {
  name: 'DIGEST',
  description: 'sha256:HEX, or its beginning where only one blob begins so',
};

export const CONTENT_COMMANDS: readonly CommandSpec[] = [
  {
    words: 'content ls',
    summary: 'list blobs',
    description: ['Lists the blobs of a namespace with their sizes, and the ingests that are under way.'],
    args: [],
    options: [{ flags: '-q, --quiet', description: 'only digests' }],
    shared: ['root', 'namespace', 'json'],
    examples: [['lamina content ls -q | wc -l', 'how many there are']],
    load: async () => (await import('../run/content.js')).runList,
  },
  {
    words: 'content get',
    summary: 'write a blob to standard output',
    description: [
      'Writes the bytes of a blob and nothing else, and checks its digest on the way: exit status 1 if it does not fit.',
    ],
    args: [DIGEST],
    options: [],
    shared: ['root', 'namespace'],
    examples: [['lamina content get 4bc6 | jq .', 'a manifest']],
    load: async () => (await import('../run/content.js')).runGet,
  },
  {
    words: 'content ingest',
    summary: 'take a file in as a blob, and print its digest',
    description: [
      'Reads a file, or standard input for - or nothing, and prints the digest alone. A blob that is there already is not written again. Nothing keeps the new blob but a lease or a label: without --lease or --label it is garbage for the next collection, at the latest a day after its ingest began.',
      'An ingest that was given up is resumed by the same command when --expected or --ref is the same: what is there is compared, and not written again. Else it is collected a day later, or with its lease.',
    ],
    args: [{ name: 'FILE', description: 'a file, or - for standard input', isOptional: true, completes: 'file' }],
    options: [
      { flags: '--lease ID', description: 'name it in this lease, from the first byte on' },
      { flags: '--expected DIGEST', description: 'fail, and keep nothing, if it has another digest' },
      { flags: '--label KEY=VALUE', description: 'a label, such as containerd.io/gc.root=yes', isMany: true },
      { flags: '--ref NAME', description: 'what the ingest is called, to resume it' },
    ],
    shared: ['root', 'namespace', 'json', 'verbose'],
    examples: [
      ['digest=$(lamina content ingest --lease "$lease" layer.tar)', 'keep it with a lease'],
      ['tar c . | lamina content ingest --label containerd.io/gc.root=yes', 'from a pipe, kept until it is removed'],
    ],
    load: async () => (await import('../run/content-ingest.js')).runIngest,
  },
  {
    words: 'content rm',
    summary: 'remove blobs of a namespace',
    description: [
      'Removes blobs whatever keeps them, as containerd does; they stay in the trash for a while. What only they kept is collected at once, within half a second.',
    ],
    args: [{ ...DIGEST, isMany: true }],
    options: [],
    shared: ['root', 'namespace', 'json', 'verbose'],
    examples: [['lamina content rm 4bc6', 'one blob']],
    load: async () => (await import('../run/content.js')).runRemove,
  },
];
