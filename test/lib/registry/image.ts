/** Images made for tests, and pushing them. */
import { randomBytes } from 'node:crypto';
import { gzipSync } from 'node:zlib';
import { type Descriptor, digestOf, MediaType, type Platform, type Registry } from '../../../src/registry/index.js';

export interface MadeImage {
  readonly manifest: Buffer;
  readonly digest: string;
  readonly blobs: ReadonlyMap<string, Buffer>;
  readonly layers: readonly Descriptor[];
}

function describeBlob(bytes: Buffer, mediaType: string): Descriptor {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}

/** Bytes that a registry takes for a layer; it does not look into it. */
export function randomLayer(size: number): Buffer {
  return randomBytes(size);
}

/** An empty tar archive, compressed: a layer that can be unpacked. */
export function emptyLayer(): { readonly layer: Buffer; readonly diffId: string } {
  const tar = Buffer.alloc(1024);
  return { layer: gzipSync(tar), diffId: digestOf(tar) };
}

export function makeImage(
  layers: readonly Buffer[],
  platform: Platform = { os: 'linux', architecture: 'amd64' },
  diffIds: readonly string[] = layers.map((layer) => digestOf(layer)),
): MadeImage {
  const config = Buffer.from(
    JSON.stringify({ ...platform, config: { Cmd: ['/bin/true'] }, rootfs: { type: 'layers', diff_ids: diffIds } }),
  );
  const descriptors = layers.map((layer) => describeBlob(layer, MediaType.OciLayerGzip));
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MediaType.OciManifest,
      config: describeBlob(config, MediaType.OciConfig),
      layers: descriptors,
    }),
  );
  const blobs = new Map([config, ...layers].map((bytes) => [digestOf(bytes), bytes]));
  return { manifest, digest: digestOf(manifest), blobs, layers: descriptors };
}

/** A source of bytes for a push. */
export function sourceOf(bytes: Buffer): (offset: number, length: number) => AsyncGenerator<Buffer> {
  return async function* (offset, length) {
    for (let at = offset; at < offset + length; at += 65_536) {
      yield bytes.subarray(at, Math.min(at + 65_536, offset + length));
    }
  };
}

/** Pushes all of an image. */
export async function pushImage(registry: Registry, reference: string, image: MadeImage, tag?: string): Promise<void> {
  const repository = registry.repository(reference);
  for (const [digest, bytes] of image.blobs) {
    await repository.pushBlob({ digest, size: bytes.length }, sourceOf(bytes));
  }
  await repository.pushManifest(image.manifest, tag === undefined ? {} : { tag });
}

export async function collect(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const all: Buffer[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}
