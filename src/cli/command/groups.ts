/** Commands that belong together, in the order of the help. */
interface Group {
  /** For the list of groups: no capital, no full stop. */
  readonly summary: string;
  readonly description: readonly string[];
  /** Commands of one word that are listed with it. */
  readonly alone?: readonly string[];
}

export const GROUPS: Readonly<Record<string, Group>> = {
  gc: {
    summary: 'garbage',
    alone: ['df'],
    description: [
      "Garbage is what nothing keeps: no lease, no image, no container, no label of something that is kept. The rules are containerd's.",
    ],
  },
  lease: {
    summary: 'leases',
    description: [
      'A lease keeps what it names, and what that refers to, until it is removed, expires, or its process ends.',
    ],
  },
  content: {
    summary: 'content',
    description: ['Content are blobs, named by their digests. What nothing keeps is removed by the next collection.'],
  },
  store: {
    summary: 'the store',
    description: [
      'The store is the folder that --root names: the metadata, a database, and the files of blobs and snapshots.',
    ],
  },
  engine: {
    summary: 'engines of the shim',
    alone: ['uninstall'],
    description: ['Engines serve the containers of this node. Each container has a keeper, which outlives its engine.'],
  },
};
