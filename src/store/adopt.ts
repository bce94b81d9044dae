/** Content that has a file and no record: it is checked, and gets one. */
import { createReadStream, readFileSync, renameSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { randomName } from '../base/index.js';
import type { Labels } from '../gc/index.js';
import { hashOf } from './content.js';
import { fileError, type Layout } from './layout.js';
import { parseDigest } from './names.js';

/** The namespace of content whose own namespace is not known. */
export const RECOVERED = 'recovered';
/** Larger ones are no manifests. */
const MANIFEST_BYTES = 4 << 20;

/** True when a file has the digest it is named by. */
export async function isAuthentic(layout: Layout, digest: string): Promise<boolean> {
  const path = layout.blob(digest);
  const hash = hashOf(digest);
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  } catch (error) {
    throw fileError(error, path);
  }
  return hash.digest('hex') === parseDigest(digest).hex;
}

/** Puts a file aside that is not what its name says. @returns where it is now */
export function putAside(layout: Layout, path: string): string {
  const to = join(layout.damaged, `${basename(path)}.${randomName()}`);
  layout.makeFolder(layout.damaged);
  renameSync(path, to);
  return to;
}

/**
 * The labels by which a manifest or index keeps its children, as containerd writes them; none for
 * other content.
 */
export function childLabels(layout: Layout, digest: string): Labels {
  const path = layout.blob(digest);
  if (statSync(path).size > MANIFEST_BYTES) return {};
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw fileError(error, path);
  }
  if (typeof content !== 'object' || content === null) return {};
  const { manifests, config, layers } = content as Record<string, unknown>;
  return Object.fromEntries([
    ...children('m', manifests),
    ...children('l', layers),
    ...children('config', [config]).map(([, value]) => ['containerd.io/gc.ref.content.config', value] as const),
  ]);
}

function children(kind: string, list: unknown): (readonly [label: string, digest: string])[] {
  if (!Array.isArray(list)) return [];
  return list.flatMap((item: unknown, index) => {
    const digest = typeof item === 'object' && item !== null && 'digest' in item ? item.digest : undefined;
    return typeof digest === 'string' ? [[`containerd.io/gc.ref.content.${kind}.${index}`, digest] as const] : [];
  });
}
