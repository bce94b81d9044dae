/**
 * What is done for a container before the runtime is called: its options and files written, its
 * rootfs mounted.
 */
import { isAbsolute, normalize } from 'node:path';
import type { taskV2 } from '../api/index.js';
import { Code, LaminaError, makeFolders, type UndoStack } from '../base/index.js';
import { bundlePaths, readSpec, writeOptions, writeRuntime } from '../oci/index.js';
import { mountAll, unmountRecursive } from '../sys/index.js';
import type { ContainerContext } from './context.js';
import { keeperWork } from './keeper-work.js';
import { decodeOptions, usesSystemdCgroup } from './options.js';
import type { ContainerSettings } from './record.js';
import { joinShimCgroup } from './shim-cgroup.js';

export interface PreparationOptions {
  readonly context: ContainerContext;
  /** Joins the group that the client wants the shim in. */
  readonly keeperPid: number;
  /** Gets what undoes all this. */
  readonly undo: UndoStack;
}

/**
 * @throws LaminaError InvalidArgument for a bundle or options that cannot be used, or what a mount
 *   failed with
 */
export async function prepareContainer(
  request: taskV2.CreateTaskRequest,
  { context, keeperPid, undo }: PreparationOptions,
): Promise<ContainerSettings> {
  const { link, log } = context;
  const { id, bundle } = request;
  const options = await decodeOptions(request.options, context.config);
  // Its files are named by it, and so are some in the keeper: it must mean one place, whoever asks.
  if (!isAbsolute(bundle) || normalize(bundle) !== bundle) {
    throw new LaminaError(Code.InvalidArgument, `bundle ${JSON.stringify(bundle)} is not a plain absolute path`, {
      subject: bundle,
    });
  }
  const paths = bundlePaths(bundle);
  const spec = readSpec(bundle);
  writeOptions(bundle, options);
  writeRuntime(bundle, options.binaryName);
  if (options.shimCgroup !== '') await joinShimCgroup(options.shimCgroup, keeperPid, log);
  if (request.rootfs.length > 0) {
    makeFolders(paths.rootfs, 0o711);
    link.put(`m/${id}`, Buffer.from(paths.rootfs));
    link.flush();
    const work = keeperWork(link.children, id);
    undo.add('unmount the rootfs', () => unmountRecursive(paths.rootfs, { work }));
    await mountAll(request.rootfs, paths.rootfs, { work, helperTimeoutMs: context.config.timeouts.runtimeMs });
  }
  const cgroupsPath = spec.linux?.cgroupsPath;
  const systemdCgroup = usesSystemdCgroup(options, cgroupsPath);
  if (systemdCgroup && !options.systemdCgroup) {
    log.info({ container: id, cgroupsPath }, 'systemd cgroup, by the form of its path');
  }
  const pidNamespace = spec.linux?.namespaces?.find(({ type }) => type === 'pid');
  return {
    id,
    bundle,
    options,
    systemdCgroup,
    sharesPidNamespace: pidNamespace === undefined || (pidNamespace.path ?? '') !== '',
    copyOutput: context.config.io === 'copy' || (spec.process?.selinuxLabel ?? '') !== '',
    hasPoststopHooks: (spec.hooks?.poststop ?? []).length > 0,
    checkpoint: request.checkpoint,
  };
}
