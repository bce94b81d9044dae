/** An OCI runtime that does at single verbs what a test tells it to, and everything else as runc does. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as api from '../../../src/api/index.js';
import { findProgram } from '../../lib/repo.js';
import type { FakeDaemon } from '../../lib/shim-client.js';

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
   * From now on it does this at the verb, in bash: `real` is what runc does, `flag --pid-file` the value of a flag, `$dir` a folder.
   * Undefined: as runc.
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
