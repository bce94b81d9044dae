/**
 * Every way in which bytes go into or out of a process of a container: how it was started, through
 * which stream, when the bytes are there, and how many there are.
 */

/** As a container's init, or as an exec in one that runs. */
export type How = 'run' | 'exec';

/** `typed` and `shown` are the two directions of a terminal. */
export type Stream = 'stdin' | 'stdout' | 'stderr' | 'typed' | 'shown';

/**
 * When the bytes are there. Of what goes in: as a file before the client starts (`file`), in a pipe
 * or a terminal before it starts (`before`), half of them then and half once the process runs
 * (`at`), all once it runs (`after`). Of what comes out: written by the first thing that the
 * process does (`before`), by two programs one after the other (`at`), by a process that runs and
 * was asked for them (`after`).
 */
export type When = 'file' | 'before' | 'at' | 'after';

export interface Case {
  readonly how: How;
  readonly stream: Stream;
  readonly when: When;
  /** Bytes, before a terminal makes two of each line end. */
  readonly size: number;
}

/**
 * Around a message's fields, a terminal's buffer (4 k), a page, a keeper's message and a pipe (64
 * k).
 */
export const SIZES: readonly number[] = [0, 1, 8, 40, 200, 4096, 15_000, 16_384, 40_000, 1_000_000];

export const HOWS: readonly How[] = ['exec', 'run'];
export const STREAMS: readonly Stream[] = ['stdin', 'stdout', 'stderr', 'typed', 'shown'];

/** A pipe takes no more before somebody reads. */
const PIPE_SIZE = 65_536;

function timesOf(stream: Stream): readonly When[] {
  return stream === 'stdin' ? ['file', 'before', 'at', 'after'] : ['before', 'at', 'after'];
}

/** All cases of one start and one stream. */
export function casesOf(how: How, stream: Stream): Case[] {
  return timesOf(stream)
    .flatMap((when) => SIZES.map((size) => ({ how, stream, when, size })))
    .filter(({ when, size }) => !(stream === 'stdin' && when === 'before' && size > PIPE_SIZE));
}

/** Sizes of a short run: those at the earliest time, and those at the others. */
export interface Choice {
  readonly first: readonly number[];
  readonly later: readonly number[];
}

/** The cases of a short run. With LAMINA_TEST_MATRIX=full, all. */
export function chosenCases(how: How, stream: Stream, choice: Choice): Case[] {
  const all = casesOf(how, stream);
  if (process.env['LAMINA_TEST_MATRIX'] === 'full') return all;
  const first = timesOf(stream)[0];
  return all.filter(({ when, size }) => (when === first ? choice.first : choice.later).includes(size));
}

export function nameOf({ how, stream, when, size }: Case): string {
  return `${how} ${stream} ${when} ${size}`;
}
