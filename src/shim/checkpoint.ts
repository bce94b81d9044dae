/**
 * Checkpoints of a container, taken and restored by the runtime with criu, and where their work
 * files and logs go.
 */
import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { runc } from '../api/index.js';
import { codeOf, LaminaError, messageOf } from '../base/index.js';
import { bundlePaths, type Runc } from '../oci/index.js';
import type { RunRuntime } from './process/launch.js';
import type { ContainerSettings } from './record.js';

function criuWork({ options, bundle }: ContainerSettings): string {
  return join(options.criuWorkPath || bundlePaths(bundle).work, 'criu-work');
}

/** Takes a checkpoint. @param path where to, unless the options say */
export async function checkpoint(
  runtime: Runc,
  settings: ContainerSettings,
  options: runc.CheckpointOptions,
  path: string,
): Promise<void> {
  const defaultWork = criuWork(settings);
  try {
    await runtime.checkpoint(settings.id, {
      imagePath: options.imagePath || path || settings.options.criuImagePath,
      workPath: options.workPath || defaultWork,
      parentPath: options.parentPath,
      tcpEstablished: options.openTcp,
      extUnixSockets: options.externalUnixSockets,
      shellJob: options.terminal,
      fileLocks: options.fileLocks,
      manageCgroupsMode: options.cgroupsMode,
      emptyNamespaces: options.emptyNamespaces,
      leaveRunning: !options.exit,
    });
  } catch (error) {
    throw keepCriuLog(error, options.workPath || defaultWork, settings.bundle);
  } finally {
    if (options.workPath === '') rmSync(defaultWork, { recursive: true, force: true });
  }
}

/** How the runtime brings init back from the checkpoint that the Create named. */
export function restoring(runtime: Runc, settings: ContainerSettings): RunRuntime {
  const { id, bundle, options, checkpoint: imagePath } = settings;
  const { noPivotRoot: noPivot } = options;
  return (io) => runtime.restore(id, { bundle, imagePath, workPath: criuWork(settings), noPivot, ...io });
}

/**
 * A failed checkpoint's log would go with its work directory: it is kept in the bundle, and the
 * error tells where.
 */
function keepCriuLog(error: unknown, workPath: string, bundle: string): unknown {
  const kept = join(bundle, 'criu-dump.log');
  try {
    copyFileSync(join(workPath, 'dump.log'), kept);
  } catch {
    // criu never came to write one.
    return error;
  }
  const [firstLine = ''] = messageOf(error).split('\n');
  return new LaminaError(codeOf(error), `${firstLine} path= ${kept}`, { cause: error });
}
