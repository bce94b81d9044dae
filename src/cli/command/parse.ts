/** From a command line to what is to be run, by commander. */
import { Command, type CommanderError, Option } from 'commander';
import { VERSION } from '../../base/index.js';
import { UsageError } from '../usage.js';
import { helpOf, usageOf } from './help.js';
import { SHARED_OPTIONS } from './shared-options.js';
import { type CommandSpec, Invocation, nameOf, type OptionSpec, placeholderOf } from './spec.js';

/** What a command line asks for. */
export type Parsed = { readonly text: string } | { readonly invocation: Invocation };

/**
 * @param args without node and script
 * @returns a text to print, or what to run
 * @throws UsageError with how it is used
 */
export function parseCommandLine(specs: readonly CommandSpec[], args: readonly string[]): Parsed {
  if (args[0] === 'help') return { text: helpFor(specs, args.slice(1)) };
  let parsed: Parsed | undefined;
  const program = build(specs, (invocation) => {
    parsed = { invocation };
  });
  try {
    program.parse([...args], { from: 'user' });
  } catch (error) {
    if (error instanceof ShownText) return { text: error.text };
    throw error;
  }
  if (parsed === undefined) throw new Error('commander ran no command');
  return parsed;
}

/** `lamina help gc why` @throws UsageError */
function helpFor(specs: readonly CommandSpec[], words: readonly string[]): string {
  const path = words.join(' ');
  const isKnown = specs.some((spec) => spec.words === path || spec.words.startsWith(`${path} `));
  if (words.length > 0 && !isKnown) throw new UsageError(`unknown command ${path}`, helpOf(specs, []));
  return helpOf(specs, words);
}

/** Thrown out of commander for help and version. */
class ShownText {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

function build(specs: readonly CommandSpec[], found: (invocation: Invocation) => void): Command {
  const program = prepare(new Command('lamina'), specs, []);
  program.option('--version', 'says the version').on('option:version', () => {
    throw new ShownText(`lamina ${VERSION}\n`);
  });
  // Read before and after the command's name: `lamina --json df`, `lamina df --json`.
  for (const option of Object.values(SHARED_OPTIONS)) addOption(program, option);
  for (const spec of specs) {
    const words = spec.words.split(' ');
    let parent = program;
    words.slice(0, -1).forEach((word, at) => {
      const known = parent.commands.find((command) => command.name() === word);
      parent = known ?? prepare(parent.command(word), specs, words.slice(0, at + 1));
    });
    addCommand(parent, spec, specs, found);
  }
  return program;
}

function addCommand(
  parent: Command,
  spec: CommandSpec,
  specs: readonly CommandSpec[],
  found: (invocation: Invocation) => void,
): void {
  const words = spec.words.split(' ');
  const command = prepare(parent.command(words.at(-1) ?? ''), specs, words);
  for (const { name, isOptional, isMany } of spec.args) {
    const text = `${name}${isMany === true ? '...' : ''}`;
    command.argument(isOptional === true ? `[${text}]` : `<${text}>`);
  }
  for (const option of spec.options) addOption(command, option);
  command.action(() => {
    refuseUseless(command, spec);
    const given = command.optsWithGlobals<Record<string, unknown>>();
    const all = [...spec.options, ...Object.values(SHARED_OPTIONS)];
    const values = all.map((option) => [nameOf(option), given[camel(nameOf(option))]] as const);
    found(new Invocation(spec, command.args, Object.fromEntries(values)));
  });
}

/** Shared options that the command does not have. */
function refuseUseless(command: Command, spec: CommandSpec): void {
  for (const [name, option] of Object.entries(SHARED_OPTIONS)) {
    const isGiven = command.getOptionValueSourceWithGlobals(camel(nameOf(option))) === 'cli';
    if (isGiven && !spec.shared.some((shared) => shared === name)) {
      throw new UsageError(`lamina ${spec.words} has no option --${nameOf(option)}`, usageOf(spec));
    }
  }
}

function addOption(command: Command, spec: OptionSpec): void {
  const placeholder = placeholderOf(spec);
  const flags = placeholder === undefined ? spec.flags : spec.flags.replace(` ${placeholder}`, ` <${placeholder}>`);
  const option = new Option(flags);
  if (spec.isMany === true)
    option.argParser((value: string, before: string[] | undefined) => [...(before ?? []), value]);
  command.addOption(option);
}

/** Help and errors of a command, in our form. @param words none for `lamina` itself */
function prepare(command: Command, specs: readonly CommandSpec[], words: readonly string[]): Command {
  const help = (): string => helpOf(specs, words);
  const silent = (): void => undefined;
  return command
    .helpOption('-h, --help')
    .helpCommand(false)
    .configureHelp({ formatHelp: help })
    .configureOutput({
      writeOut: (text) => {
        throw new ShownText(text);
      },
      writeErr: silent,
      outputError: silent,
      // Asking for these would make a stream of standard output, which the help does without.
      getOutHelpWidth: () => 80,
      getErrHelpWidth: () => 80,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .exitOverride((error) => {
      throw asUsageError(error, command, specs, words);
    });
}

function asUsageError(
  error: CommanderError,
  command: Command,
  specs: readonly CommandSpec[],
  words: readonly string[],
): UsageError {
  const spec = specs.find((one) => one.words === words.join(' '));
  const usage = spec === undefined ? helpOf(specs, words) : usageOf(spec);
  return new UsageError(messageOfCommander(error, command, words), usage);
}

function messageOfCommander({ code, message }: CommanderError, command: Command, words: readonly string[]): string {
  const path = words.join(' ');
  // A command that has only others below it, and none was given.
  if (code === 'commander.help')
    return words.length === 0
      ? 'no command'
      : `no command after ${path}: expected ${command.commands.map((one) => one.name()).join(', ')}`;
  const text = message
    .replace(/^error: /, '')
    .replace(/'(-.*?) <(\S+)>'/, "'$1 $2'")
    .replace(/\s+/g, ' ');
  if (code === 'commander.unknownCommand')
    return text.replace(/^unknown command '(.*?)'/, `unknown command ${[...words, '$1'].join(' ')}`);
  if (code === 'commander.excessArguments') {
    const extra = command.args.slice(command.registeredArguments.length);
    return `too many arguments: ${extra.join(' ')}`;
  }
  return text;
}

function camel(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
