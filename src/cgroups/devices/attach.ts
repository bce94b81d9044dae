/**
 * Puts a device policy in force on a cgroup2 group, in place of whatever was attached to it.
 *
 * All programs of a group and of its ancestors must allow an access, so while two are attached the
 * stricter answer counts; there is never a moment with none. Programs that came from others (runc,
 * systemd) are replaced too: what is attached to a group of ours is its policy and nothing else.
 *
 * systemd leaves our program alone, but attaches its own beside it at every daemon-reload and every
 * change of any property of the unit (seen with 262), if the unit has DeviceAllow or a DevicePolicy
 * other than auto: those must not allow less than the policy does.
 */
import { codeOf, LaminaError, messageOf } from '../../base/index.js';
import { inUserNamespace } from '../../sys/index.js';
import type { DevicePolicy } from './policy.js';
import { compileDeviceProgram } from './program.js';
import { AttachFlag, DeviceProgramError, GroupPrograms } from './programs.js';

/**
 * A device policy that was put in force. Dispose it once `undo` will not be needed: the programs
 * replaced are held until then.
 */
export interface AppliedDevicePolicy extends Disposable {
  /** False when the kernel refused and that does not matter: see `attachDevicePolicy`. */
  readonly enforced: boolean;
  /**
   * Puts in force again what was before, as gaplessly, and disposes. Does nothing the second time,
   * or after disposal.
   * @throws {DeviceProgramError}
   */
  undo(): void;
}

interface Exchange {
  readonly flags: number;
  readonly from: readonly number[];
  readonly to: readonly number[];
}

/** Puts back what a half-done exchange has changed, and throws its error. */
function revert(error: unknown, steps: readonly (() => void)[]): never {
  try {
    for (const step of steps) step();
  } catch (failure) {
    const message = `${messageOf(error)}; not restored: ${messageOf(failure)}`;
    throw new LaminaError(codeOf(error), message, { cause: error });
  }
  throw error;
}

/**
 * Goes from one set of attached programs to another, or stays as it was and throws.
 * @returns those of `from` that were attached
 */
function exchange(group: GroupPrograms, { flags, from, to }: Exchange): readonly number[] {
  const [first] = from;
  const [next] = to;
  if (first !== undefined && next !== undefined && from.length === 1 && to.length === 1) {
    if ((flags & AttachFlag.AllowMulti) === 0) {
      // Where only one program is allowed, the next takes its place by itself.
      group.attach(next, flags);
      return from;
    }
    if (group.replace(next, first)) return from;
  }
  const attached: number[] = [];
  const detached: number[] = [];
  try {
    for (const program of to) {
      group.attach(program, flags);
      attached.push(program);
    }
    for (const program of from) if (group.detach(program)) detached.push(program);
    return detached;
  } catch (error) {
    return revert(error, [
      ...detached.map((program) => () => group.attach(program, flags)),
      ...attached.map((program) => () => void group.detach(program)),
    ]);
  }
}

/** ENOENT, from anything but a detach: the group was removed, and its programs with it. */
function isGroupGone(error: unknown): boolean {
  return error instanceof DeviceProgramError && error.errno === 'ENOENT';
}

function attachProgram(group: GroupPrograms, program: Uint8Array): AppliedDevicePolicy {
  const loaded = group.load(program);
  const { flags, programs } = group.attached();
  const before = exchange(group, { flags, from: programs, to: [loaded] });
  let pending = true;
  const dispose = (): void => {
    pending = false;
    group.close();
  };
  return {
    enforced: true,
    undo: () => {
      if (!pending) return;
      try {
        exchange(group, { flags, from: [loaded], to: before });
      } catch (error) {
        if (!isGroupGone(error)) throw error;
      } finally {
        dispose();
      }
    },
    [Symbol.dispose]: dispose,
  };
}

const NOT_ENFORCED: AppliedDevicePolicy = { enforced: false, undo: () => undefined, [Symbol.dispose]: () => undefined };

/**
 * In a user namespace bpf(2) is refused, but no device node can be made there either. A policy
 * without limits needs no program.
 */
function isDispensable(policy: DevicePolicy): boolean {
  return (policy.allowByDefault && policy.exceptions.length === 0) || inUserNamespace();
}

/**
 * Attaches the policy's program to the group's directory (cgroup2, Linux 4.15) and detaches every
 * other of that group.
 *
 * What the kernel refuses (bpf(2) needs CAP_BPF and CAP_NET_ADMIN, before 5.8 CAP_SYS_ADMIN) is
 * passed over, with `enforced` false, inside a user namespace and for a policy that allows
 * everything. A program that a link holds (BPF_LINK_CREATE) stays in force beside the new one.
 *
 * @throws {DeviceProgramError} with what was being done, the directory, the errno and the
 *   verifier's log; the group is as before then
 * @throws {CgroupFileError} when the directory cannot be opened
 */
export function attachDevicePolicy(dir: string, policy: DevicePolicy): AppliedDevicePolicy {
  const group = new GroupPrograms(dir);
  try {
    return attachProgram(group, compileDeviceProgram(policy));
  } catch (error) {
    group.close();
    const isRefusal = error instanceof DeviceProgramError && error.errno !== '' && !isGroupGone(error);
    if (isRefusal && isDispensable(policy)) return NOT_ENFORCED;
    throw error;
  }
}
