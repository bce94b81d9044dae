/** `lamina completion`: shell functions made from the commands. */
import { Code, LaminaError } from '../../base/index.js';
import { bashCompletion } from './completion-bash.js';
import { fishCompletion } from './completion-fish.js';
import type { Node } from './completion-node.js';
import { zshCompletion } from './completion-zsh.js';
import { GROUPS } from './groups.js';
import { SHARED_OPTIONS } from './shared-options.js';
import type { CommandSpec, Invocation } from './spec.js';

/** Every point at which something can be completed, `lamina` itself first. */
export function completionNodes(specs: readonly CommandSpec[]): Node[] {
  const shown = specs.filter(({ isHidden }) => isHidden !== true);
  const help: readonly [string, string] = ['help', 'how a command is used'];
  const first = new Map(
    shown.map(({ words, summary }) => {
      const [word = ''] = words.split(' ');
      return [word, word === words ? summary : (GROUPS[word]?.summary ?? '')] as const;
    }),
  );
  const root: Node = {
    path: '',
    words: [...first, help],
    options: Object.values(SHARED_OPTIONS),
    completes: undefined,
  };
  const inner = [
    ...new Set(shown.filter(({ words }) => words.includes(' ')).map(({ words }) => words.split(' ')[0] ?? '')),
  ];
  const groupNodes = inner.map((group): Node => {
    const own = shown.filter(({ words }) => words.startsWith(`${group} `));
    const words = own.map(({ words, summary }) => [words.slice(group.length + 1), summary] as const);
    return { path: group, words, options: [], completes: undefined };
  });
  const leaves = shown.map((spec): Node => {
    const options = [...spec.options, ...spec.shared.map((name) => SHARED_OPTIONS[name])];
    return { path: spec.words, words: [], options, completes: spec.args[0]?.completes };
  });
  const helpNode: Node = { path: 'help', words: [...first], options: [], completes: undefined };
  return [root, ...groupNodes, ...leaves, helpNode];
}

/** @throws LaminaError InvalidArgument for another shell */
export function runCompletion(invocation: Invocation, specs: readonly CommandSpec[]): undefined {
  const shell = invocation.arg(0) ?? '';
  const makers: Readonly<Record<string, (nodes: readonly Node[]) => string>> = {
    bash: bashCompletion,
    zsh: zshCompletion,
    fish: fishCompletion,
  };
  const make = Object.hasOwn(makers, shell) ? makers[shell] : undefined;
  if (make === undefined) {
    throw new LaminaError(
      Code.InvalidArgument,
      `completion for ${shell}: there is one for ${Object.keys(makers).join(', ')}`,
    );
  }
  process.stdout.write(make(completionNodes(specs)));
}
