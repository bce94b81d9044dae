/**
 * Pressure triggers (Documentation/accounting/psi.rst): written into a *.pressure file, they raise
 * POLLPRI on that very descriptor.
 */
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import { Code, fsPath, isErrno, LaminaError } from '../../base/index.js';
import { CgroupFileError, isGone, isUnsupported } from '../errors.js';
import type { PressureThreshold } from '../events.js';
import type { CgroupKernel } from '../kernel.js';

const MIN_WINDOW_USEC = 500_000;
const MAX_WINDOW_USEC = 10_000_000;

/** @throws {LaminaError} InvalidArgument for what the kernel refuses */
export function assertThreshold({ stallUsec, windowUsec }: PressureThreshold): void {
  const refuse = (field: string, value: number, expected: string): never => {
    throw new LaminaError(Code.InvalidArgument, `pressure.${field} ${value}: expected ${expected}`, {
      subject: `pressure.${field}`,
    });
  };
  if (!Number.isSafeInteger(windowUsec) || windowUsec < MIN_WINDOW_USEC || windowUsec > MAX_WINDOW_USEC) {
    refuse('windowUsec', windowUsec, `${MIN_WINDOW_USEC} to ${MAX_WINDOW_USEC} µs`);
  }
  if (!Number.isSafeInteger(stallUsec) || stallUsec < 1 || stallUsec > windowUsec) {
    refuse('stallUsec', stallUsec, `1 to the window's ${windowUsec} µs`);
  }
}

/**
 * Calls back whenever a group has stalled for longer than the threshold, at most once per window,
 * until disposed or the group is removed.
 * @throws {LaminaError} Unimplemented without PSI (CONFIG_PSI, "psi=1", Linux 5.2),
 *   PermissionDenied
 */
export function watchPressure(
  dir: string,
  threshold: PressureThreshold,
  kernel: CgroupKernel,
  onStall: () => void,
): Disposable {
  const fd = openTrigger(`${dir}/${threshold.resource}.pressure`, threshold);
  let watch: Disposable | undefined;
  const close = (): void => {
    watch?.[Symbol.dispose]();
    if (watch !== undefined) closeSync(fd);
    watch = undefined;
  };
  try {
    watch = kernel.watchPriority(fd, (isAlive) => {
      if (isAlive) onStall();
      else close();
    });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return { [Symbol.dispose]: close };
}

function openTrigger(path: string, { kind, stallUsec, windowUsec }: PressureThreshold): number {
  const trigger = `${kind} ${stallUsec} ${windowUsec}`;
  let fd = -1;
  try {
    fd = openSync(fsPath(path), constants.O_RDWR | constants.O_NOFOLLOW);
    writeSync(fd, `${trigger}\n`);
    return fd;
  } catch (error) {
    if (fd >= 0) closeSync(fd);
    if (isGone(error) || isUnsupported(error)) {
      throw new LaminaError(Code.Unimplemented, `watch ${path}: this kernel has no pressure information`, {
        subject: path,
        cause: error,
      });
    }
    if (isErrno(error, 'EINVAL') && windowUsec % 2_000_000 !== 0) {
      const hint = 'without CAP_SYS_RESOURCE the window must be a multiple of 2 s';
      throw new LaminaError(Code.InvalidArgument, `write ${path} "${trigger}": refused; ${hint}`, {
        subject: path,
        cause: error,
      });
    }
    throw new CgroupFileError('write', path, error, trigger);
  }
}
