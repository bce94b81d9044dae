/**
 * The runtime options containerd passes with Create (`containerd.runc.v1.Options`), and their copy
 * in the bundle, which the `delete` verb reads: by our shim, and by the Go shim where one takes
 * over the other's container.
 */
import { Code, codeOf } from '../base/index.js';
import { bundlePaths, readBundleFile, writeFileAtomic } from './bundle.js';
import { parseJson, SpecError } from './json.js';

/** Fields as generated from the protobuf message. */
export interface RuntimeOptions {
  readonly noPivotRoot?: boolean;
  readonly noNewKeyring?: boolean;
  readonly shimCgroup?: string;
  readonly ioUid?: number;
  readonly ioGid?: number;
  readonly binaryName?: string;
  /** Before the namespace is appended. */
  readonly root?: string;
  readonly criuPath?: string;
  readonly systemdCgroup?: boolean;
  readonly criuImagePath?: string;
  readonly criuWorkPath?: string;
  readonly taskApiAddress?: string;
  readonly taskApiVersion?: number;
}

type Key = keyof RuntimeOptions;

// Field -> the Go shim's key and the type of its value.
const KEYS: Readonly<Record<Key, readonly [key: string, type: 'boolean' | 'string' | 'number']>> = {
  noPivotRoot: ['no_pivot_root', 'boolean'],
  noNewKeyring: ['no_new_keyring', 'boolean'],
  shimCgroup: ['shim_cgroup', 'string'],
  ioUid: ['io_uid', 'number'],
  ioGid: ['io_gid', 'number'],
  binaryName: ['binary_name', 'string'],
  root: ['root', 'string'],
  criuPath: ['criu_path', 'string'],
  systemdCgroup: ['systemd_cgroup', 'boolean'],
  criuImagePath: ['criu_image_path', 'string'],
  criuWorkPath: ['criu_work_path', 'string'],
  taskApiAddress: ['task_api_address', 'string'],
  taskApiVersion: ['task_api_version', 'number'],
};

/** options.json: the Go shim's keys, zero values left out. */
export function formatOptions(options: RuntimeOptions): string {
  const out: Record<string, unknown> = {};
  for (const [field, [key]] of Object.entries(KEYS) as [Key, readonly [string, string]][]) {
    if (options[field]) out[key] = options[field];
  }
  return JSON.stringify(out);
}

/** Parses options.json; unknown keys are ignored. @throws SpecError naming the key */
export function parseOptions(json: string, subject = 'options.json'): RuntimeOptions {
  const value = parseJson(json, subject);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new SpecError(`${subject}: expected an object`, { subject });
  }
  const source = value as Readonly<Record<string, unknown>>;
  const options: Record<string, unknown> = {};
  for (const [field, [key, type]] of Object.entries(KEYS)) {
    const member = source[key];
    if (member === undefined) continue;
    if (typeof member !== type) throw new SpecError(`${subject}: ${key}: expected a ${type}`, { subject, field: key });
    options[field] = member;
  }
  return options;
}

/** Reads a bundle's options.json; undefined when there is none. */
export function readOptions(bundle: string): RuntimeOptions | undefined {
  const path = bundlePaths(bundle).options;
  const text = readIfThere(path);
  return text === undefined ? undefined : parseOptions(text, path);
}

export function writeOptions(bundle: string, options: RuntimeOptions): void {
  writeFileAtomic(bundlePaths(bundle).options, formatOptions(options));
}

/** The OCI runtime's name a bundle was made with; undefined when none is recorded. */
export function readRuntime(bundle: string): string | undefined {
  return readIfThere(bundlePaths(bundle).runtime)?.trim() || undefined;
}

export function writeRuntime(bundle: string, binary: string): void {
  writeFileAtomic(bundlePaths(bundle).runtime, binary);
}

function readIfThere(path: string): string | undefined {
  try {
    return readBundleFile(path);
  } catch (error) {
    if (codeOf(error) === Code.NotFound) return undefined;
    throw error;
  }
}
