import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout, seen from dist/test/lib. */
export const REPO = fileURLToPath(new URL('../../../', import.meta.url));

/** Where the tests ran: "native" on the host itself, else the name of the VM. */
export const PLACE = process.env['LAMINA_TEST_PLACE'] ?? 'native';

/** True where nothing else runs on the machine, so that anything new is a leak of ours. */
export const ALONE = process.env['LAMINA_TEST_ALONE'] === '1';

/** True where pods may be put into slices and scopes of systemd's. */
export const USE_SYSTEMD = ALONE && existsSync('/run/systemd/system');

/** The folder of the installed shim: LAMINA_BIN, else what `scripts/install build/install` made. */
export const LAMINA_BIN = process.env['LAMINA_BIN'] ?? join(REPO, 'build/install/bin');

/** Finds a program in PATH (and in /usr/sbin, /sbin, where runc may live), or returns undefined. */
export function findProgram(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/sbin', '/usr/bin'];
  return folders
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, name))
    .find((path) => existsSync(path));
}
