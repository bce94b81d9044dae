/**
 * Checks OCI JSON for what Lamina itself uses; everything else passes unread, and the runtime
 * judges it.
 *
 * Accepted is what Go's decoder accepts for these fields, so that no spec containerd can start is
 * refused here.
 */
import { join } from 'node:path';
import {
  array,
  boolean,
  custom,
  type GenericSchema,
  getDotPath,
  integer,
  looseObject,
  minValue,
  number,
  optional,
  pipe,
  record,
  safeParse,
  string,
} from 'valibot';
import { readBundleFile } from './bundle.js';
import { parseJson, SpecError } from './json.js';
import type { LinuxResources, OciSpec, Process } from './spec.js';

// To valibot a list is an object too.
const plainObject = custom<object>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'expected an object',
);
const text = string('expected a string');
const flag = boolean('expected true or false');
const int = pipe(number('expected an integer'), integer('expected an integer'));
const COUNT_MESSAGE = 'expected a non-negative integer';
const count = pipe(number(COUNT_MESSAGE), integer(COUNT_MESSAGE), minValue(0, COUNT_MESSAGE));
const list = <T extends GenericSchema>(item: T) => array(item, 'expected a list');
const map = <T extends GenericSchema>(value: T) => pipe(plainObject, record(text, value));

function object<T extends Record<string, GenericSchema>>(entries: T) {
  return pipe(plainObject, looseObject(entries, 'is missing'));
}

const throttle = optional(list(object({ major: int, minor: int, rate: count })));

const resourcesSchema = object({
  devices: optional(
    list(
      object({
        allow: optional(flag),
        type: optional(text),
        major: optional(int),
        minor: optional(int),
        access: optional(text),
      }),
    ),
  ),
  memory: optional(
    object({
      limit: optional(int),
      reservation: optional(int),
      swap: optional(int),
      kernel: optional(int),
      kernelTCP: optional(int),
      swappiness: optional(count),
      disableOOMKiller: optional(flag),
      useHierarchy: optional(flag),
      checkBeforeUpdate: optional(flag),
    }),
  ),
  cpu: optional(
    object({
      shares: optional(count),
      quota: optional(int),
      burst: optional(count),
      period: optional(count),
      realtimeRuntime: optional(int),
      realtimePeriod: optional(count),
      cpus: optional(text),
      mems: optional(text),
      idle: optional(int),
    }),
  ),
  pids: optional(object({ limit: optional(int) })),
  blockIO: optional(
    object({
      weight: optional(count),
      leafWeight: optional(count),
      weightDevice: optional(
        list(object({ major: int, minor: int, weight: optional(count), leafWeight: optional(count) })),
      ),
      throttleReadBpsDevice: throttle,
      throttleWriteBpsDevice: throttle,
      throttleReadIOPSDevice: throttle,
      throttleWriteIOPSDevice: throttle,
    }),
  ),
  hugepageLimits: optional(list(object({ pageSize: text, limit: count }))),
  network: optional(
    object({ classID: optional(count), priorities: optional(list(object({ name: text, priority: count }))) }),
  ),
  rdma: optional(map(object({ hcaHandles: optional(count), hcaObjects: optional(count) }))),
  unified: optional(map(text)),
});

const processSchema = object({
  terminal: optional(flag),
  consoleSize: optional(object({ height: count, width: count })),
  user: optional(object({ uid: optional(count), gid: optional(count) })),
  args: optional(list(text)),
  env: optional(list(text)),
  cwd: optional(text),
  selinuxLabel: optional(text),
  oomScoreAdj: optional(int),
});

const specSchema = object({
  ociVersion: optional(text),
  process: optional(processSchema),
  root: optional(object({ path: text, readonly: optional(flag) })),
  hostname: optional(text),
  annotations: optional(map(text)),
  linux: optional(
    object({
      cgroupsPath: optional(text),
      namespaces: optional(list(object({ type: text, path: optional(text) }))),
      resources: optional(resourcesSchema),
      mountLabel: optional(text),
    }),
  ),
});

/**
 * Checks a value; returns it as it came, unknown members included.
 * @param subject where it came from, for messages
 * @param prefix what goes before the field's path
 */
function check<T>(schema: GenericSchema, value: unknown, subject: string, prefix: string): T {
  const result = safeParse(schema, value, { abortEarly: true });
  if (result.success) return value as T;
  const issue = result.issues[0];
  const field = [prefix, getDotPath(issue)].filter(Boolean).join('.');
  const where = subject === prefix ? field : [subject, field].filter(Boolean).join(': ');
  throw new SpecError(`${where}: ${issue.message}`, { subject, field });
}

function decode(json: Uint8Array | string): string {
  return typeof json === 'string' ? json : Buffer.from(json.buffer, json.byteOffset, json.byteLength).toString('utf8');
}

/** Parses the OCI Process of an exec. @throws SpecError `process.args: expected a list` */
export function parseProcess(json: Uint8Array | string): Process {
  return check(processSchema, parseJson(decode(json), 'process'), 'process', 'process');
}

/**
 * Parses the LinuxResources of an update.
 * @throws SpecError `resources.memory.limit: expected an integer`
 */
export function parseResources(json: Uint8Array | string): LinuxResources {
  return check(resourcesSchema, parseJson(decode(json), 'resources'), 'resources', 'resources');
}

/** Parses a config.json. @param subject what errors call it */
export function parseSpec(json: Uint8Array | string, subject = 'config.json'): OciSpec {
  return check(specSchema, parseJson(decode(json), subject), subject, '');
}

/**
 * Reads a bundle's config.json.
 * @throws LaminaError `read /b/config.json: no such file or directory` with its errno's code
 * @throws SpecError `/b/config.json: linux.resources.memory.limit: expected an integer`
 */
export function readSpec(bundle: string): OciSpec {
  const path = join(bundle, 'config.json');
  return parseSpec(readBundleFile(path), path);
}
