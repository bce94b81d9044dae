import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { MAX_SOCKET_PATH_BYTES } from '../oci/index.js';
import type { Hello } from './keeper-messages.js';

/**
 * Where the runtime is to send a process's terminal: in the state directory, which is root's alone,
 * under a name that a successor engine finds again if this one dies before it has told anybody.
 * Undefined where that is no place for a socket: it then gets a folder of its own.
 */
export function consoleSocketPath({ stateDir, socket }: Hello, processName: string): string | undefined {
  const name = createHash('sha256').update(`${socket}\0${processName}`).digest('hex').slice(0, 16);
  const path = join(stateDir, `pty-${name}.sock`);
  return existsSync(stateDir) && Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES ? path : undefined;
}
