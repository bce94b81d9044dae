/**
 * What the collector counts as one thing: a type, a namespace and a key. Numbers and keys are
 * containerd's (core/metadata/gc.go), so that plans and journals of both can be compared.
 */
import { Code, LaminaError } from '../base/index.js';

/**
 * Types of resources. Plug-ins take numbers from `PLUGIN_TYPES_FROM` up to below `RESOURCE_MAX`.
 */
export const ResourceType = {
  Content: 1,
  Snapshot: 2,
  Container: 3,
  Task: 4,
  Image: 5,
  Lease: 6,
  Ingest: 7,
  Stream: 9,
  Mount: 10,
} as const;

/** The first number a plug-in may take. */
export const PLUGIN_TYPES_FROM = 8;
/** The largest number a type can have; the bits above it belong to the marking. */
export const RESOURCE_MAX = 0x1f;
/**
 * Set in the type of content, snapshots and images that a flat lease names: kept without what their
 * labels refer to. Part of the identity while marking, gone afterwards.
 */
export const FLAT = 0x20;

const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(ResourceType).map(([name, type]) => [type, name.toLowerCase()]),
);

/**
 * One thing that can be kept or removed. Keys: a digest for content, `SNAPSHOTTER/NAME` for
 * snapshots, else the name or id.
 */
export interface Resource {
  readonly type: number;
  readonly namespace: string;
  readonly key: string;
}

/** `content`, `snapshot`, …; `type 12` for a plug-in's that gave no name. */
export function typeName(type: number): string {
  return NAMES.get(type & RESOURCE_MAX) ?? `type ${type & RESOURCE_MAX}`;
}

/** `content sha256:… of default`, for messages. */
export function describeResource({ type, namespace, key }: Resource): string {
  return `${typeName(type)} ${key} of ${namespace}`;
}

/** @throws LaminaError InvalidArgument for a number that is taken or out of range */
export function checkPluginType(type: number, taken: ReadonlySet<number>): void {
  const why =
    !Number.isInteger(type) || type < PLUGIN_TYPES_FROM || type >= RESOURCE_MAX
      ? `plug-ins take ${PLUGIN_TYPES_FROM} to ${RESOURCE_MAX - 1}`
      : taken.has(type)
        ? 'another collector has it'
        : undefined;
  if (why !== undefined) throw new LaminaError(Code.InvalidArgument, `resource type ${type}: ${why}`);
}
