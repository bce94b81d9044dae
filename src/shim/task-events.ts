/** The events of a task, each with its topic (research: shim.md 2.6). */
import { type Any, events, fromNs, type Mount, type NamedMessage, packMessage } from '../api/index.js';
import type { StdioRequest } from './io/stdio.js';
import type { Exit } from './process/tracked.js';

export interface TaskEvent {
  readonly topic: string;
  readonly event: Any;
}

export function taskCreate(
  id: string,
  details: {
    readonly bundle: string;
    readonly rootfs: readonly Mount[];
    readonly stdio: StdioRequest;
    readonly checkpoint: string;
    readonly pid: number;
  },
): TaskEvent {
  const { bundle, rootfs, stdio, checkpoint, pid } = details;
  const message: events.TaskCreate = {
    containerId: id,
    bundle,
    rootfs: [...rootfs],
    io: { stdin: stdio.stdin, stdout: stdio.stdout, stderr: stdio.stderr, terminal: stdio.terminal },
    checkpoint,
    pid,
  };
  return event('/tasks/create', events.TaskCreate, message);
}

export function taskStart(id: string, pid: number): TaskEvent {
  return event('/tasks/start', events.TaskStart, { containerId: id, pid });
}

export function taskDelete(id: string, pid: number, exit: Exit): TaskEvent {
  const message = { containerId: id, pid, exitStatus: exit.code, exitedAt: fromNs(exit.timeNs), id: '' };
  return event('/tasks/delete', events.TaskDelete, message);
}

/** @param processId the container's id for init, the exec's id for an exec */
export function taskExit(id: string, processId: string, pid: number, exit: Exit): TaskEvent {
  const message = {
    containerId: id,
    id: processId,
    pid,
    exitStatus: exit.code,
    exitedAt: fromNs(exit.timeNs),
  };
  return event('/tasks/exit', events.TaskExit, message);
}

export function taskOom(id: string): TaskEvent {
  return event('/tasks/oom', events.TaskOOM, { containerId: id });
}

export function taskExecAdded(id: string, execId: string): TaskEvent {
  return event('/tasks/exec-added', events.TaskExecAdded, { containerId: id, execId });
}

export function taskExecStarted(id: string, execId: string, pid: number): TaskEvent {
  return event('/tasks/exec-started', events.TaskExecStarted, { containerId: id, execId, pid });
}

export function taskPaused(id: string): TaskEvent {
  return event('/tasks/paused', events.TaskPaused, { containerId: id });
}

export function taskResumed(id: string): TaskEvent {
  return event('/tasks/resumed', events.TaskResumed, { containerId: id });
}

function event<T>(topic: string, type: NamedMessage<T>, message: T): TaskEvent {
  return { topic, event: packMessage(type, message) };
}
