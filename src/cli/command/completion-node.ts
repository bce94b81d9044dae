/** What can be completed, where. */
import type { Completes, OptionSpec } from './spec.js';

/** What can follow some words of a command line. */
export interface Node {
  /** `gc why`; empty for `lamina` itself. */
  readonly path: string;
  /** The next words, with what they are. */
  readonly words: readonly (readonly [word: string, summary: string])[];
  readonly options: readonly OptionSpec[];
  /** Of the first argument, and of those after it. */
  readonly completes: Completes | undefined;
}

/** The names of an option as they are typed. */
export function spellings({ flags }: OptionSpec): string[] {
  return flags.match(/(?<=^|, )--?[a-z-]+/g) ?? [];
}

/** `file`, `folder`, the words there are, or nothing. */
export function kindOf(completes: Completes | undefined): string {
  return typeof completes === 'object' ? completes.join(' ') : (completes ?? '');
}
