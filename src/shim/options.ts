/**
 * A container's runtime options, whatever dialect the client speaks (research: shim.md 4.2 to 4.5):
 * `containerd.runc.v1.Options` (ctr, Go clients), `runtimeoptions.v1.Options` with TOML inside or a
 * path to it (CRI, Docker, `ctr --runtime-config-path`), or nothing.
 */
import { isAbsolute } from 'node:path';
import { type Any, runc, runtimeOptions, typeName, unpackMessage } from '../api/index.js';
import { Code, LaminaError, messageOf } from '../base/index.js';
import { type RuntimeOptions, readBundleFile } from '../oci/index.js';
import { type Config, parseToml } from './config.js';

/**
 * The options in force for one container: every field has a value, empty or 0 where nothing was
 * asked for.
 */
export type EffectiveOptions = Required<Omit<RuntimeOptions, 'taskApiAddress' | 'taskApiVersion'>>;

/** The root the stock shim uses, so that `runc list` finds the containers. */
export const DEFAULT_RUNTIME_ROOT = '/run/containerd/runc';

/**
 * Decodes the options of a Create request.
 * @throws LaminaError InvalidArgument naming the type, file or key that cannot be used
 */
export async function decodeOptions(any: Any | undefined, config: Config): Promise<EffectiveOptions> {
  const defaults: EffectiveOptions = {
    binaryName: config.runtime,
    root: DEFAULT_RUNTIME_ROOT,
    systemdCgroup: false,
    noPivotRoot: false,
    noNewKeyring: false,
    shimCgroup: '',
    ioUid: 0,
    ioGid: 0,
    criuPath: '',
    criuImagePath: '',
    criuWorkPath: '',
  };
  if (any === undefined || any.typeUrl === '') return defaults;
  const runcOptions = unpackMessage(runc.Options, any);
  if (runcOptions !== undefined) return fromRuncOptions(runcOptions, defaults);
  const generic = unpackMessage(runtimeOptions.Options, any);
  if (generic !== undefined) return await fromToml(generic, defaults);
  throw new LaminaError(Code.InvalidArgument, `unsupported options type "${typeName(any)}"`, { subject: any.typeUrl });
}

function fromRuncOptions(given: runc.Options, defaults: EffectiveOptions): EffectiveOptions {
  return {
    binaryName: given.binaryName || defaults.binaryName,
    root: given.root || defaults.root,
    systemdCgroup: given.systemdCgroup,
    noPivotRoot: given.noPivotRoot,
    noNewKeyring: given.noNewKeyring,
    shimCgroup: given.shimCgroup,
    ioUid: given.ioUid,
    ioGid: given.ioGid,
    criuPath: given.criuPath,
    criuImagePath: given.criuImagePath,
    criuWorkPath: given.criuWorkPath,
  };
}

/**
 * TOML keys as CRI users write them, and what they set. The keys of containerd's own table are
 * accepted and mean nothing here.
 */
const TOML_KEYS: Readonly<Record<string, keyof EffectiveOptions | undefined>> = {
  BinaryName: 'binaryName',
  Root: 'root',
  SystemdCgroup: 'systemdCgroup',
  NoPivotRoot: 'noPivotRoot',
  NoNewKeyring: 'noNewKeyring',
  ShimCgroup: 'shimCgroup',
  IoUid: 'ioUid',
  IoGid: 'ioGid',
  CriuPath: 'criuPath',
  CriuImagePath: 'criuImagePath',
  CriuWorkPath: 'criuWorkPath',
  TypeUrl: undefined,
  ConfigPath: undefined,
  TaskApiAddress: undefined,
  TaskApiVersion: undefined,
};

async function fromToml(given: runtimeOptions.Options, defaults: EffectiveOptions): Promise<EffectiveOptions> {
  let text = Buffer.from(given.configBody).toString();
  let source = 'runtime options';
  if (text === '' && given.configPath !== '') {
    source = given.configPath;
    if (!isAbsolute(source)) {
      throw new LaminaError(Code.InvalidArgument, `options file "${source}": not an absolute path`, {
        subject: source,
      });
    }
    text = readOptionsFile(source);
  }
  const table = await parseToml(text, source);
  const options: Record<string, unknown> = { ...defaults };
  for (const [key, value] of Object.entries(table)) {
    if (!Object.hasOwn(TOML_KEYS, key)) {
      throw new LaminaError(Code.InvalidArgument, `${source}: unknown option "${key}"`, { subject: key });
    }
    const field = TOML_KEYS[key];
    if (field === undefined) continue;
    const expected = typeof defaults[field];
    if (typeof value !== expected || (expected === 'number' && !(Number.isInteger(value) && Number(value) >= 0))) {
      throw new LaminaError(
        Code.InvalidArgument,
        `${source}: ${key} is ${JSON.stringify(value)}, expected a ${expected}`,
        {
          subject: key,
        },
      );
    }
    if (value !== '') options[field] = value;
  }
  return options as unknown as EffectiveOptions;
}

function readOptionsFile(path: string): string {
  try {
    return readBundleFile(path);
  } catch (error) {
    throw new LaminaError(Code.InvalidArgument, `options file "${path}": ${messageOf(error)}`, { cause: error });
  }
}

/**
 * Whether the container's cgroup is a systemd scope: asked for, or, for clients that cannot ask
 * (Docker, nerdctl), plain from a cgroupsPath of the form slice:prefix:name.
 */
export function usesSystemdCgroup(options: EffectiveOptions, cgroupsPath: string | undefined): boolean {
  if (options.systemdCgroup) return true;
  return cgroupsPath !== undefined && !cgroupsPath.startsWith('/') && cgroupsPath.split(':').length === 3;
}
