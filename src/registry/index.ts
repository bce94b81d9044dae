/**
 * Registries of container images: the OCI distribution specification 1.1 and Docker's version 2.
 */
export type { BlobOptions } from './blob.js';
export { type Challenge, parseChallenges } from './challenge.js';
export { anonymous, type CredentialSource, type Credentials, credentialsFor } from './credentials.js';
export { type Digest, digestOf, hashFor, isDigest } from './digest.js';
export { type DockerConfigOptions, dockerCredentials } from './docker-config.js';
export { type ErrorKind, RegistryError } from './errors.js';
export { candidates, type Fetched, type FetchedImage, type Target } from './fetching.js';
export { DEFAULT_HOSTS_DIR } from './hosts.js';
export { DEFAULT_LIMITS, DEFAULT_RETRY, type Limits, type RetryPolicy } from './limits.js';
export type { ReferrerOptions, TagOptions } from './lists.js';
export { type Descriptor, type Index, type Manifest, parseDescriptor, parseManifest } from './manifest.js';
export {
  isImageConfigType,
  isIndexType,
  isManifestType,
  MediaType,
} from './media-types.js';
export type { AttemptReport, Observer, Operation, OperationReport } from './observer.js';
export {
  formatPlatform,
  hostPlatform,
  normalisePlatform,
  type Platform,
  parsePlatform,
  platformRank,
} from './platform.js';
export type { PushManifestOptions } from './push-manifest.js';
export {
  familiarReference,
  formatReference,
  parseReference,
  type Reference,
  repositoryName,
} from './reference.js';
export { Registry, type RegistryOptions } from './registry.js';
export type { CallOptions, Repository } from './repository.js';
export type { BlobSource, PushOptions, PushResult } from './upload.js';
