import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Box, RunOptions } from './box.js';
import { copyRootfs } from './image.js';
import { type BareSpecOptions, bareSpec } from './spec.js';

/**
 * What `box.run` and its like need for a container whose spec is written by hand
 * (`ctr run --config`).
 * @param name of the files below the daemon's folder, unique per runtime and suite
 */
export function bareRun(
  box: Box,
  name: string,
  options: Omit<BareSpecOptions, 'rootfs' | 'cgroupsPath'>,
): { args: string[]; options: RunOptions } {
  const base = join(box.daemon.dir, 'work', `${name}-${box.runtime.label}`);
  copyRootfs(base);
  const spec = bareSpec({ ...options, rootfs: base, cgroupsPath: `/${box.namespace}/${name}` });
  writeFileSync(`${base}.json`, JSON.stringify(spec));
  return { args: [], options: { flags: ['--config', `${base}.json`], image: null } };
}
