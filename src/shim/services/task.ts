/**
 * The Task service, versions 2 and 3: decodes a request, calls the container, encodes the answer.
 * No logic of its own. Semantics and texts are those of the stock shim (research: shim.md 2.3 to
 * 2.5).
 */
import {
  type Any,
  fromNs,
  goZeroTime,
  packMessage,
  runc,
  Status,
  type taskV2,
  unpackMessage,
} from '../../api/index.js';
import { Code, LaminaError } from '../../base/index.js';
import type { CallContext, ServiceHandlers } from '../../ttrpc/index.js';
import type { Container } from '../container.js';
import type { LostContainer } from '../lost-container.js';
import { ExecProcess } from '../process/exec.js';
import { type InitState, requireExec, requireInit } from '../process/state.js';
import type { Exit, TrackedProcess } from '../process/tracked.js';
import type { Session } from '../session.js';

type TaskService = ServiceHandlers<typeof taskV2.TaskDefinition>;

const INIT_STATUS: Readonly<Record<InitState, Status>> = {
  created: Status.CREATED,
  restorable: Status.CREATED,
  running: Status.RUNNING,
  pausing: Status.PAUSING,
  paused: Status.PAUSED,
  stopped: Status.STOPPED,
  deleted: Status.STOPPED,
};

const EXEC_STATUS = {
  created: Status.CREATED,
  running: Status.RUNNING,
  stopped: Status.STOPPED,
  deleted: Status.STOPPED,
} as const;

function statusOf(container: Container, process: TrackedProcess): Status {
  const ofInit = INIT_STATUS[container.state];
  if (!(process instanceof ExecProcess)) return ofInit;
  // A paused container pauses its execs too.
  return ofInit === Status.PAUSED || ofInit === Status.PAUSING ? ofInit : EXEC_STATUS[process.state];
}

function exitFields(exit: Exit | undefined): { exitStatus: number; exitedAt: ReturnType<typeof fromNs> } {
  return exit === undefined
    ? { exitStatus: 0, exitedAt: goZeroTime() }
    : { exitStatus: exit.code, exitedAt: fromNs(exit.timeNs) };
}

function stateOfLost({ id, bundle, init }: LostContainer) {
  const status = init.exit === undefined ? Status.RUNNING : Status.STOPPED;
  return { id, bundle, pid: init.pid, status, ...init.stdio, ...exitFields(init.exit), execId: '' };
}

/**
 * Ids become file names and names in the keeper. containerd allows at most 76 letters and digits
 * with single `.`, `_`, `-` between them.
 * @throws LaminaError InvalidArgument
 */
function requireIdentifier(id: string, what: string): void {
  if (/^[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*$/.test(id) && id.length <= 256) return;
  throw new LaminaError(Code.InvalidArgument, `${what} ${JSON.stringify(id)} is not valid`, { subject: id });
}

function required(any: Any | undefined, field: string): Any {
  if (any === undefined) throw new LaminaError(Code.InvalidArgument, `${field} is missing`, { subject: field });
  return any;
}

/**
 * The handlers; the messages of the two versions differ in their package's name only, so they serve
 * both.
 */
export function createTaskService(session: Session) {
  const find = (id: string): Container => session.container(id);
  return {
    async state({ id, execId }, call: CallContext) {
      const lost = execId === '' ? session.findLost(id) : undefined;
      if (lost !== undefined) return stateOfLost(lost);
      const container = find(id);
      const process = container.process(execId);
      if (container.isStarting(process)) await container.startSettled(process);
      const { stdin, stdout, stderr, terminal } = process.stdio;
      call.reusable = session.isSettled(container, process);
      return {
        id: execId === '' ? id : execId,
        bundle: container.settings.bundle,
        pid: process.pid,
        status: statusOf(container, process),
        stdin,
        stdout,
        stderr,
        terminal,
        ...exitFields(process.exit),
        execId: '',
      };
    },

    async create(request) {
      requireIdentifier(request.id, 'container id');
      // A repeat whose work a predecessor engine had done, and not told.
      const known = session.isRepeat ? session.find(request.id) : undefined;
      return { pid: known?.init.pid ?? (await session.create(request)) };
    },

    async start({ id, execId }) {
      const container = find(id);
      if (execId === '') await container.start(session.isRepeat);
      else await container.startExec(execId, session.isRepeat);
      return { pid: container.process(execId).pid };
    },

    async delete({ id, execId }) {
      const { pid, exit } = await session.delete(id, execId);
      return { pid, ...exitFields(exit) };
    },

    async pids({ id }) {
      const processes = await find(id).pids();
      return {
        processes: processes.map(({ pid, execId }) => ({
          pid,
          info: execId === undefined ? undefined : packMessage(runc.ProcessDetails, { execId }),
        })),
      };
    },

    async pause({ id }) {
      await find(id).pause(session.isRepeat);
      return {};
    },

    async resume({ id }) {
      await find(id).resume(session.isRepeat);
      return {};
    },

    async checkpoint({ id, path, options }) {
      const container = find(id);
      const given = options === undefined ? undefined : unpackMessage(runc.CheckpointOptions, options);
      await container.checkpoint(given ?? runc.CheckpointOptions.decode(new Uint8Array()), path);
      return {};
    },

    async kill({ id, execId, signal, all }) {
      const lost = execId === '' ? session.findLost(id) : undefined;
      if (lost !== undefined) await lost.kill(signal);
      else await find(id).kill(execId, signal, all, session.isRepeat);
      return {};
    },

    async exec({ id, execId, terminal, stdin, stdout, stderr, spec }) {
      requireIdentifier(execId, 'exec id');
      const { execs } = find(id);
      if (session.isRepeat && execs.find(execId) !== undefined) return {};
      execs.add(execId, required(spec, 'spec').value, { stdin, stdout, stderr, terminal });
      return {};
    },

    async resizePty({ id, execId, width, height }) {
      const container = find(id);
      const process = container.process(execId);
      // A process that a predecessor engine had told its size may have ended of it.
      if (!session.isRepeat) {
        if (process instanceof ExecProcess) requireExec(process.state, 'resize');
        else requireInit(container.state, 'resize');
      }
      process.io?.resize(width, height);
      return {};
    },

    async closeIO({ id, execId }) {
      await find(id).closeStdin(execId);
      return {};
    },

    async update({ id, resources }) {
      await find(id).update(required(resources, 'resources').value);
      return {};
    },

    async wait({ id, execId }, { signal }: CallContext) {
      const lost = execId === '' ? session.findLost(id) : undefined;
      if (lost !== undefined) return exitFields(await lost.init.wait(signal));
      return exitFields(await find(id).process(execId).wait(signal));
    },

    async stats({ id }) {
      return { stats: find(id).stats() };
    },

    async connect({ id }) {
      return {
        shimPid: session.hello.keeperPid,
        taskPid: (session.find(id) ?? session.findLost(id))?.init.pid ?? 0,
        version: '',
      };
    },

    async shutdown() {
      session.shutdown();
      return {};
    },
  } satisfies TaskService;
}
