/**
 * The commands. Each loads what it does when it is run, so that `lamina --help` reads none of it.
 */

import type { CommandSpec } from './spec.js';
import { CONTENT_COMMANDS } from './tree-content.js';
import { ENGINE_COMMANDS } from './tree-engine.js';
import { GC_COMMANDS } from './tree-gc.js';
import { LEASE_COMMANDS } from './tree-lease.js';
import { STORE_COMMANDS } from './tree-store.js';

const COMPLETION: CommandSpec = {
  words: 'completion',
  summary: 'completion for a shell',
  description: [
    'Prints what lets a shell complete the commands, options and values of lamina. Made from the commands themselves, so it is as new as they are.',
  ],
  args: [{ name: 'SHELL', description: 'bash, zsh or fish', completes: ['bash', 'zsh', 'fish'] }],
  options: [],
  shared: [],
  examples: [
    ['lamina completion bash > /etc/bash_completion.d/lamina', 'for every user of bash'],
    ['lamina completion zsh > ~/.zfunc/_lamina', 'for zsh, with ~/.zfunc in fpath'],
    ['lamina completion fish > ~/.config/fish/completions/lamina.fish', 'for one user of fish'],
  ],
  load: async () => (await import('./completion.js')).runCompletion,
};

const VERSION_COMMAND: CommandSpec = {
  words: 'version',
  summary: 'says the version',
  description: ['Says the version, as --version does.'],
  args: [],
  options: [],
  shared: [],
  examples: [],
  isHidden: true,
  load: async () => (await import('../run/version.js')).runVersion,
};

/** In the order of the help. */
export const COMMANDS: readonly CommandSpec[] = [
  ...GC_COMMANDS,
  ...LEASE_COMMANDS,
  ...CONTENT_COMMANDS,
  ...STORE_COMMANDS,
  ...ENGINE_COMMANDS,
  COMPLETION,
  VERSION_COMMAND,
];
