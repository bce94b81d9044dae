/** `lamina engine …`, `lamina uninstall`. */
import type { CommandSpec } from './spec.js';

export const ENGINE_COMMANDS: readonly CommandSpec[] = [
  {
    words: 'engine status',
    summary: 'the engines that serve the containers of this node',
    description: [
      'Lists the engines, what they serve, the build of each keeper, and the releases that are installed. Exit status 1 if a keeper is not served, or the configuration cannot be used.',
      'Only keepers and engines of one state directory are seen: LAMINA_STATE_DIR, else /run/lamina. Run it as the user that they run as, usually root, in the same namespaces.',
    ],
    args: [],
    options: [{ flags: '--timeout SECONDS', description: 'how long a keeper may take to answer; default: 5' }],
    shared: ['json'],
    examples: [['lamina engine status', 'who serves whom']],
    load: async () => (await import('../engine.js')).runStatus,
  },
  {
    words: 'engine upgrade',
    summary: 'let them hand over to the release that is installed now',
    description: [
      'Starts the installed engine for a trial, then lets the running ones hand over to it, one at first, and waits until every keeper is served again. Containers, their output, and calls under way go on. If the trial fails, nothing is changed.',
      "The engines are found as by lamina engine status. The trial has this command's PATH, LAMINA_NODE and LAMINA_CONFIG; a running engine's LAMINA_CONFIG goes before.",
    ],
    args: [],
    options: [
      {
        flags: '--to RELEASE',
        description: 'make this release (a folder of lib/lamina/releases) the installed one, also to go back',
      },
      {
        flags: '--force',
        description: 'also replace engines that run the installed release, to let them read a changed configuration',
      },
      { flags: '--dry-run', description: 'only the trial' },
      { flags: '--timeout SECONDS', description: 'how long a keeper may take to be served again; default: 30' },
    ],
    shared: [],
    examples: [
      ['lamina engine upgrade --dry-run', 'would the installed release start?'],
      ['lamina engine upgrade', 'after an installation'],
    ],
    load: async () => (await import('../engine.js')).runUpgrade,
  },
  {
    words: 'uninstall',
    summary: 'remove this installation, once no container needs it',
    description: [
      'Removes what scripts/install has written: the files that MANIFEST of each release lists, and the folders it has made, when they are empty. Refuses while a container of this installation runs, and names it: without its engine it could not even be killed. An engine that serves no container is ended. Configuration (/etc/lamina), the state directory and the store stay.',
    ],
    args: [],
    options: [{ flags: '--dry-run', description: 'only say what would be removed' }],
    shared: [],
    examples: [['lamina uninstall --dry-run', 'what there is to remove']],
    load: async () => (await import('../uninstall.js')).runUninstall,
  },
];
