/**
 * A process that uses devices as it is told over IPC, for devices.test.ts: it is moved into the
 * group whose policy is tried.
 */
import { execFileSync } from 'node:child_process';
import * as fs from 'node:fs';

export interface Opening {
  readonly path: string;
  /** O_*. */
  readonly flags: number;
}

export type Request =
  | { readonly open: readonly Opening[] }
  | { readonly mknod: { readonly path: string; readonly numbers: readonly [number, number] } }
  /**
   * Opens one path that must always be allowed and one that never must, until told something else.
   */
  | { readonly loop: { readonly allowed: string; readonly denied: string } }
  | { readonly count: true };

export interface Answer {
  /** `ok`, or what was wrong: an errno's name, what mknod printed. */
  readonly outcomes: readonly string[];
  /**
   * Of the loop, since it began: how often both were opened, the one was refused, the other let
   * through.
   */
  readonly rounds: number;
  readonly refused: number;
  readonly slipped: number;
}

const ROUNDS_PER_TURN = 500;
let counts = { rounds: 0, refused: 0, slipped: 0 };
let looping = false;

function tryOpen({ path, flags }: Opening): string {
  try {
    fs.closeSync(fs.openSync(path, flags));
    return 'ok';
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

function tryMknod(path: string, numbers: readonly [number, number]): string {
  try {
    execFileSync('mknod', [path, 'c', ...numbers.map(String)], { stdio: 'pipe' });
    return 'ok';
  } catch (error) {
    return String(error);
  }
}

function loop(allowed: string, denied: string): void {
  if (!looping) return;
  for (let round = 0; round < ROUNDS_PER_TURN; round += 1) {
    counts.rounds += 1;
    if (tryOpen({ path: allowed, flags: fs.constants.O_RDWR }) !== 'ok') counts.refused += 1;
    if (tryOpen({ path: denied, flags: fs.constants.O_RDONLY }) !== 'EPERM') counts.slipped += 1;
  }
  setImmediate(() => loop(allowed, denied));
}

function answer(request: Request): readonly string[] {
  if ('open' in request) return request.open.map(tryOpen);
  if ('mknod' in request) return [tryMknod(request.mknod.path, request.mknod.numbers)];
  if ('loop' in request) {
    looping = true;
    counts = { rounds: 0, refused: 0, slipped: 0 };
    loop(request.loop.allowed, request.loop.denied);
  }
  return [];
}

process.on('message', (request: Request) => {
  const outcomes = answer(request);
  process.send?.({ outcomes, ...counts } satisfies Answer);
});
process.on('disconnect', () => {
  looping = false;
});
