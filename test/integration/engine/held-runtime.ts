/**
 * An OCI runtime that can be held at one verb, so that a test has time to do something at that very
 * point.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Containerd } from '../../lib/containerd.js';
import { findProgram } from '../../lib/repo.js';
import { until } from '../../lib/wait.js';

export type Verb = 'create' | 'start' | 'exec' | 'delete';
/** Whether it is held before the real runtime is called, or after that has ended. */
export type Moment = 'before' | 'after';
/**
 * How it looks in the process list. `script`: the interpreter's path, then the script's, as with
 * any wrapper that is a script. `named`: argv[0] is its own path, as with a wrapper that is a
 * program.
 */
export type Look = 'script' | 'named';

const HOLD = 'while [ ! -e "$dir/go" ]; do sleep 0.02; done';

function wrapper(dir: string, look: Look): string {
  const runc = findProgram('runc') ?? 'runc';
  const body = [
    `dir=${dir}`,
    'verb=; for word; do case $word in create|start|exec|delete) verb=$word; break ;; esac; done',
    'echo "$verb" >>"$dir/calls"',
    `if [ "$verb" = "$(cat "$dir/before" 2>/dev/null)" ] && mkdir "$dir/held" 2>/dev/null; then ${HOLD}; fi`,
    `if [ "$verb" = "$(cat "$dir/after" 2>/dev/null)" ] && [ ! -e "$dir/held" ]; then`,
    `  ${runc} "$@"; code=$?; mkdir "$dir/held"; ${HOLD}; exit $code`,
    'fi',
    `exec ${runc} "$@"`,
  ].join('\n');
  if (look === 'script') return `#!/bin/bash\n${body}\n`;
  writeFileSync(join(dir, 'body'), body);
  return `#!/bin/bash\nexec -a "$0" /bin/bash -c "$(cat ${dir}/body)" held "$@"\n`;
}

export class HeldRuntime {
  readonly #dir: string;

  /**
   * Makes it the runtime of the daemon's containers; the configuration is read by the next engine.
   */
  constructor(daemon: Containerd, look: Look) {
    this.#dir = join(daemon.dir, 'work', `runtime-${look}`);
    mkdirSync(this.#dir, { recursive: true });
    const path = join(this.#dir, `held-${look}`);
    writeFileSync(path, wrapper(this.#dir, look), { mode: 0o755 });
    const config = daemon.env['LAMINA_CONFIG'] ?? '';
    const rest = readFileSync(config, 'utf8').replace(/^runtime = .*\n/, '');
    writeFileSync(config, `runtime = "${path}"\n${rest}`);
  }

  /** From now on the first call of this verb is held. */
  hold(verb: Verb, moment: Moment): void {
    for (const name of ['held', 'go', 'calls', 'before', 'after'])
      rmSync(join(this.#dir, name), { recursive: true, force: true });
    writeFileSync(join(this.#dir, moment), `${verb}\n`);
  }

  async waitUntilHeld(): Promise<void> {
    await until('the runtime is held', () => existsSync(join(this.#dir, 'held')));
  }

  /** Verbs it was called with since `hold`. */
  get calls(): string[] {
    const path = join(this.#dir, 'calls');
    return existsSync(path) ? readFileSync(path, 'utf8').split('\n').filter(Boolean) : [];
  }

  release(): void {
    writeFileSync(join(this.#dir, 'go'), '');
  }

  /**
   * Watches for a moment whether it is called again although one call is still under way, then lets
   * that go on. A second call is not wrong by itself (a state query, say): what comes of it tells.
   */
  async releaseSoon(): Promise<void> {
    const before = this.calls.length;
    await until('a further call', () => this.calls.length > before, { deadlineMs: 500 }).catch(() => undefined);
    this.release();
  }
}
