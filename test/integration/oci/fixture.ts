import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  buildSpec,
  nodeSpawner,
  Runc,
  type RuncOptions,
  type SpecOption,
  withCgroupsPath,
} from '../../../src/oci/index.js';
import { binding, POLLIN, Poller } from '../../../src/sys/index.js';
import { LATE_MS } from '../../lib/wait.js';

const APPLETS = ['sh', 'sleep', 'echo', 'cat', 'stty', 'true'];
const CGROUP_ROOT = '/sys/fs/cgroup';
const CGROUP = `lamina-test-${process.pid}`;

/**
 * A bundle with a busybox root filesystem and a runc root of its own; `close` checks that nothing
 * is left.
 */
export class OciFixture {
  readonly dir = mkdtempSync(join(tmpdir(), 'lamina-oci-'));
  readonly bundle = join(this.dir, 'bundle');
  readonly root = join(this.dir, 'root');
  readonly log = join(this.bundle, 'log.json');
  readonly poller = new Poller();

  constructor() {
    const rootfs = join(this.bundle, 'rootfs');
    for (const name of ['bin', 'proc', 'sys', 'dev', 'tmp']) mkdirSync(join(rootfs, name), { recursive: true });
    copyFileSync('/bin/busybox', join(rootfs, 'bin/busybox'));
    for (const applet of APPLETS) symlinkSync('busybox', join(rootfs, 'bin', applet));
  }

  runc(options: Partial<RuncOptions> = {}): Runc {
    return new Runc({ spawner: nodeSpawner, root: this.root, log: this.log, timeoutMs: LATE_MS, ...options });
  }

  /** Writes config.json: the default spec in this test's cgroup, and these options. */
  configure(...options: readonly SpecOption[]): void {
    const spec = buildSpec(withCgroupsPath(`/${CGROUP}/c`), ...options);
    writeFileSync(join(this.bundle, 'config.json'), JSON.stringify(spec));
  }

  /** Writes an executable shell script. */
  script(body: string): string {
    const path = join(this.dir, 'runtime.sh');
    writeFileSync(path, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    return path;
  }

  /** Resolves when the process has ended, reaped or not. */
  async ended(pid: number): Promise<void> {
    let pidfd: number;
    try {
      pidfd = binding().pidfdOpen(pid);
    } catch {
      // Reaped already.
      return;
    }
    await new Promise<void>((resolve) => {
      const watch = this.poller.watch(pidfd, POLLIN, () => {
        watch[Symbol.dispose]();
        resolve();
      });
    });
    closeSync(pidfd);
  }

  /** The container's cgroup directories that exist. */
  cgroups(): string[] {
    const hierarchies = [CGROUP_ROOT, ...readdirSync(CGROUP_ROOT).map((name) => join(CGROUP_ROOT, name))];
    return hierarchies.map((dir) => join(dir, CGROUP, 'c')).filter((dir) => existsSync(dir));
  }

  /** Removes everything; returns what a test should not have left. */
  async close(): Promise<string[]> {
    const left: string[] = [];
    for (const { id } of await this.runc({ log: join(this.dir, 'close.json') }).list()) {
      left.push(`container ${id}`);
      await this.runc().delete(id, { force: true });
    }
    left.push(...this.cgroups());
    for (const dir of this.cgroups()) rmdirSync(dir);
    for (const dir of [CGROUP_ROOT, ...readdirSync(CGROUP_ROOT).map((name) => join(CGROUP_ROOT, name))]) {
      if (existsSync(join(dir, CGROUP))) rmdirSync(join(dir, CGROUP));
    }
    this.poller.close();
    rmSync(this.dir, { recursive: true });
    return left;
  }
}
