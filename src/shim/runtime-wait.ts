/** Waits for runs of the OCI runtime that a predecessor engine had begun: they are the keeper's children and go on without an engine. */
import { closeSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { isErrno } from '../base/index.js';
import { binding, POLLIN, sharedPoller } from '../sys/index.js';

/** Resolves when no child of the keeper runs `binary` for container `id` any more. */
export async function waitForRuntime(keeperPid: number, binary: string, id: string): Promise<void> {
  for (const pid of childrenOf(keeperPid)) {
    const [program = '', ...args] = commandLine(pid);
    if (basename(program) === basename(binary) && args.includes(id)) await ended(pid);
  }
}

function childrenOf(pid: number): number[] {
  const text = readIfThere(`/proc/${pid}/task/${pid}/children`);
  return text.split(' ').filter(Boolean).map(Number);
}

function commandLine(pid: number): string[] {
  return readIfThere(`/proc/${pid}/cmdline`).split('\0');
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    // The process has ended meanwhile.
    if (isErrno(error, 'ENOENT', 'ESRCH')) return '';
    throw error;
  }
}

function ended(pid: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let pidfd: number;
    try {
      pidfd = binding().pidfdOpen(pid);
    } catch (error) {
      if (isErrno(error, 'ESRCH')) resolve();
      else reject(error);
      return;
    }
    const watch = sharedPoller().watch(pidfd, POLLIN, () => {
      watch[Symbol.dispose]();
      closeSync(pidfd);
      resolve();
    });
  });
}
