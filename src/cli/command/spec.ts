/** What a command is made of. Parsing, help and completion all come from this. */

export interface OptionSpec {
  /** `-n, --namespace NAME` */
  readonly flags: string;
  readonly description: string;
  /** May be given several times. */
  readonly isMany?: boolean;
  readonly completes?: Completes;
}

export interface ArgumentSpec {
  /** In capitals, as in the help. */
  readonly name: string;
  readonly description: string;
  readonly isOptional?: boolean;
  /** Only the last one. */
  readonly isMany?: boolean;
  readonly completes?: Completes;
}

/** What a shell offers for a value. */
export type Completes = 'file' | 'folder' | readonly string[];

/** An option of several commands, by its name in `SHARED_OPTIONS`. */
export type SharedOption = 'root' | 'namespace' | 'containerd' | 'json' | 'verbose';

/**
 * What is run, given the command line and all commands there are. Gives the exit status; nothing
 * means 0.
 */
export type Run = (
  invocation: Invocation,
  specs: readonly CommandSpec[],
) => Promise<number | undefined> | number | undefined;

export interface CommandSpec {
  /** `gc why` */
  readonly words: string;
  /** For the list of commands: no capital, no full stop. */
  readonly summary: string;
  /** Paragraphs of plain text, wrapped when shown. */
  readonly description: readonly string[];
  readonly args: readonly ArgumentSpec[];
  readonly options: readonly OptionSpec[];
  readonly shared: readonly SharedOption[];
  /** Command lines, and what each does. */
  readonly examples: readonly (readonly [command: string, what: string])[];
  /** Loads the module that does it: no command pays for the others. */
  readonly load: () => Promise<Run>;
  readonly isHidden?: boolean;
}

/** The name of an option in an invocation: `dry-run` of `--dry-run`. */
export function nameOf({ flags }: OptionSpec): string {
  return /--([a-z-]+)/.exec(flags)?.[1] ?? flags;
}

/** `NAME` of `-n, --namespace NAME`; undefined for one without a value. */
export function placeholderOf({ flags }: OptionSpec): string | undefined {
  return /--[a-z-]+ (\S+)$/.exec(flags)?.[1];
}

/** A command line that was read. */
export class Invocation {
  readonly spec: CommandSpec;
  readonly args: readonly string[];
  readonly #values: Readonly<Record<string, unknown>>;

  /** @param values name of an option → what was given */
  constructor(spec: CommandSpec, args: readonly string[], values: Readonly<Record<string, unknown>>) {
    this.spec = spec;
    this.args = args;
    this.#values = values;
  }

  /** The argument at a position; undefined when it was left out. */
  arg(at: number): string | undefined {
    return this.args[at];
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.#values[name];
    return typeof value === 'string' ? value : undefined;
  }

  /** All that were given of an option that may be given several times. */
  list(name: string): readonly string[] {
    const value = this.#values[name];
    return Array.isArray(value) ? value.map(String) : [];
  }
}
