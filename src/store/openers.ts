/** Which processes have the metadata open, for what must not be done meanwhile. */
import { readFileSync, statSync } from 'node:fs';
import { Code, LaminaError } from '../base/index.js';

/** SQLite keeps a lock on the file of each open connection. @see proc_locks(5) */
function openers(file: string): number[] {
  const inode = statSync(file, { throwIfNoEntry: false })?.ino;
  if (inode === undefined) return [];
  const pids = readFileSync('/proc/locks', 'latin1')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter((words) => words.includes('POSIX') && words.some((word) => word.endsWith(`:${inode}`)))
    .map((words) => Number(words[words.findIndex((word) => word.endsWith(`:${inode}`)) - 1]));
  return [...new Set(pids)].filter((pid) => pid > 0 && pid !== process.pid);
}

/** @throws LaminaError Unavailable, with the pids, while other processes have the metadata open */
export function needAlone(file: string): void {
  const pids = openers(file);
  if (pids.length === 0) return;
  throw new LaminaError(Code.Unavailable, `${file}: process ${pids.join(', ')} has it open: end it, then try again`, {
    subject: file,
  });
}
