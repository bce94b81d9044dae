/**
 * A container that runs and whose record cannot be read: of what a predecessor engine knew nothing
 * is left but the names of its processes in the keeper. It can be asked for, waited for, killed and
 * deleted; whatever else is asked of it fails and says why.
 */
import { closeSync, existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Code, codeOf, LaminaError } from '../base/index.js';
import { readBundleFile } from '../oci/index.js';
import type { ContainerContext } from './context.js';
import { Fields } from './fields.js';
import type { ExitReport, Hello } from './keeper-messages.js';
import { requireInit } from './process/state.js';
import { type Exit, nowNs, TrackedProcess, UNKNOWN_EXIT_CODE } from './process/tracked.js';
import type { DeletedProcess } from './record.js';
import type { StoredEntries } from './recovery.js';
import * as events from './task-events.js';

/** What the delete verb gets: it gives the runtime 4 s itself. */
const DELETE_MS = 8_000;
const NO_STREAMS = { stdin: '', stdout: '', stderr: '', terminal: false };

export interface LostContainerHost {
  readonly context: ContainerContext;
  readonly hello: Hello;
  /** What is in the keeper: what belongs to this container goes with it. */
  readonly stored: StoredEntries;
  readonly relays: Iterable<string>;
}

export class LostContainer {
  readonly id: string;
  readonly bundle: string;
  readonly init = new TrackedProcess(NO_STREAMS);
  readonly #host: LostContainerHost;
  readonly #why: string;
  readonly #relays: readonly string[];

  /** @param why its record cannot be used */
  constructor(id: string, why: string, host: LostContainerHost) {
    this.id = id;
    this.#why = why;
    this.#host = host;
    const { context, hello, relays } = host;
    // Bundles of a pod lie side by side.
    this.bundle = id === hello.id ? hello.bundle : join(dirname(hello.bundle), id);
    this.#relays = [...relays].filter((name) => name.startsWith(`io/${id}/`));
    const prefix = `p/${id}/`;
    for (const [name, pid] of context.link.children.inheritedProcesses(prefix)) {
      if (name !== prefix) context.exits.expect(name, (report) => this.#execEnded(name.slice(prefix.length), report));
      else this.init.pid = pid;
    }
    context.exits.expect(prefix, (report) => this.#initEnded(report));
  }

  /**
   * To be called when the exits that were reported before are handed out: of an init that is gone
   * by then nothing more comes.
   */
  settle(): void {
    if (this.init.pid !== 0 || this.init.exit !== undefined) return;
    const { pid, exit } = readExitFile(this.bundle);
    this.init.pid = pid;
    this.init.reaped = exit;
    this.init.settle(exit);
  }

  /** What to answer to all that it cannot do. */
  get error(): LaminaError {
    const text = `container ${this.id}: what was recorded of it cannot be read (${this.#why}): it can only be killed and deleted`;
    return new LaminaError(Code.DataLoss, text, { subject: this.id });
  }

  /** @throws LaminaError NotFound when it has ended */
  async kill(signal: number): Promise<void> {
    const { children } = this.#host.context.link;
    if (this.init.reaped === undefined) {
      const held = await children.adopt(this.init.pid, `p/${this.id}/`).catch((error: unknown) => {
        if (codeOf(error) !== Code.NotFound) throw error;
        return undefined;
      });
      if (held !== undefined) {
        try {
          children.signal(held, signal);
          return;
        } finally {
          closeSync(held.pidfd);
        }
      }
    }
    throw new LaminaError(Code.NotFound, 'process already finished: not found');
  }

  /**
   * Removes it as the daemon would without its shim: by the delete verb, whose program the keeper
   * runs.
   */
  async delete(): Promise<DeletedProcess> {
    const { pid, exit } = this.init;
    if (exit === undefined) requireInit('running', 'delete');
    const { context, hello, stored } = this.#host;
    const { link } = context;
    const where = ['-namespace', context.namespace, '-id', this.id, '-address', hello.grpcAddress];
    const verb = await link.children.spawn({
      name: `delete ${this.id}`,
      argv: ['/proc/self/exe', ...where, '-bundle', this.bundle, 'delete'],
      cwd: existsSync(this.bundle) ? this.bundle : '/',
    });
    const timer = setTimeout(() => verb.kill(9), DELETE_MS);
    const { code } = await verb.exited;
    clearTimeout(timer);
    if (code !== 0) throw new LaminaError(Code.Unknown, `delete ${this.id}: exit status ${code}`, { subject: this.id });
    for (const relay of this.#relays) link.dropRelay(relay);
    for (const name of stored.keys()) if (belongsTo(name, this.id)) link.del(name);
    context.publish(events.taskDelete(this.id, pid, exit ?? { code: 0, timeNs: 0n }));
    context.deleted.remember(this.id, { pid, exit });
    return { pid, exit };
  }

  /** Lets go of whoever waits. */
  dispose(): void {
    this.init.dispose();
  }

  #initEnded(report: ExitReport): void {
    const exit: Exit = { code: report.code, timeNs: report.timeNs };
    this.init.pid = report.pid;
    this.init.reaped = exit;
    this.init.settle(exit);
    this.#host.context.publish(events.taskExit(this.id, this.id, report.pid, exit));
  }

  #execEnded(execId: string, report: ExitReport): void {
    const exit: Exit = { code: report.code, timeNs: report.timeNs };
    this.#host.context.publish(events.taskExit(this.id, execId, report.pid, exit));
  }
}

function belongsTo(name: string, id: string): boolean {
  return name === `c/${id}` || name === `m/${id}` || name.startsWith(`io/${id}/`) || name.startsWith(`x/${id}/`);
}

/** What was written down for the delete verb when init ended. */
function readExitFile(bundle: string): { readonly pid: number; readonly exit: Exit } {
  try {
    const path = join(bundle, 'lamina-exit.json');
    const file = Fields.parse(Buffer.from(readBundleFile(path)), path);
    const timeNs = BigInt(file.count('exitedAtSeconds')) * 1_000_000_000n + BigInt(file.count('exitedAtNanos'));
    return { pid: file.count('pid'), exit: { code: file.count('exitStatus'), timeNs } };
  } catch {
    // It never ran, or nobody can know any more.
    return { pid: 0, exit: { code: UNKNOWN_EXIT_CODE, timeNs: nowNs() } };
  }
}
