/** How a command is used, as `--help` says it. */
import { GROUPS } from './groups.js';
import { SHARED_OPTIONS } from './shared-options.js';
import type { ArgumentSpec, CommandSpec, OptionSpec } from './spec.js';

const WIDTH = 80;
const OTHERS = { summary: 'this command itself' };

/** The help of a command, of a group, or of `lamina` itself. @param words none for that */
export function helpOf(specs: readonly CommandSpec[], words: readonly string[]): string {
  const path = words.join(' ');
  const spec = specs.find((one) => one.words === path);
  return spec === undefined ? groupHelp(specs, path) : commandHelp(spec);
}

/** The line that says how a command is used. */
export function usageOf(spec: CommandSpec): string {
  return `${wrap(`usage: lamina ${synopsis(spec)}`, 0, 14)}\n\nlamina ${spec.words} --help says more.\n`;
}

function groupHelp(specs: readonly CommandSpec[], path: string): string {
  const shown = specs.filter(({ isHidden }) => isHidden !== true);
  if (path !== '') {
    const own = shown.filter(({ words }) => words.startsWith(`${path} `));
    const lines = own.map((spec) => `${wrap(`lamina ${synopsis(spec)}`, 2, 14)}\n      ${spec.summary}`);
    const about = wrapAll(GROUPS[path]?.description ?? []);
    return `usage: lamina ${path} COMMAND\n\n${about}\n${lines.join('\n')}\n\nlamina ${path} COMMAND --help says more.\n`;
  }
  const sections = [...Object.entries(GROUPS), ['', OTHERS] as const].map(([group, { summary }]) => {
    const own = shown.filter((spec) => groupOf(spec) === group);
    const rows = own.map((spec) => [`lamina ${spec.words}`, spec.summary] as const);
    return own.length === 0 ? '' : `${capital(summary)}:\n${columns(rows)}`;
  });
  return `usage: lamina COMMAND [OPTION...]

${sections.filter(Boolean).join('\n')}
Options of most commands, before or after their name:
${columns(Object.values(SHARED_OPTIONS).map(optionRow))}
lamina COMMAND --help says more. Exit status: 0, 1 for a failure, 2 for a wrong
command line.
`;
}

/** The group that a command is listed with. */
function groupOf({ words }: CommandSpec): string {
  const [first = '', second] = words.split(' ');
  if (second !== undefined) return first;
  return Object.keys(GROUPS).find((group) => GROUPS[group]?.alone?.includes(first)) ?? '';
}

function commandHelp(spec: CommandSpec): string {
  const options = [...spec.options, ...spec.shared.map((name) => SHARED_OPTIONS[name])];
  const parts = [
    wrap(`usage: lamina ${synopsis(spec)}`, 0, 14),
    wrapAll(spec.description).trimEnd(),
    section(
      'Arguments',
      spec.args.map(({ name, description }) => [name, description]),
    ),
    section('Options', [...options.map(optionRow), ['-h, --help', 'says this']]),
    section(
      'Environment',
      spec.shared.flatMap((name) => ENVIRONMENT[name] ?? []),
    ),
    spec.examples.length === 0
      ? ''
      : `Examples:\n${spec.examples.map(([line, what]) => `  $ ${line}\n${wrap(what, 6, 6)}`).join('\n')}`,
  ];
  return `${parts.filter(Boolean).join('\n\n')}\n`;
}

const ENVIRONMENT: Readonly<Partial<Record<string, readonly (readonly [string, string])[]>>> = {
  root: [['LAMINA_ROOT', 'what --root is when it is not given']],
  namespace: [['LAMINA_NAMESPACE', 'what --namespace is when it is not given']],
};

function section(title: string, rows: readonly (readonly [string, string])[]): string {
  return rows.length === 0 ? '' : `${title}:\n${columns(rows).trimEnd()}`;
}

function optionRow({ flags, description }: OptionSpec): readonly [string, string] {
  // Long options without a short one line up with those that have one.
  return [flags.startsWith('--') ? `    ${flags}` : flags, description];
}

function synopsis(spec: CommandSpec): string {
  const options = [
    ...spec.options,
    ...spec.shared.filter((name) => name === 'json' || name === 'containerd').map((name) => SHARED_OPTIONS[name]),
  ];
  const shown = options.map(({ flags, isMany }) => `[${flags.replace(/^-\w, /, '')}]${isMany === true ? '...' : ''}`);
  return [spec.words, ...shown, ...spec.args.map(argumentText)].join(' ');
}

function argumentText({ name, isOptional, isMany }: ArgumentSpec): string {
  const text = `${name}${isMany === true ? '...' : ''}`;
  return isOptional === true ? `[${text}]` : text;
}

/** Two columns; the second is wrapped. */
function columns(rows: readonly (readonly [string, string])[]): string {
  const longest = Math.max(...rows.map(([left]) => left.length));
  const at = Math.min(longest, 28) + 4;
  const lines = rows.map(([left, right]) => {
    const text = wrap(right, at, at);
    return left.length + 4 > at ? `  ${left}\n${text}` : `  ${left}${text.slice(left.length + 2)}`;
  });
  return `${lines.join('\n')}\n`;
}

function wrapAll(paragraphs: readonly string[]): string {
  return paragraphs.map((text) => `${wrap(text, 0, 0)}\n`).join('\n');
}

/**
 * A text in lines of 80 characters at most, where its words allow that. What stands in brackets
 * stays together.
 */
function wrap(text: string, first: number, rest: number): string {
  const lines: string[] = [];
  let line = '';
  const limit = (): number => WIDTH - (lines.length === 0 ? first : rest);
  for (const word of text.match(/\[[^\]]*\](?:\.\.\.)?|\S+/g) ?? []) {
    if (line !== '' && line.length + 1 + word.length > limit()) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines.map((one, at) => `${' '.repeat(at === 0 ? first : rest)}${one}`).join('\n');
}

function capital(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
}
