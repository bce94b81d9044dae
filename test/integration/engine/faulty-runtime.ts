/**
 * An OCI runtime that does at single verbs what a test tells it to, and everything else as runc
 * does; and how a container has to be after that.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as api from '../../../src/api/index.js';
import { FifoReader } from '../../lib/fifo-reader.js';
import { nothingLeft } from '../../lib/leftovers.js';
import { listProcesses } from '../../lib/proc.js';
import { findProgram } from '../../lib/repo.js';
import type { FakeDaemon, ShimHandle } from '../../lib/shim-client.js';
import { killAndDelete, runExec, shutdown, statusOf } from '../../lib/task-steps.js';
import { until } from '../../lib/wait.js';

export type Verb = 'create' | 'start' | 'exec' | 'delete' | 'state';

export class FaultyRuntime {
  readonly dir: string;
  readonly path: string;

  constructor(daemon: FakeDaemon, name = 'runtime') {
    this.dir = join(daemon.dir, name);
    this.path = join(this.dir, 'faulty');
    mkdirSync(this.dir);
    const runc = findProgram('runc') ?? 'runc';
    const script = [
      '#!/bin/bash',
      `dir=${this.dir}`,
      'verb=; for word; do case $word in create|start|exec|delete|state) verb=$word; break ;; esac; done',
      'echo "$verb" >>"$dir/calls"',
      // For the scripts: what runc does, and the value of one of its flags.
      `args=("$@"); real() { ${runc} "\${args[@]}"; }`,
      // biome-ignore lint/suspicious/noTemplateCurlyInString: bash
      'flag() { local n; for n in "${!args[@]}"; do [ "${args[n]}" = "$1" ] && echo "${args[n + 1]}"; done; }',
      `if [ -e "$dir/on-$verb" ]; then . "$dir/on-$verb"; else exec ${runc} "$@"; fi`,
      '',
    ];
    writeFileSync(this.path, script.join('\n'), { mode: 0o755 });
  }

  /** Options of a Create with this runtime. */
  get options(): api.Any {
    return api.packMessage(api.runc.Options, api.runc.Options.fromPartial({ binaryName: this.path }));
  }

  /**
   * From now on it does this at the verb, in bash: `real` is what runc does, `flag --pid-file` the
   * value of a flag, `$dir` a folder. Undefined: as runc.
   */
  on(verb: Verb, script: string | undefined): void {
    const path = join(this.dir, `on-${verb}`);
    if (script === undefined) rmSync(path, { force: true });
    else writeFileSync(path, `${script}\n`);
  }

  /** Verbs it was called with, in order. */
  get calls(): string[] {
    const path = join(this.dir, 'calls');
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  }

  forgetCalls(): void {
    rmSync(join(this.dir, 'calls'), { force: true });
  }

  /** Whether a script has made this file in `$dir`. */
  has(name: string): boolean {
    return existsSync(join(this.dir, name));
  }

  /** What a script has written to this file in `$dir`. */
  read(name: string): string {
    return readFileSync(join(this.dir, name), 'utf8').trim();
  }

  /** Makes a file in `$dir` that a script waits for. */
  touch(name: string): void {
    writeFileSync(join(this.dir, name), '');
  }

  remove(name: string): void {
    rmSync(join(this.dir, name), { recursive: true, force: true });
  }
}

/**
 * The container is as ever: it runs what it is given, ends when it is killed, and then nothing is
 * left of it.
 */
export async function assertWell(daemon: FakeDaemon, shim: ShimHandle): Promise<void> {
  assert.equal(await statusOf(shim), api.Status.RUNNING);
  assert.equal(await runExec(shim, 'after', ['/bin/sh', '-c', 'exit 7']), 7);
  assert.equal(await killAndDelete(shim), 137);
  await end(daemon, shim);
}

/** Ends a shim whose container was deleted. */
export async function end(daemon: FakeDaemon, shim: ShimHandle): Promise<void> {
  await nothingLeft(daemon, shim.id);
  await shutdown(shim);
}

/** The shim's own log has an error about this. */
export async function assertLogged(shim: ShimHandle, text: RegExp): Promise<void> {
  const log = new FifoReader(join(shim.bundle, 'log'));
  let seen = '';
  await until(
    `${text} in the log`,
    () => {
      seen += log.readNow();
      return seen.split('\n').some((line) => line.includes('level=error') && text.test(line));
    },
    { detail: () => seen },
  );
  log.close();
}

/** No runtime, and nothing that one of its scripts has started, is left. */
export function assertNoneLeft(daemon: FakeDaemon): void {
  const left = listProcesses().filter(
    ({ commandLine }) => commandLine.includes(daemon.marker) && commandLine.includes('/faulty'),
  );
  assert.deepEqual(left, []);
}
