// The case of a machine that is itself what the guests imitate: most CI services are.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync, rmSync, statfsSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from './debian.mjs';

const CGROUP2_MAGIC = 0x63677270;
const LINK_FOLDER = '/usr/local/bin';

/** What this machine lacks for running the suites directly; empty when nothing. */
export function missingForHost() {
  const missing = [];
  if (process.getuid() !== 0) missing.push('no root');
  if (statfsSync('/sys/fs/cgroup').type !== CGROUP2_MAGIC) missing.push('no cgroup v2 at /sys/fs/cgroup');
  if (!existsSync('/run/systemd/system')) missing.push('no systemd');
  for (const program of ['containerd', 'ctr', 'runc']) if (!findProgram(program)) missing.push(`no ${program}`);
  if (missing.length === 0 && spawnSync('systemctl', ['is-active', '-q', 'containerd']).status !== 0) {
    missing.push('no running containerd.service');
  }
  return missing;
}

/**
 * Runs the command on this machine, with the installed tree linked into containerd's PATH for as long as it takes. Links that
 * exist already are left alone: they are the administrator's.
 */
export async function runOnHost({ repository, command, env, timeoutMs }) {
  const links = linkInstalled(join(repository, 'build/install/bin'));
  try {
    const child = spawn(command[0], command.slice(1), {
      cwd: repository,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, ...env },
      timeout: timeoutMs,
    });
    return await new Promise((resolve, reject) => {
      child.once('error', reject).once('close', (status) => resolve(status ?? 124));
    });
  } finally {
    for (const link of links) rmSync(link, { force: true });
  }
}

function linkInstalled(folder) {
  if (!existsSync(folder)) return [];
  const made = [];
  for (const name of readdirSync(folder)) {
    const link = join(LINK_FOLDER, name);
    const target = join(folder, name);
    try {
      symlinkSync(target, link);
      made.push(link);
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      if (readlinkSync(link) !== target) throw new Error(`${link} exists and is not this build's`, { cause: error });
    }
  }
  return made;
}
