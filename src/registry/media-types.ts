/** Media types of the image specification and of Docker's schema 2. */

export const MediaType = {
  OciIndex: 'application/vnd.oci.image.index.v1+json',
  OciManifest: 'application/vnd.oci.image.manifest.v1+json',
  OciConfig: 'application/vnd.oci.image.config.v1+json',
  OciLayer: 'application/vnd.oci.image.layer.v1.tar',
  OciLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  OciLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  OciEmpty: 'application/vnd.oci.empty.v1+json',
  DockerList: 'application/vnd.docker.distribution.manifest.list.v2+json',
  DockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  DockerConfig: 'application/vnd.docker.container.image.v1+json',
  DockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
} as const;

const SCHEMA1 = 'application/vnd.docker.distribution.manifest.v1';

/** The types asked for: indexes before manifests, as registries convert to what comes first. */
export const MANIFEST_TYPES: readonly string[] = [
  MediaType.OciIndex,
  MediaType.DockerList,
  MediaType.OciManifest,
  MediaType.DockerManifest,
];

/** A media type without parameters, in lower case; empty for anything that is none. */
export function bareMediaType(text: string | undefined): string {
  const bare = (text ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
  return bare.length <= 255 && /^[\w!#$&^.+-]+\/[\w!#$&^.+-]+$/.test(bare) ? bare : '';
}

export function isIndexType(mediaType: string): boolean {
  return mediaType === MediaType.OciIndex || mediaType === MediaType.DockerList;
}

export function isManifestType(mediaType: string): boolean {
  return mediaType === MediaType.OciManifest || mediaType === MediaType.DockerManifest;
}

/** True for the format before 2016, which has no digests of its parts and is not supported. */
export function isSchema1Type(mediaType: string): boolean {
  return mediaType.startsWith(SCHEMA1);
}

/** True for the configuration of an image that can be run, false for other artifacts. */
export function isImageConfigType(mediaType: string): boolean {
  return mediaType === MediaType.OciConfig || mediaType === MediaType.DockerConfig;
}
