/**
 * The licences of everything that a build contains and that others wrote: build/lib/THIRD-PARTY-LICENSES, which scripts/install puts into each
 * release. Packages are those of which esbuild took a file; a build with one whose licence is not known fails.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const RULE = '='.repeat(80);
const PACKAGE = /^(?:.*\/)?node_modules\/((?:@[^/]+\/)?[^/]+)\//;
const LICENCE_FILE = /^(licen[cs]e|copying|notice)/i;
const LGPL = '/usr/share/common-licenses/LGPL-2.1';

/** package folder → files of it in the bundle. */
function packagesIn(metafiles) {
  const packages = new Map();
  for (const path of metafiles.flatMap(({ inputs }) => Object.keys(inputs))) {
    const folder = PACKAGE.exec(path)?.[0];
    if (folder !== undefined) packages.set(folder, new Set(packages.get(folder)).add(path));
  }
  return packages;
}

/** What some packages have instead of a licence file: notices at the top of their sources. */
function notices(paths) {
  const found = [...paths].flatMap((path) => {
    const head = /^\s*((?:\/\/.*\n\s*)+|\/\*[\s\S]*?\*\/)/.exec(readFileSync(path, 'utf8'))?.[1] ?? '';
    return /copyright/i.test(head) ? head.trim() : [];
  });
  return [...new Set(found)];
}

function licenceOf(folder, paths, apache) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  // Older packages have an object there.
  const kind = String(license?.type ?? license);
  const files = readdirSync(folder).filter((file) => LICENCE_FILE.test(file));
  const texts = files.map((file) => readFileSync(join(folder, file), 'utf8').trim());
  if (texts.length === 0) {
    texts.push(...notices(paths));
    if (texts.length > 0 && kind.includes('Apache-2.0')) texts.push(apache.trim());
  }
  if (texts.length === 0) throw new Error(`licences: ${name} has none that is known`);
  return `${name} ${version}\n${kind}\n\n${texts.join('\n\n')}`;
}

/** The C library, which is linked into the keeper. */
function libraryNotice() {
  const version = execFileSync('getconf', ['GNU_LIBC_VERSION'], { encoding: 'utf8' }).trim();
  const text = existsSync(LGPL) ? `\n\n${readFileSync(LGPL, 'utf8').trim()}` : '';
  return [
    `GNU C Library (${version}), in containerd-shim-lamina-v2`,
    'LGPL-2.1-or-later',
    '',
    'containerd-shim-lamina-v2 is linked statically with the GNU C Library, https://www.gnu.org/software/libc/.',
    `To link it with another version of that, build native/ of Lamina's own source anew.${text}`,
  ].join('\n');
}

/** Writes the file. @param metafiles of all bundles (esbuild's `metafile`) */
export function writeLicences(metafiles) {
  const apache = readFileSync('LICENSE', 'utf8');
  const packages = packagesIn(metafiles);
  const parts = [...packages.keys()].sort().map((folder) => licenceOf(folder, packages.get(folder), apache));
  const intro =
    "What Lamina's bundles and programs contain of others. LICENSE is Lamina's own, LICENSE-node that of Node.js.";
  const all = [intro, ...parts, libraryNotice()];
  writeFileSync('build/lib/THIRD-PARTY-LICENSES', `${all.join(`\n\n${RULE}\n`)}\n`);
  writeFileSync('build/lib/LICENSE', apache);
}
