import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { CgroupKernel, CgroupLayout } from '../../../src/cgroups/index.js';

/**
 * A directory that stands for a cgroup hierarchy: plain files that a test writes. Removed when
 * disposed.
 */
export class FakeHierarchy implements Disposable {
  readonly root = fs.mkdtempSync(join(tmpdir(), 'lamina-cgroups-'));

  /** Writes files, `{ 'group/file': content }`; a number stands for a line with that number. */
  write(files: Readonly<Record<string, string | number>>): void {
    for (const [name, content] of Object.entries(files)) {
      fs.mkdirSync(dirname(join(this.root, name)), { recursive: true });
      fs.writeFileSync(join(this.root, name), typeof content === 'number' ? `${content}\n` : content);
    }
  }

  read(name: string): string {
    return fs.readFileSync(join(this.root, name), 'utf8');
  }

  remove(name: string): void {
    fs.rmSync(join(this.root, name), { recursive: true });
  }

  /** As the unified hierarchy. */
  get unified(): CgroupLayout {
    return { mode: 'unified', unified: { mountPoint: this.root, root: '/' } };
  }

  /** With one v1 hierarchy per controller, in a directory of its name. */
  legacy(...controllers: string[]): CgroupLayout {
    const mounts = controllers.map((name) => [name, { mountPoint: join(this.root, name), root: '/' }] as const);
    return { mode: 'legacy', controllers: new Map(mounts) };
  }

  [Symbol.dispose](): void {
    fs.rmSync(this.root, { recursive: true });
  }
}

/** A kernel whose notifications a test sends. */
export class FakeKernel implements CgroupKernel {
  /** Instances of inotify and eventfds that are watched now. */
  readonly open = new Map<number, () => void>();
  // Path → watch descriptor, removed by inotifyRemove.
  readonly watched = new Map<string, number>();
  /** Records of the kernel log that were not read yet; 'lost' where some were overwritten. */
  log: string[] | undefined;
  openLogs = 0;
  #events: { wd: number; mask: number; name: string }[] = [];
  #lastWd = 0;

  inotifyInit(): number {
    return fs.openSync('/dev/null', 'r');
  }

  inotifyAdd(_fd: number, path: string): number {
    fs.accessSync(path);
    const wd = this.watched.get(path) ?? ++this.#lastWd;
    this.watched.set(path, wd);
    return wd;
  }

  inotifyRemove(_fd: number, wd: number): void {
    for (const [path, each] of this.watched) if (each === wd) this.watched.delete(path);
  }

  inotifyRead(): { wd: number; mask: number; name: string }[] {
    return this.#events.splice(0);
  }

  eventfd(): number {
    return fs.openSync('/dev/null', 'r');
  }

  readEventfd(): bigint {
    return 1n;
  }

  /** Like a log that may not be read unless `log` is set. */
  openLog(): number | undefined {
    if (this.log === undefined) throw Object.assign(new Error('EPERM'), { code: 'EPERM', errno: -1, syscall: 'open' });
    this.openLogs += 1;
    return 0;
  }

  readLog(): string | undefined {
    const record = this.log?.shift();
    if (record === 'lost') throw Object.assign(new Error('EPIPE'), { code: 'EPIPE', errno: -32, syscall: 'read' });
    return record;
  }

  closeLog(): void {
    this.openLogs -= 1;
  }

  watchReadable(fd: number, onReadable: () => void): Disposable {
    this.open.set(fd, onReadable);
    return { [Symbol.dispose]: () => void this.open.delete(fd) };
  }

  /** What is watched for pressure: descriptor → call-back. */
  readonly priority = new Map<number, (isAlive: boolean) => void>();

  watchPriority(fd: number, onEvent: (isAlive: boolean) => void): Disposable {
    this.priority.set(fd, onEvent);
    return { [Symbol.dispose]: () => void this.priority.delete(fd) };
  }

  /** Notifies of a change of these files, all at once. */
  notify(paths: readonly string[], mask = 2): void {
    for (const path of paths) this.#events.push({ wd: this.watched.get(path) ?? -1, mask, name: '' });
    this.fire();
  }

  /** Makes every watched descriptor readable. */
  fire(): void {
    for (const onReadable of [...this.open.values()]) onReadable();
  }
}

/** How many descriptors this process has open. */
export function countFds(): number {
  return fs.readdirSync('/proc/self/fd').length;
}
